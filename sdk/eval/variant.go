package eval

import (
	"slices"
	"strings"
)

// variant is one of a flag's named values, ready to be read as any type.
type variant struct {
	name  string
	typ   Type
	num   float64 // of a number; 1 or 0 of a boolean
	text  string
	value any // boxed once, here
}

// readVariants returns the variants of a flagd definition sorted by name.
func readVariants(v value) ([]variant, error) {
	if v.shape() != shapeObject || len(v.ref.fields) == 0 {
		return nil, placed(".variants", "must be an object with at least one variant")
	}
	variants := make([]variant, 0, len(v.ref.fields))
	for _, f := range v.ref.fields {
		named, ok := newVariant(f.key, f.value)
		if !ok {
			return nil, placed(pathOf("variants", f.key), "is %s; a value is a boolean, a string, a number or an object", f.value.shape())
		}
		variants = append(variants, named)
	}
	slices.SortFunc(variants, func(a, b variant) int { return strings.Compare(a.name, b.name) })
	return variants, nil
}

// newVariant is false for null and for lists, which are no values of a flag.
func newVariant(name string, v value) (variant, bool) {
	named := variant{name: name, num: v.num, text: v.str}
	switch v.shape() {
	case shapeBoolean:
		named.typ = Boolean
	case shapeText:
		named.typ = String
	case shapeObject:
		named.typ = Object
	case shapeNumber:
		named.typ = Float
		if whole(v.num) {
			named.typ = Integer
		}
	case shapeNull, shapeList:
		return named, false
	}
	named.value = v.toAny()
	return named, true
}

// searchedVariants is the number of variants from which a search beats a scan.
const searchedVariants = 12

// variantIndex returns the index of the variant of that name, or -1.
func variantIndex(variants []variant, name string) int32 {
	if len(variants) >= searchedVariants {
		i, ok := slices.BinarySearchFunc(variants, name, func(v variant, name string) int { return strings.Compare(v.name, name) })
		if ok {
			return int32(i)
		}
		return -1
	}
	for i := range variants {
		if variants[i].name == name {
			return int32(i)
		}
	}
	return -1
}

// ValidKey tells whether a flag may have that key: ^[A-Za-z][A-Za-z0-9._-]{0,127}$.
func ValidKey(key string) bool {
	return len(key) <= 128 && nameBytes(key) && (key[0]|0x20 >= 'a' && key[0]|0x20 <= 'z')
}

// ValidVariant tells whether a variant may have that name: ^[A-Za-z0-9._-]{1,64}$,
// what the guidon header can carry.
func ValidVariant(name string) bool { return len(name) <= 64 && nameBytes(name) }

func nameBytes(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != ""
}
