package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// FieldChange is one difference between two documents.
type FieldChange struct {
	// Path is a JSON path: $.flag.variants.on, or $.flag["a b"] where a name
	// is no plain word.
	Path string
	// Before and After are canonical JSON; nil where the field is not there.
	Before, After json.RawMessage
}

// Diff lists the fields in which two JSON documents differ, by name.
// Objects are compared member by member; an array is compared element by
// element if both have the same length, else as a whole. A nil document is
// one that is not there. Documents that cannot be read are an error.
func Diff(before, after []byte) ([]FieldChange, error) {
	var out []FieldChange
	err := diff("$", before, after, &out)
	return out, err
}

func diff(path string, before, after []byte, out *[]FieldChange) error {
	if bytes.Equal(before, after) {
		return nil
	}
	if first(before) == '{' && first(after) == '{' {
		var b, a map[string]json.RawMessage
		if err := unmarshalBoth(path, before, after, &b, &a); err != nil {
			return err
		}
		names := make([]string, 0, len(a)+len(b))
		for n := range b {
			names = append(names, n)
		}
		for n := range a {
			if _, both := b[n]; !both {
				names = append(names, n)
			}
		}
		slices.Sort(names)
		for _, n := range names {
			if err := diff(path+step(n), b[n], a[n], out); err != nil {
				return err
			}
		}
		return nil
	}
	if first(before) == '[' && first(after) == '[' {
		var b, a []json.RawMessage
		if err := unmarshalBoth(path, before, after, &b, &a); err != nil {
			return err
		}
		if len(a) == len(b) {
			for i := range a {
				if err := diff(path+"["+strconv.Itoa(i)+"]", b[i], a[i], out); err != nil {
					return err
				}
			}
			return nil
		}
	}
	*out = append(*out, FieldChange{path, before, after})
	return nil
}

func unmarshalBoth(path string, before, after []byte, b, a any) error {
	if err := json.Unmarshal(before, b); err != nil {
		return fmt.Errorf("%s before: %w", path, err)
	}
	if err := json.Unmarshal(after, a); err != nil {
		return fmt.Errorf("%s after: %w", path, err)
	}
	return nil
}

// first returns the first byte of canonical JSON, which has no space before it.
func first(doc []byte) byte {
	if len(doc) == 0 {
		return 0
	}
	return doc[0]
}

// step writes a member name as part of a JSON path.
func step(name string) string {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return "[" + strconv.Quote(name) + "]"
		}
	}
	if name == "" {
		return `[""]`
	}
	return "." + name
}
