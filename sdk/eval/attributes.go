package eval

import (
	"slices"
	"strings"
)

// The states of a flag.
const (
	stateEnabled  = "ENABLED"
	stateDisabled = "DISABLED"
)

// What a flag is of that does not say.
const (
	defaultKind  = "release"
	defaultScope = "request"
)

// Level is the level of the flag language that this package evaluates. A flag
// may say beside its definition which level it needs; one that needs a higher
// level than this is isolated, never guessed at.
const Level = 1

// attributes are what Guidon keeps beside a flagd definition, under "guidon":
// only what an evaluation or the header depends on. So one that is not known here
// is not passed over: that would be a guess at what the flag is without it.
type attributes struct {
	project, kind, scope string
	typ                  Type
	pierce               string
	nearest              bool
	archived             bool
	attach               bool
	overridable          bool
	client               bool
	requires             []requirement
}

// requirement is a prerequisite: flag must resolve to one of variants.
type requirement struct {
	flag     string
	variants []string
}

// readAttributes reads on past what it cannot read: an isolated flag still has its
// scope and its project.
func readAttributes(v value) (attributes, error) {
	a := attributes{kind: defaultKind, scope: defaultScope}
	if v.shape() == shapeNull {
		return a, nil
	}
	if v.shape() != shapeObject {
		return a, placed("", "must be an object")
	}
	var first error
	for _, f := range v.ref.fields {
		var err error
		switch f.key {
		case "project":
			a.project, err = readWord(f.value)
		case "kind":
			a.kind, err = readWord(f.value, "release", "experiment", "ops", "permission", "config")
		case "scope":
			a.scope, err = readWord(f.value, "request", "local")
		case "type":
			var word string
			if word, err = readWord(f.value, "boolean", "string", "integer", "float", "object"); err == nil {
				a.typ, err = ParseType(word)
			}
		case "pierce":
			a.pierce, err = readWord(f.value)
		case "pinUnavailable":
			_, err = readWord(f.value, "nearest")
			a.nearest = err == nil
		case "archived":
			a.archived, err = readBoolean(f.value)
		case "attach":
			a.attach, err = readBoolean(f.value)
		case "overridable":
			a.overridable, err = readBoolean(f.value)
		case "client":
			a.client, err = readBoolean(f.value)
		case "requires":
			a.requires, err = readRequires(f.value)
		case "level":
			if f.value.shape() != shapeNumber || !whole(f.value.num) {
				err = placed("", "must be a whole number")
			} else if f.value.num > Level {
				err = placed("", "is %v; this evaluator knows the flag language up to level %d", f.value.num, Level)
			}
		default:
			err = placed("", "is not an attribute that this evaluator knows")
		}
		if err != nil && first == nil {
			first = within(pathOf(f.key), err)
		}
	}
	return a, first
}

func readWord(v value, known ...string) (string, error) {
	if v.shape() != shapeText || v.str == "" {
		return "", placed("", "must be a non-empty string")
	}
	if len(known) > 0 && !slices.Contains(known, v.str) {
		return "", placed("", "is %q; known are %q", v.str, known)
	}
	return v.str, nil
}

// only refuses an object with other members than the known ones.
func (v value) only(known ...string) error {
	if v.shape() != shapeObject {
		return nil // for the caller to refuse, member by member
	}
	for _, f := range v.ref.fields {
		if !slices.Contains(known, f.key) {
			return placed(pathOf(f.key), "is not known here; known are %s", strings.Join(known, ", "))
		}
	}
	return nil
}

func readBoolean(v value) (bool, error) {
	if v.shape() != shapeBoolean {
		return false, placed("", "must be true or false")
	}
	return v.num != 0, nil
}

func readRequires(v value) ([]requirement, error) {
	if v.shape() != shapeList {
		return nil, placed("", "must be a list of {flag, variants}")
	}
	var requires []requirement
	for i, item := range v.ref.items {
		if err := item.only("flag", "variants"); err != nil {
			return nil, within(pathOf(i), err)
		}
		flag, err := readWord(item.field("flag"))
		if err != nil {
			return nil, within(pathOf(i, "flag"), err)
		}
		names := item.field("variants")
		if names.shape() != shapeList || len(names.ref.items) == 0 {
			return nil, placed(pathOf(i, "variants"), "must be a list of at least one variant")
		}
		r := requirement{flag: flag}
		for j, name := range names.ref.items {
			word, err := readWord(name)
			if err != nil {
				return nil, within(pathOf(i, "variants", j), err)
			}
			r.variants = append(r.variants, word)
		}
		requires = append(requires, r)
	}
	return requires, nil
}
