package eval_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestReads tells what each rule can read of the evaluation context: whatever a
// rule reads must be there, or a leaf of a request would decide otherwise than
// its root.
func TestReads(t *testing.T) {
	t.Parallel()
	segment := segmentRow(t, "s", json.RawMessage(`{"==":[{"var":"from.segment"},1]}`))
	for _, test := range []struct {
		rule string
		want string
	}{
		{`null`, ``},
		{`{"if":[{"var":"plan"},"on"]}`, `plan`},
		{`{"if":[{"var":["plan",{"var":"other"}]},"on"]}`, `other plan`},
		{`{"if":[{"and":[{"var":"user.plan"},{"in":[{"var":"c"},["a"]]}]},"on",{"var":"e"},"off"]}`, `c e user.plan`},
		{`{"if":[{"$ref":"s"},"on"]}`, `from.segment`},
		{`{"fractional":[["on",1]]}`, `targetingKey`},
		{`{"fractional":[{"var":"email"},["on",1]]}`, `email targetingKey`},
		{`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["on",{"var":"w"}]]}`, `$flagd.flagKey email targetingKey w`},
		{`{"if":[{"missing":["a","b.c"]},"on",{"missing_some":[1,["d"]]},"off"]}`, `a b.c d`},
		{`{"if":[{"missing":[{"var":"x"}]},"on"]}`, `* x`},
		{`{"if":[{"var":{"var":"which"}},"on"]}`, `* which`},
		{`{"if":[{"var":""},"on"]}`, `*`},
		{`{"if":[{"<":[{"var":"$flagd.timestamp"},5]},"on"]}`, `$flagd.timestamp`},
		// A body sees items; filter, none and some let it see around the loop.
		{`{"if":[{"map":[{"var":"l"},{"var":"name"}]},"on"]}`, `l`},
		{`{"if":[{"all":[{"var":"l"},{"var":"name"}]},"on"]}`, `l`},
		{`{"if":[{"reduce":[{"var":"l"},{"+":[{"var":"current"},{"var":"accumulator"}]},{"var":"start"}]},"on"]}`, `l start`},
		{`{"if":[{"some":[{"var":"l"},{"==":[{"var":"name"},{"var":""}]}]},"on"]}`, `l name`},
		{`{"if":[{"filter":[{"var":"l"},{"map":[{"var":"m"},{"var":"name"}]}]},"on"]}`, `l m name`},
		{`{"if":[{"map":[{"var":"l"},{"filter":[{"var":"m"},{"var":"name"}]}]},"on"]}`, `l`},
		{`{"if":[{"none":[{"var":"l"},{"var":["name",{"var":"fallback"}]}]},"on"]}`, `fallback l name`},
		{`{"if":[{"none":[{"var":"l"},{"var":".name"}]},"on"]}`, `l`},
	} {
		f := compile(t, segment, flagRow(t, "flag", switchable(test.rule))).Flag("flag")
		if f.Err() != nil {
			t.Errorf("%s: %v", test.rule, f.Err())
		}
		if got := strings.Join(f.Reads(), " "); got != test.want {
			t.Errorf("%s reads %q, want %q", test.rule, got, test.want)
		}
		if want := strings.Contains(test.want, "timestamp") || strings.Contains(test.want, "*"); f.TimeDependent() != want {
			t.Errorf("%s: TimeDependent() = %v, want %v", test.rule, f.TimeDependent(), want)
		}
		if want := test.rule == `null`; f.Static() != want {
			t.Errorf("%s: Static() = %v, want %v", test.rule, f.Static(), want)
		}
	}
}

func TestNotTravelling(t *testing.T) {
	t.Parallel()
	settings := settingsRow(t, `{"travel":[{"attribute":"plan"},{"attribute":"user","as":"u"}]}`)
	for rule, want := range map[string][]string{
		`null`: nil, `{"if":[{"var":"plan"},"on"]}`: nil, `{"if":[{"var":"user.age"},"on",{"var":"$flagd.timestamp"},"on"]}`: nil, `{"fractional":[["on",1]]}`: nil,
		`{"if":[{"var":"email"},"on",{"var":"team.name"},"on",{"var":"team.id"},"off",{"var":"plan"},"on"]}`: {"email", "team"}, `{"if":[{"var":""},"on"]}`: {"*"},
	} {
		f := compile(t, settings, flagRow(t, "flag", switchable(rule))).Flag("flag")
		if got := f.NotTravelling(); !slices.Equal(got, want) {
			t.Errorf("%s: NotTravelling() = %q, want %q", rule, got, want)
		}
	}
	s := compile(t, settings)
	want := eval.Settings{Fractional: "v2", Travel: []eval.Travel{{Attribute: "plan"}, {Attribute: "user", As: "u"}}}
	if diff := cmp.Diff(want, s.Settings()); diff != "" {
		t.Errorf("Settings() (-want +got):\n%s", diff)
	}
	if got := compile(t).Settings(); got.Fractional != eval.FractionalV2 || got.Travel != nil {
		t.Errorf("Settings() without a row = %+v", got)
	}
}

// TestWithShares holds that a change compiles what it touches and nothing else.
func TestWithShares(t *testing.T) {
	t.Parallel()
	segment := segmentRow(t, "s", json.RawMessage(`{"var":"x"}`))
	s := compile(t, segment,
		flagRow(t, "a", switchable(`null`)),
		flagRow(t, "b", switchable(`{"if":[{"$ref":"s"},"on"]}`)),
		flagRow(t, "c", switchable(`null`), `{"requires":[{"flag":"b","variants":["on"]}]}`))
	next, err := s.With(2, []eval.Row{{Kind: eval.KindFlag, Name: "d", From: 2, Document: flagRow(t, "d", switchable(`null`)).Document}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "c"} {
		if next.Flag(key) != s.Flag(key) {
			t.Errorf("a new flag d compiles %s again", key)
		}
	}
	next, err = s.With(2, []eval.Row{{Kind: eval.KindSegment, Name: "s", From: 2, Document: []byte(`{"segment":{"!":[{"var":"x"}]}}`)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if next.Flag("a") != s.Flag("a") {
		t.Error("a change of the segment compiles a, which does not read it")
	}
	for _, key := range []string{"b", "c"} {
		if next.Flag(key) == s.Flag(key) || next.Flag(key).EffectiveFrom() != 2 || s.Flag(key).EffectiveFrom() != 1 {
			t.Errorf("after a change of the segment %s is effective from %d, before from %d", key, next.Flag(key).EffectiveFrom(), s.Flag(key).EffectiveFrom())
		}
	}
	if next.Digest() == s.Digest() {
		t.Error("the digest is the same after a change")
	}
	back, err := next.With(3, []eval.Row{{Kind: eval.KindSegment, Name: "s", From: 1, Document: segment.Document}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest() != s.Digest() {
		t.Errorf("the digest of equal rows is %s, was %s", back.Digest(), s.Digest())
	}
}

// TestDigest pins the digest: a change of its definition would make servers and
// SDKs of different versions distrust each other.
func TestDigest(t *testing.T) {
	t.Parallel()
	empty := compile(t)
	const wantEmpty = "0e89e7ed74c9a5944c886585d634e3c68f4dccd0a31968fe52d6df0873ccdec6"
	if got := empty.Digest().String(); got != wantEmpty {
		t.Errorf("the digest of nothing is %s, want %s", got, wantEmpty)
	}
	s := compile(t,
		eval.Row{Kind: eval.KindFlag, Name: "a", From: 1, Document: []byte(`{}`)}, eval.Row{Kind: eval.KindSegment, Name: "a", From: 9, Document: []byte(`{}`)},
		eval.Row{Kind: eval.KindSettings, Name: eval.SettingsName, From: 3, Document: []byte(`{}`)})
	const want = "375daa003f894b55ad2db62ad687275adfeadbd8da7ef0440d55b9544cf30ca1"
	if got := s.Digest().String(); got != want {
		t.Errorf("the digest of three rows is %s, want %s", got, want)
	}
}

func TestSnapshotRows(t *testing.T) {
	t.Parallel()
	rows := []eval.Row{
		flagRow(t, "a", switchable(`null`)), flagRow(t, "b", switchable(`{"nonsense":[]}`)), segmentRow(t, "s", json.RawMessage(`{"var":"x"}`)), settingsRow(t, `{"fractional":"v2"}`),
		emergencyRow("a", 1, true, emergencyOf(1, "off", "false")),
	}
	shuffled := []eval.Row{rows[4], rows[3], rows[1], rows[2], rows[0]}
	s := compile(t, shuffled...)
	if diff := cmp.Diff(rows, slices.Collect(s.Rows())); diff != "" {
		t.Errorf("Rows() (-want +got):\n%s", diff)
	}
	for _, row := range rows {
		if got, ok := s.Row(eval.Name{Kind: row.Kind, Name: row.Name}); !ok || !cmp.Equal(got, row) {
			t.Errorf("Row(%s) = %v, %v", row.Name, got, ok)
		}
	}
	for _, name := range []eval.Name{{}, {Kind: eval.KindFlag, Name: "s"}, {Kind: eval.KindSegment, Name: "a"}, {Kind: eval.KindSettings, Name: "other"}, {Kind: eval.KindEmergency, Name: "b"}} {
		if row, ok := s.Row(name); ok {
			t.Errorf("Row(%s) = %v", name, row)
		}
	}
	if s.Len() != 2 || s.Revision() != 1 || s.Flag("s") != nil {
		t.Errorf("Len() = %d, Revision() = %d, Flag(s) = %v", s.Len(), s.Revision(), s.Flag("s"))
	}
	for range s.Rows() {
		break // an iterator that is left early must end
	}
}

func TestFlagAccessors(t *testing.T) {
	t.Parallel()
	f := compile(t, flagRow(t, "flag", map[string]any{
		"state": "ENABLED", "variants": map[string]any{"b": 2, "a": 1}, "defaultVariant": "a", "metadata": map[string]any{"team": "x", "version": "mine"},
	}, `{"project":"p","kind":"config","scope":"local","type":"float","attach":true,"overridable":true,"pierce":"never"}`)).Flag("flag")
	got := []any{f.Key(), f.Project(), f.Kind(), f.Scope(), f.Type(), f.State(), f.DefaultVariant(), f.Archived(), f.Attach(), f.Overridable(), f.Pierce(), f.EffectiveFrom(), f.Err()}
	want := []any{"flag", "p", "config", "local", eval.Float, "ENABLED", "a", false, true, true, "never", int64(1), error(nil)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("accessors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"team": "x", "flagSetId": "p", "version": int64(1)}, f.Metadata()); diff != "" {
		t.Errorf("Metadata() (-want +got):\n%s", diff)
	}
	var names []string
	for name, v := range f.Variants() {
		names = append(names, name)
		if v == 3.0 {
			t.Error("a value that is not there")
		}
	}
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("Variants() = %q", names)
	}
	want2 := `{"defaultVariant":"a","metadata":{"flagSetId":"p","team":"x","version":1},"state":"ENABLED","variants":{"a":1,"b":2}}`
	if got := string(f.Definition()); got != want2 {
		t.Errorf("Definition() = %s, want %s", got, want2)
	}
}

func TestResolutionTypes(t *testing.T) {
	t.Parallel()
	s := compile(t, documentRows(t, []byte(`{"flags":{
		"boolean":{"state":"ENABLED","variants":{"v":true},"defaultVariant":"v"}, "string":{"state":"ENABLED","variants":{"v":"x"},"defaultVariant":"v"},
		"integer":{"state":"ENABLED","variants":{"v":5},"defaultVariant":"v"}, "float":{"state":"ENABLED","variants":{"v":0.5},"defaultVariant":"v"},
		"object":{"state":"ENABLED","variants":{"v":{"a":1}},"defaultVariant":"v"}, "nothing":{"state":"DISABLED","variants":{"v":1}}}}`))...)
	for key, want := range map[string][5]any{
		"boolean": {true, nil, nil, nil, nil}, "string": {nil, "x", nil, nil, nil}, "integer": {nil, nil, int64(5), 5.0, nil}, "float": {nil, nil, nil, 0.5, nil},
		"object": {nil, nil, nil, nil, map[string]any{"a": 1.0}}, "nothing": {}, "absent": {},
	} {
		r := s.Evaluate(key, nil, 0)
		var got [5]any
		if v, ok := r.Boolean(); ok {
			got[0] = v
		}
		if v, ok := r.Text(); ok {
			got[1] = v
		}
		if v, ok := r.Integer(); ok {
			got[2] = v
		}
		if v, ok := r.Float(); ok {
			got[3] = v
		}
		if v, ok := r.Object(); ok {
			got[4] = v
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}

func TestDecided(t *testing.T) {
	t.Parallel()
	s := compile(t, flagRow(t, "flag", switchable(`{"if":[{"var":"x"},"on"]}`)))
	f := s.Flag("flag")
	r, ok := f.Decided("on", eval.ReasonTargetingMatch)
	if on, _ := r.Boolean(); !ok || !on || r.Reason() != eval.ReasonTargetingMatch || r.Flag() != f {
		t.Errorf("Decided(on) = %q %s, %v", r.Variant(), r.Reason(), ok)
	}
	if r, ok := f.Decided("", eval.ReasonDisabled); !ok || r.Variant() != "" || r.Value() != nil || r.Reason() != eval.ReasonDisabled {
		t.Errorf("Decided of no variant = %q %s, %v", r.Variant(), r.Reason(), ok)
	}
	if _, ok := f.Decided("blue", eval.ReasonStatic); ok {
		t.Error("Decided knows a variant that the flag has not")
	}
	if r, _ := f.Decided("on", "PINNED"); r.Reason() != eval.ReasonUnknown {
		t.Errorf("a reason of no meaning here is %s, want UNKNOWN", r.Reason())
	}
	if r := s.Evaluate("absent", nil, 0); r.Flag() != nil || r.Message() == "" || r.As(eval.Boolean).ErrorCode() != eval.CodeFlagNotFound {
		t.Errorf("an absent flag: %v %q", r.Flag(), r.Message())
	}
	if r := f.Evaluate(nil, 0).As(eval.String); r.Message() == "" {
		t.Error("a type mismatch has no message")
	}
}
