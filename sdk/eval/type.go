package eval

import (
	"fmt"
	"math"
)

// Type is the type of a flag's value.
type Type uint8

// The types of values. Any is what a caller asks for who takes every type.
const (
	Any Type = iota
	Boolean
	String
	Integer // a whole number within ±(2^53−1)
	Float   // any number, Integer included
	Object
)

var typeNames = [...]string{Any: "any", Boolean: "boolean", String: "string", Integer: "integer", Float: "float", Object: "object"}

// String returns "any", "boolean", "string", "integer", "float" or "object".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// ParseType is the inverse of [Type.String]; it refuses any other word.
func ParseType(s string) (Type, error) {
	for t, name := range typeNames {
		if s == name {
			return Type(t), nil
		}
	}
	return Any, fmt.Errorf("type %q is not one of any, boolean, string, integer, float, object", s)
}

// InferType reads the type of a flag from the variants of its flagd definition:
// all booleans is Boolean, all whole numbers Integer, numbers Float. Variants of
// several types, no variants, and values that no flag can have (null, lists)
// are an error that carries the JSON path.
func InferType(definition []byte) (Type, error) {
	v, err := parseStrict(definition)
	if err != nil {
		return Any, err
	}
	variants, err := readVariants(v.field("variants"))
	if err != nil {
		return Any, err
	}
	return variantsType(variants)
}

// variantsType is the one type that all variants share.
func variantsType(variants []variant) (Type, error) {
	t := variants[0].typ
	for _, v := range variants[1:] {
		switch {
		case v.typ == t:
		case v.typ == Integer && t == Float, v.typ == Float && t == Integer:
			t = Float
		default:
			return Any, placed(pathOf("variants", v.name), "is of type %s, but %q is of type %s; all variants of a flag have one type",
				v.typ, variants[0].name, variants[0].typ)
		}
	}
	return t, nil
}

// maxSafeInteger is 2^53−1: beyond it a float64 cannot tell neighbours apart.
const maxSafeInteger = 1<<53 - 1

// whole tells whether f is an integer that a float64 holds exactly.
func whole(f float64) bool {
	return f == math.Trunc(f) && math.Abs(f) <= maxSafeInteger
}
