package eval

import (
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// version is a literal operator and target of sem_ver, checked.
type version struct {
	operator string
	target   string // with its leading v
}

// semVer runs sem_ver: null unless there are exactly a version, an operator and a
// version.
func (r *run) semVer(n *node, s scope) value {
	if n.op == opVersion {
		actual, ok := bareVersion(r.value(&n.args[0], s))
		if !ok {
			return null
		}
		return compareVersions(n.version.operator, "v"+actual, n.version.target) // joined on the stack
	}
	o := r.operands(n, s)
	if o.len() != 3 {
		return null
	}
	operator := r.operand(&o, 1, s)
	actual, ok1 := bareVersion(r.operand(&o, 0, s))
	target, ok2 := bareVersion(r.operand(&o, 2, s))
	if !ok1 || !ok2 || operator.shape() != shapeText {
		return null
	}
	return compareVersions(operator.str, "v"+actual, "v"+target)
}

// newVersion is false when operator or target are none.
func newVersion(operator, target value) (version, bool) {
	bare, ok := bareVersion(target)
	v := version{operator: operator.str, target: "v" + bare}
	return v, ok && operator.shape() == shapeText && versionOperator(v.operator) && semver.IsValid(v.target)
}

func versionOperator(s string) bool {
	switch s {
	case "=", "!=", "<", "<=", ">", ">=", "^", "~":
		return true
	}
	return false
}

// compareVersions is null when one of the two is no version, or the operator none.
func compareVersions(operator, a, b string) value {
	if !semver.IsValid(a) || !semver.IsValid(b) {
		return null
	}
	switch operator {
	case "^":
		a, b = semver.Major(a), semver.Major(b)
	case "~":
		a, b = semver.MajorMinor(a), semver.MajorMinor(b)
	}
	order := semver.Compare(a, b)
	switch operator {
	case "=", "^", "~":
		return booleanValue(order == 0)
	case "!=":
		return booleanValue(order != 0)
	case "<":
		return booleanValue(order < 0)
	case "<=":
		return booleanValue(order <= 0)
	case ">":
		return booleanValue(order > 0)
	case ">=":
		return booleanValue(order >= 0)
	default:
		return null
	}
}

// bareVersion writes a version without the leading v or V it may have. A number
// is written as Go prints it, so that 1.2 is the version 1.2. What is neither
// number nor text is no version.
func bareVersion(v value) (text string, ok bool) {
	switch v.shape() {
	case shapeNumber:
		return strconv.FormatFloat(v.num, 'g', -1, 64), true
	case shapeText:
		if strings.HasPrefix(v.str, "v") {
			return v.str[1:], true
		}
		return strings.TrimPrefix(v.str, "V"), true
	default:
		return "", false
	}
}

func validVersion(v value) bool {
	bare, ok := bareVersion(v)
	return ok && semver.IsValid("v"+bare)
}
