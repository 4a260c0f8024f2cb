package eval_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	disabled := switchable(`{"if":[true,"on"]}`)
	disabled["state"] = "DISABLED"
	plain := switchable(`null`)
	noDefault := switchable(`null`)
	delete(noDefault, "defaultVariant")
	rows := []eval.Row{
		segmentRow(t, "eu", json.RawMessage(`{"in":[{"var":"country"},["de","fr"]]}`)),
		flagRow(t, "disabled", disabled), flagRow(t, "plain", plain), flagRow(t, "no-default", noDefault),
		flagRow(t, "rules", switchable(`{"if":[{"==":[{"var":"plan"},"pro"]},"on",{"and":[{"$ref":"eu"},{">":[{"var":"user.age"},17]}]},"on","off"]}`)),
		flagRow(t, "nested", switchable(`{"if":[{"var":"a"},{"if":[{"var":"b"},"on"]},"off"]}`)),
		flagRow(t, "split", switchable(`{"if":[{"var":"a"},{"fractional":[{"var":"email"},["on",10],["off",85],[null,5]]}]}`)),
		flagRow(t, "gate", switchable(`{"if":[{"==":[{"fractional":[["on",50],["off",50]]},"on"]},"on"]}`)),
		flagRow(t, "computed", switchable(`{"var":"want"}`)),
		flagRow(t, "dependent", switchable(`{"if":[{"var":"a"},"on"]}`), `{"requires":[{"flag":"rules","variants":["on"]}]}`),
	}
	s := compile(t, rows...)
	for _, test := range []struct {
		key     string
		context map[string]any
		want    []eval.Step
	}{
		{"disabled", nil, []eval.Step{{Path: "$.flag.state", Text: "the flag is disabled", Outcome: "null"}}},
		{"plain", nil, []eval.Step{{Path: "$.flag.defaultVariant", Text: "there is no targeting", Outcome: `"off"`}}},
		{"no-default", nil, []eval.Step{{Path: "$.flag.defaultVariant", Text: "there is no targeting and no default variant", Outcome: "null"}}},
		{"rules", map[string]any{"plan": "pro"}, []eval.Step{
			{Path: "$.flag.targeting.if[0]", Text: `{"==":[{"var":"plan"},"pro"]}`, Seen: map[string]any{"plan": "pro"}, Outcome: "true"},
		}},
		{"rules", map[string]any{"country": "de", "user": map[string]any{"age": 20}}, []eval.Step{
			{Path: "$.flag.targeting.if[0]", Text: `{"==":[{"var":"plan"},"pro"]}`, Seen: map[string]any{"plan": nil}, Outcome: "false"},
			{
				Path: "$.flag.targeting.if[2]", Text: `{"and":[{"in":[{"var":"country"},["de","fr"]]},{">":[{"var":"user.age"},17]}]}`,
				Seen: map[string]any{"country": "de", "user.age": 20.0}, Outcome: "true",
			},
		}},
		{"nested", map[string]any{"a": 1}, []eval.Step{
			{Path: "$.flag.targeting.if[0]", Text: `{"var":"a"}`, Seen: map[string]any{"a": 1.0}, Outcome: "true"},
			{Path: "$.flag.targeting.if[1].if[0]", Text: `{"var":"b"}`, Seen: map[string]any{"b": nil}, Outcome: "false"},
		}},
		{"split", map[string]any{"a": 1, "email": "bob"}, []eval.Step{
			{Path: "$.flag.targeting.if[0]", Text: `{"var":"a"}`, Seen: map[string]any{"a": 1.0}, Outcome: "true"},
			{
				Path: "$.flag.targeting.if[1]", Text: `{"fractional":[{"var":"email"},["on",10],["off",85],[null,5]]}`, Seen: map[string]any{"email": "bob"}, Outcome: `"off"`,
				Fractional: &eval.Bucketing{
					Value: "bob", Hash: murmur([]byte("bob")), Bucket: int64(uint64(murmur([]byte("bob"))) * 100 >> 32), Sum: 100,
					Ranges: []eval.Range{{"on", 0, 10}, {"off", 10, 95}, {"", 95, 100}},
				},
			},
		}},
		{"gate", map[string]any{"targetingKey": "bob"}, []eval.Step{
			{
				Path: "$.flag.targeting.if[0]", Text: `{"==":[{"fractional":[["on",50],["off",50]]},"on"]}`,
				Seen: map[string]any{"targetingKey": "bob"}, Outcome: "false",
			},
			{
				Path: `$.flag.targeting.if[0]["=="][0]`, Text: `{"fractional":[["on",50],["off",50]]}`, Seen: map[string]any{"targetingKey": "bob"}, Outcome: `"off"`,
				Fractional: &eval.Bucketing{
					Value: "gatebob", Hash: murmur([]byte("gatebob")), Bucket: int64(uint64(murmur([]byte("gatebob"))) * 100 >> 32), Sum: 100,
					Ranges: []eval.Range{{"on", 0, 50}, {"off", 50, 100}},
				},
			},
		}},
		{"computed", map[string]any{"want": "on"}, []eval.Step{
			{Path: "$.flag.targeting", Text: `{"var":"want"}`, Seen: map[string]any{"want": "on"}, Outcome: `"on"`},
		}},
		{"dependent", map[string]any{"plan": "pro"}, []eval.Step{
			{Path: "$.guidon.requires[0]", Text: `flag "rules" resolves to on`, Seen: map[string]any{"plan": "pro", "country": nil, "user.age": nil}, Outcome: "true"},
			{Path: "$.flag.targeting.if[0]", Text: `{"var":"a"}`, Seen: map[string]any{"a": nil}, Outcome: "false"},
		}},
		{"dependent", nil, []eval.Step{
			{Path: "$.guidon.requires[0]", Text: `flag "rules" resolves to on`, Seen: map[string]any{"plan": nil, "country": nil, "user.age": nil}, Outcome: "false"},
		}},
	} {
		c, err := eval.NewContext(test.context)
		if err != nil {
			t.Fatal(err)
		}
		e := s.Flag(test.key).Explain(c, 0)
		if diff := cmp.Diff(test.want, e.Trace); diff != "" {
			t.Errorf("Explain(%s, %v) (-want +got):\n%s", test.key, test.context, diff)
		}
		if want := s.Evaluate(test.key, c, 0); e.Resolution != want {
			t.Errorf("Explain(%s, %v) resolves to %q, Evaluate to %q", test.key, test.context, e.Resolution.Variant(), want.Variant())
		}
	}
}

func TestExplainIsolated(t *testing.T) {
	t.Parallel()
	f := compile(t, ruleRow(`{"nonsense":[]}`)).Flag("flag")
	want := []eval.Step{{Path: "$", Text: `$.flag.targeting.nonsense: unknown operator "nonsense"`, Outcome: "null"}}
	if diff := cmp.Diff(want, f.Explain(nil, 0).Trace); diff != "" {
		t.Errorf("Explain of an isolated flag (-want +got):\n%s", diff)
	}
}
