package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// difference is one place where two JSON documents differ; before is empty for
// what was added, after for what was removed.
type difference struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// diff lists where two decoded JSON values differ, by path, as deep as both are
// objects. A list differs as a whole: rules are read in order, and naming the
// element that moved says less than showing both.
func diff(path string, before, after any) []difference {
	b, bothObjects := before.(map[string]any)
	a, ok := after.(map[string]any)
	if !bothObjects || !ok {
		if reflect.DeepEqual(before, after) {
			return nil
		}
		return []difference{{path, encoded(before), encoded(after)}}
	}
	names := maps.Clone(b)
	maps.Copy(names, a)
	var differences []difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, had := b[name]
		value, has := a[name]
		place := path + member(name)
		switch {
		case !had:
			differences = append(differences, difference{Path: place, After: encoded(value)})
		case !has:
			differences = append(differences, difference{Path: place, Before: encoded(old)})
		default:
			differences = append(differences, diff(place, old, value)...)
		}
	}
	return differences
}

// member is a step of a JSON path as sdk/eval writes it: .name, or ["name"] if
// it has other characters than letters, digits, _, $ and -.
func member(name string) string {
	other := func(r rune) bool {
		return r != '_' && r != '$' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if name == "" || strings.ContainsFunc(name, other) {
		return "[" + strconv.Quote(name) + "]"
	}
	return "." + name
}
