package eval_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func TestParseDocument(t *testing.T) {
	t.Parallel()
	want := eval.Document{
		Flags: []eval.DocumentFlag{
			{"a", json.RawMessage(`{"state":"ENABLED","variants":{"x":1}}`)}, {"b", json.RawMessage(`{"state":"DISABLED"}`)},
		},
		Evaluators: map[string]json.RawMessage{"s": json.RawMessage(`{"var":"x"}`)},
		Metadata:   map[string]any{"team": "t", "n": 1.5, "on": true},
	}
	rest := `"$evaluators":{"s":{ "var" : "x" }},"metadata":{"team":"t","n":1.5,"on":true,"none":null},"$schema":"x","other":[]`
	for _, text := range []string{
		`{"flags":{"b":{"state":"DISABLED"},"a":{"variants":{"x":1},"state":"ENABLED"}},` + rest + `}`,
		`{"flags":[{"key":"a","variants":{"x":1},"state":"ENABLED"},{"key":"b","state":"DISABLED"}],` + rest + `}`,
	} {
		got, err := eval.ParseDocument([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		``: "$: ", `[]`: "$: must be an object", `{}`: "$.flags: must be an object of flags", `{"flags":1}`: "$.flags: must be",
		`{"flags":{"a":1}}`: "$.flags.a: must be an object", `{"flags":{"a b":[]}}`: `$.flags["a b"]: must be`,
		`{"flags":[{}]}`: "$.flags[0].key: must be", `{"flags":[1]}`: "$.flags[0].key: must be", `{"flags":[{"key":""}]}`: "$.flags[0].key",
		`{"flags":[{"key":"a"},{"key":"a"}]}`: `$.flags[1].key: "a" stands twice`,
		`{"flags":{},"$evaluators":[]}`:       "$.$evaluators: must be", `{"flags":{},"$evaluators":{"x":{}}}`: "$.$evaluators.x: is empty",
		`{"flags":{},"metadata":[]}`: "$.metadata: must be", `{"flags":{},"metadata":{"x":{}}}`: "$.metadata.x: is an object",
		`{"flags":{"a":{},"a":{}}}`: "$.flags.a: stands twice",
	} {
		if _, err := eval.ParseDocument([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestInferType(t *testing.T) {
	t.Parallel()
	for variants, want := range map[string]eval.Type{
		`{"a":true,"b":false}`: eval.Boolean, `{"a":"x"}`: eval.String, `{"a":1,"b":-2}`: eval.Integer, `{"a":1,"b":1.5}`: eval.Float, `{"a":1.5,"b":1}`: eval.Float,
		`{"a":1e300}`: eval.Float, `{"a":{}}`: eval.Object,
	} {
		if got, err := eval.InferType([]byte(`{"variants":` + variants + `}`)); got != want || err != nil {
			t.Errorf("InferType(%s) = %s, %v, want %s", variants, got, err, want)
		}
	}
	for definition, want := range map[string]string{
		`{}`: "$.variants", `{"variants":{}}`: "$.variants", `{"variants":{"a":1,"b":"x"}}`: "$.variants.b", `{"variants":{"a":null}}`: "$.variants.a", `{"variants":{"a":[]}}`: "$.variants.a", `{`: "$",
	} {
		if _, err := eval.InferType([]byte(definition)); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("InferType(%s): %v, want an error at %s", definition, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"a": true, "checkout.new-pricing_2": true, "": false, "1a": false, ".a": false, "a b": false, "é": false, "a/b": false,
		strings.Repeat("a", 128): true, strings.Repeat("a", 129): false,
	} {
		if got := eval.ValidKey(key); got != want {
			t.Errorf("ValidKey(%q) = %v", key, got)
		}
	}
	for name, want := range map[string]bool{
		"on": true, "1": true, "-1": true, "a.b_c-D": true, "": false, "a b": false, "ä": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false,
	} {
		if got := eval.ValidVariant(name); got != want {
			t.Errorf("ValidVariant(%q) = %v", name, got)
		}
	}
	for _, kind := range []eval.Kind{eval.KindFlag, eval.KindSegment, eval.KindSettings} {
		if got, err := eval.ParseKind(kind.String()); got != kind || err != nil {
			t.Errorf("ParseKind(%q) = %v, %v", kind, got, err)
		}
	}
	for _, typ := range []eval.Type{eval.Any, eval.Boolean, eval.String, eval.Integer, eval.Float, eval.Object} {
		if got, err := eval.ParseType(typ.String()); got != typ || err != nil {
			t.Errorf("ParseType(%q) = %v, %v", typ, got, err)
		}
	}
	if _, err := eval.ParseKind("flags"); err == nil {
		t.Error("ParseKind accepts flags")
	}
	if _, err := eval.ParseType("number"); err == nil {
		t.Error("ParseType accepts number")
	}
}
