package eval

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
)

// shape is the JSON type of a value.
type shape uint8

const (
	shapeNull shape = iota
	shapeBoolean
	shapeNumber
	shapeText
	shapeList
	shapeObject
)

var shapeNames = [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}

func (s shape) String() string { return shapeNames[s] }

// value is a JSON value laid out so that the compiler keeps it in registers,
// which it does up to four words, and never boxed: definitions, contexts and
// intermediate results are all made of it. The zero value is null.
type value struct {
	num float64 // of a number; 1 or 0 of a boolean
	str string  // of a text

	// ref is the inside of a list or an object, and tells the shape: that of a
	// scalar is one of the marks, that of null is nil.
	ref *branch
}

// branch is the inside of a list (items) or of an object (fields). It is never
// changed once it can be reached from a value.
type branch struct {
	is     shape
	items  []value
	fields []field
	// hashes[i] is the hash of fields[i].key. Up to linearFields they stand in
	// the order of arrival and are scanned; beyond, both are sorted by hash.
	hashes []uint32
}

// The marks of the scalars.
var (
	booleanMark = branch{is: shapeBoolean}
	numberMark  = branch{is: shapeNumber}
	textMark    = branch{is: shapeText}
	noFields    = branch{is: shapeObject}
)

func (v value) shape() shape {
	if v.ref == nil {
		return shapeNull
	}
	return v.ref.is
}

func (v value) isNull() bool   { return v.ref == nil }
func (v value) isText() bool   { return v.ref == &textMark }
func (v value) isNumber() bool { return v.ref == &numberMark }

type field struct {
	key   string
	value value
}

// linearFields is the number of hashes that fit a cache line, up to which a scan
// beats a search.
const linearFields = 16

// seed makes the layout of objects unpredictable to whoever sends contexts. No
// result depends on it.
var seed = maphash.MakeSeed()

func hashKey(key string) uint32 { return uint32(maphash.String(seed, key)) }

var null value

func booleanValue(b bool) value {
	if b {
		return value{ref: &booleanMark, num: 1}
	}
	return value{ref: &booleanMark}
}

func numberValue(f float64) value { return value{ref: &numberMark, num: f} }

func textValue(s string) value { return value{ref: &textMark, str: s} }

func listValue(items []value) value { return value{ref: &branch{is: shapeList, items: items}} }

// objectOf is the object of those fields, of which nil are none.
func objectOf(b *branch) value {
	if b == nil {
		b = &noFields
	}
	return value{ref: b}
}

// objectValue takes ownership of fields. Of a key that occurs twice the last
// stands; the repeated key is returned for those who refuse it.
func objectValue(fields []field) (v value, repeated string, twice bool) {
	if len(fields) > linearFields {
		return wideObject(fields)
	}
	b := &branch{is: shapeObject, hashes: make([]uint32, 0, len(fields))}
	kept := fields[:0]
	for _, f := range fields {
		if at := slices.IndexFunc(kept, func(k field) bool { return k.key == f.key }); at >= 0 {
			kept[at], repeated, twice = f, f.key, true
			continue
		}
		kept = append(kept, f)
		b.hashes = append(b.hashes, hashKey(f.key))
	}
	b.fields = kept
	return value{ref: b}, repeated, twice
}

// wideObject is objectValue for more fields than are scanned.
func wideObject(fields []field) (v value, repeated string, twice bool) {
	type place struct {
		hash uint32
		at   int32
	}
	order := make([]place, len(fields))
	for i := range fields {
		order[i] = place{hashKey(fields[i].key), int32(i)}
	}
	slices.SortFunc(order, func(x, y place) int {
		if x.hash != y.hash {
			return cmp.Compare(x.hash, y.hash)
		}
		return cmp.Or(strings.Compare(fields[x.at].key, fields[y.at].key), cmp.Compare(x.at, y.at))
	})
	b := &branch{is: shapeObject, fields: make([]field, 0, len(fields)), hashes: make([]uint32, 0, len(fields))}
	for _, p := range order {
		f := fields[p.at]
		if last := len(b.fields) - 1; last >= 0 && b.fields[last].key == f.key {
			b.fields[last], repeated, twice = f, f.key, true
			continue
		}
		b.fields = append(b.fields, f)
		b.hashes = append(b.hashes, p.hash)
	}
	return value{ref: b}, repeated, twice
}

// with is the object of those fields and one more, in place of its namesake if
// there is one. Nil are no fields.
func (b *branch) with(f field) value {
	if b == nil || len(b.fields) <= linearFields {
		var fields []field
		if b != nil {
			fields = slices.Clip(b.fields)
		}
		v, _, _ := objectValue(append(fields, f))
		return v
	}
	wide := &branch{is: shapeObject, fields: b.fields, hashes: b.hashes}
	hash := hashKey(f.key)
	at, _ := slices.BinarySearch(b.hashes, hash)
	for i := at; i < len(b.hashes) && b.hashes[i] == hash; i++ {
		if b.fields[i].key == f.key {
			wide.fields = slices.Clone(b.fields)
			wide.fields[i] = f
			return value{ref: wide}
		}
	}
	wide.fields = slices.Insert(slices.Clip(b.fields), at, f)
	wide.hashes = slices.Insert(slices.Clip(b.hashes), at, hash)
	return value{ref: wide}
}

// find returns the field of that key, whose hash the caller has already.
func (b *branch) find(hash uint32, key string) (value, bool) {
	if b == nil {
		return null, false
	}
	if len(b.hashes) > linearFields {
		return b.search(hash, key)
	}
	for i, h := range b.hashes {
		if h == hash && b.fields[i].key == key {
			return b.fields[i].value, true
		}
	}
	return null, false
}

func (b *branch) search(hash uint32, key string) (value, bool) {
	i, _ := slices.BinarySearch(b.hashes, hash)
	for ; i < len(b.hashes) && b.hashes[i] == hash; i++ {
		if b.fields[i].key == key {
			return b.fields[i].value, true
		}
	}
	return null, false
}

// member returns a member of an object; false when v is no object or lacks it.
func (v value) member(key string) (value, bool) {
	if v.shape() != shapeObject {
		return null, false
	}
	return v.ref.find(hashKey(key), key)
}

// field returns a member of an object, or null when v is none or lacks it.
func (v value) field(key string) value {
	member, _ := v.member(key)
	return member
}

// sorted returns the fields of an object in the order of [Canonical].
func (b *branch) sorted() []field {
	fields := slices.Clone(b.fields)
	slices.SortFunc(fields, func(x, y field) int { return compareUTF16(x.key, y.key) })
	return fields
}

// truthy is JsonLogic's idea of true: not null, false, 0, "", [] or {}.
func (v value) truthy() bool {
	switch v.shape() {
	case shapeBoolean, shapeNumber:
		return v.num != 0
	case shapeText:
		return v.str != ""
	case shapeList:
		return len(v.ref.items) > 0
	case shapeObject:
		return len(v.ref.fields) > 0
	default:
		return false
	}
}

// toAny converts to what encoding/json would have decoded.
func (v value) toAny() any {
	switch v.shape() {
	case shapeBoolean:
		return v.num != 0
	case shapeNumber:
		return v.num
	case shapeText:
		return v.str
	case shapeList:
		items := make([]any, len(v.ref.items))
		for i, item := range v.ref.items {
			items[i] = item.toAny()
		}
		return items
	case shapeObject:
		fields := make(map[string]any, len(v.ref.fields))
		for _, f := range v.ref.fields {
			fields[f.key] = f.value.toAny()
		}
		return fields
	default:
		return nil
	}
}
