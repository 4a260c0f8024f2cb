package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	for _, test := range []struct {
		name, before, after string
		want                []difference
	}{
		{name: "equal", before: `{"a":[1,{"b":null}]}`, after: `{"a":[1,{"b":null}]}`},
		{
			name: "scalars", before: `{"a":1,"b":"x"}`, after: `{"a":2,"b":"x"}`,
			want: []difference{{"$.a", raw(`1`), raw(`2`)}},
		},
		{
			name: "members come and go", before: `{"a":1,"b":2}`, after: `{"b":2,"c":null}`,
			want: []difference{{Path: "$.a", Before: raw(`1`)}, {Path: "$.c", After: raw(`null`)}},
		},
		{
			name: "names that are no identifiers", before: `{"x":{"a.b":1,"":1}}`, after: `{"x":{"a.b":2,"":2}}`,
			want: []difference{{`$.x[""]`, raw(`1`), raw(`2`)}, {`$.x["a.b"]`, raw(`1`), raw(`2`)}},
		},
		{
			name: "lists as a whole", before: `{"if":[1,2,3]}`, after: `{"if":[0,1,2,3]}`,
			want: []difference{{"$.if", raw(`[1,2,3]`), raw(`[0,1,2,3]`)}},
		},
		{
			name: "another kind of value", before: `{"a":{"b":1}}`, after: `{"a":"b"}`,
			want: []difference{{"$.a", raw(`{"b":1}`), raw(`"b"`)}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := diff("$", decoded(t, test.before), decoded(t, test.after))
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("diff(%s, %s) (-want +got)\n%s", test.before, test.after, d)
			}
		})
	}
}
