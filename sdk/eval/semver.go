package eval

import (
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// version is a literal operator and target of sem_ver, parsed.
type version struct {
	operator string
	target   string // as canonicalVersion writes it
}

// semVer runs sem_ver: null unless there are exactly a version, an operator and a
// version.
func (r *run) semVer(n *node, s scope) value {
	if n.op == opVersion {
		return n.version.compare(r.value(&n.args[0], s))
	}
	o := r.operands(n, s)
	if o.len() != 3 {
		return null
	}
	v, ok := newVersion(r.operand(&o, 1, s), r.operand(&o, 2, s))
	if !ok {
		return null
	}
	return v.compare(r.operand(&o, 0, s))
}

// newVersion is false when operator or target are none.
func newVersion(operator, target value) (version, bool) {
	v := version{operator: operator.str, target: versionText(target)}
	switch {
	case operator.shape != shapeText, !semver.IsValid(v.target):
		return version{}, false
	case v.operator == "^":
		v.target = semver.Major(v.target)
	case v.operator == "~":
		v.target = semver.MajorMinor(v.target)
	}
	return v, versionOperator(v.operator)
}

func versionOperator(s string) bool {
	switch s {
	case "=", "!=", "<", "<=", ">", ">=", "^", "~":
		return true
	}
	return false
}

// compare is sem_ver of a version that is only now known, null when it is none.
func (v *version) compare(actual value) value {
	if actual.shape == shapeText && !strings.HasPrefix(actual.str, "v") {
		return v.compareText("v" + strings.TrimPrefix(actual.str, "V")) // joined on the stack
	}
	return v.compareText(versionText(actual))
}

func (v *version) compareText(actual string) value {
	if !semver.IsValid(actual) {
		return null
	}
	switch v.operator {
	case "^":
		return booleanValue(semver.Compare(semver.Major(actual), v.target) == 0)
	case "~":
		return booleanValue(semver.Compare(semver.MajorMinor(actual), v.target) == 0)
	}
	order := semver.Compare(actual, v.target)
	switch v.operator {
	case "=":
		return booleanValue(order == 0)
	case "!=":
		return booleanValue(order != 0)
	case "<":
		return booleanValue(order < 0)
	case "<=":
		return booleanValue(order <= 0)
	case ">":
		return booleanValue(order > 0)
	default:
		return booleanValue(order >= 0)
	}
}

// versionText writes a version as x/mod/semver reads it, with a leading v: a
// number as Go prints it, so that 1.2 is the version 1.2. What is neither
// number nor text is no version.
func versionText(v value) string {
	switch v.shape {
	case shapeNumber:
		return "v" + strconv.FormatFloat(v.num, 'g', -1, 64)
	case shapeText:
		if strings.HasPrefix(v.str, "v") {
			return v.str
		}
		return "v" + strings.TrimPrefix(v.str, "V")
	default:
		return ""
	}
}
