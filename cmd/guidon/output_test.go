package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

func TestMessageJSON(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		m    proto.Message
		want string
	}{
		{
			name: "64-bit integers are numbers, defaults are there, unset messages are not",
			m:    &guidonv1.Killed{Revision: 1 << 40, Variant: "off"},
			want: `{"revision":1099511627776,"variant":"off","by":"","reason":""}`,
		},
		{
			name: "maps by key",
			m:    &guidonv1.ChangeServiceApplyResponse{ChangeId: "c", Revisions: map[string]int64{"staging": 3, "a": 12}},
			want: `{"changeId":"c","revisions":{"a":12,"staging":3},"changes":[],"warnings":[],"unchanged":false}`,
		},
		{
			name: "well-known types as their own JSON",
			m: &guidonv1.Killed{
				Value: structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue("<b>")}}),
				At:    timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
			},
			want: `{"revision":0,"variant":"","value":{"a":"<b>"},"at":"2026-01-02T03:04:05Z","by":"","reason":""}`,
		},
		{
			name: "an absent value differs from a null one",
			m: &guidonv1.AuditChange{Kind: "flag", Fields: []*guidonv1.FieldChange{
				{Path: "$.a", Before: structpb.NewNullValue(), After: structpb.NewNumberValue(1.5)},
				{Path: "$.b"},
			}},
			want: `{"kind":"flag","name":"","action":"","fields":[{"path":"$.a","before":null,"after":1.5},{"path":"$.b"}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(message{test.m})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, test.want), decoded(t, string(got))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestPrintJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := output{json: true}
	err := out.print(&b, list("killed", []*guidonv1.Killed{{Revision: 1, Variant: "<x>"}}), func(*table) {
		t.Error("a table was asked for")
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "killed": [
    {
      "revision": 1,
      "variant": "<x>",
      "by": "",
      "reason": ""
    }
  ]
}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Whoever may write a reason must not be able to forge lines of a table or to
// steer the terminal of who reads it.
func TestTableHoldsForeignText(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	var out output
	err := out.print(&b, nil, func(t *table) {
		t.row("A", "B")
		t.row("x\ny\tz\x1b[31m", 7)
		t.row("", "ü → ✓")
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "A            B\nx y z [31m  7\n-            ü → ✓\n"
	if got := b.String(); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") || strings.Contains(got, "\x1b") {
		t.Errorf("print = %q, want %q", got, want)
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
