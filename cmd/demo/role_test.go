package main

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// The services read the flags of flags.json, all of them, and have a default
// of the same type for each. That the document is valid the other tests show:
// they import it.
func TestRolesReadFlags(t *testing.T) {
	t.Parallel()
	read := map[string]string{}
	for _, r := range roles {
		if !slices.Contains(r.reads, flipped) {
			t.Errorf("%s does not read %s", r.name, flipped)
		}
		for _, key := range r.reads {
			switch fallbacks[key].(type) {
			case string:
				read[key] = eval.String.String()
			case int64:
				read[key] = eval.Integer.String()
			case map[string]any:
				read[key] = eval.Object.String()
			case nil:
				read[key] = eval.Boolean.String()
			}
		}
	}
	defined := map[string]string{}
	for _, f := range readFlags(t).Flags {
		kind, err := eval.InferType(f.Definition)
		if err != nil {
			t.Errorf("%s: %v", f.Key, err)
		}
		defined[f.Key] = kind.String()
	}
	if diff := cmp.Diff(defined, read); diff != "" {
		t.Errorf("types by flag (-defined +read):\n%s", diff)
	}
	if unread := slices.DeleteFunc(slices.Collect(maps.Keys(fallbacks)), func(key string) bool { return read[key] != "" }); len(unread) > 0 {
		t.Errorf("defaults of flags that nobody reads: %v", unread)
	}
}

// Callers come before those they call, as Run needs to close them in order.
func TestRolesAreOrdered(t *testing.T) {
	t.Parallel()
	place := map[string]int{}
	for i, r := range roles {
		place[r.name] = i
	}
	for _, r := range roles {
		for _, st := range r.steps {
			for _, c := range st.calls {
				if place[c.name] <= place[r.name] {
					t.Errorf("%s comes after %s, which it calls", r.name, c.name)
				}
			}
		}
	}
}
