package eval

import (
	"encoding/json"
	"slices"
	"strings"
)

// Document is a flagd document, split into what Guidon stores row by row.
type Document struct {
	Flags      []DocumentFlag             // in the order of keys
	Evaluators map[string]json.RawMessage // the rules of $evaluators, canonical
	Metadata   map[string]any             // of the whole set: strings, numbers, booleans
}

// DocumentFlag is one flag of a [Document].
type DocumentFlag struct {
	Key        string
	Definition json.RawMessage // canonical
}

// ParseDocument reads a flagd document: an object of flags, or the array form in
// which each flag has its key; $evaluators and metadata are optional, $schema
// and other members are passed over. It checks the document's frame, not the
// flags themselves: that is [Snapshot.Validate]. Errors carry the JSON path.
func ParseDocument(data []byte) (Document, error) {
	v, err := parseStrict(data)
	if err != nil {
		return Document{}, err
	}
	if v.shape() != shapeObject {
		return Document{}, placed("", "must be an object")
	}
	d := Document{Evaluators: map[string]json.RawMessage{}}
	if d.Flags, err = readFlags(v.field("flags")); err != nil {
		return Document{}, within(".flags", err)
	}
	if evaluators, ok := v.member("$evaluators"); ok {
		if evaluators.shape() != shapeObject {
			return Document{}, placed(".$evaluators", "must be an object")
		}
		for _, f := range evaluators.ref.fields {
			rule := appendCanonical(nil, f.value)
			if len(rule) < 3 {
				return Document{}, placed(pathOf("$evaluators", f.key), "is empty")
			}
			d.Evaluators[f.key] = rule
		}
	}
	if d.Metadata, err = readMetadata(v.field("metadata")); err != nil {
		return Document{}, within(".metadata", err)
	}
	return d, nil
}

func readFlags(v value) ([]DocumentFlag, error) {
	var flags []DocumentFlag
	switch v.shape() {
	case shapeObject:
		for _, f := range v.ref.sorted() {
			if f.value.shape() != shapeObject {
				return nil, placed(pathOf(f.key), "must be an object")
			}
			flags = append(flags, DocumentFlag{f.key, appendCanonical(nil, f.value)})
		}
	case shapeList:
		for i, item := range v.ref.items {
			key := item.field("key")
			if key.shape() != shapeText || key.str == "" {
				return nil, placed(pathOf(i, "key"), "must be a non-empty string")
			}
			if slices.ContainsFunc(flags, func(f DocumentFlag) bool { return f.Key == key.str }) {
				return nil, placed(pathOf(i, "key"), "%q stands twice", key.str)
			}
			flags = append(flags, DocumentFlag{key.str, appendCanonical(nil, item.without("key"))})
		}
		slices.SortFunc(flags, func(a, b DocumentFlag) int { return strings.Compare(a.Key, b.Key) })
	default:
		return nil, placed("", "must be an object of flags, or a list of flags with keys")
	}
	return flags, nil
}

// readMetadata accepts null as none; a member that is null is left out.
func readMetadata(v value) (map[string]any, error) {
	metadata := map[string]any{}
	if v.shape() == shapeNull {
		return metadata, nil
	}
	if v.shape() != shapeObject {
		return nil, placed("", "must be an object")
	}
	for _, f := range v.ref.fields {
		switch f.value.shape() {
		case shapeNull:
		case shapeBoolean, shapeNumber, shapeText:
			metadata[f.key] = f.value.toAny()
		default:
			return nil, placed(pathOf(f.key), "is %s; metadata are strings, numbers and booleans", f.value.shape())
		}
	}
	return metadata, nil
}

// without returns the object without one member.
func (v value) without(key string) value {
	var fields []field
	for _, f := range v.ref.fields {
		if f.key != key {
			fields = append(fields, f)
		}
	}
	rest, _, _ := objectValue(fields)
	return rest
}
