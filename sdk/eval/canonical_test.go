package eval_test

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{ "b" : 1 , "a" : [ true , false , null ] }`: `{"a":[true,false,null],"b":1}`,
		`1.0`: `1`, `-0`: `0`, `1e2`: `100`, `1e21`: `1e+21`, `1e-6`: `0.000001`, `1e-7`: `1e-7`, `123456789012345678901`: `123456789012345680000`,
		`333333333.33333329`: `333333333.3333333`, `0.1e-20`: `1e-21`, `5e-324`: `5e-324`,
		`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`:                             `"€$\u000f\nA'B\"\\\\\"/"`,
		`"\b\f\n\r\t\u0001\u001f\u007f"`:                                              "\"\\b\\f\\n\\r\\t\\u0001\\u001f\u007f\"",
		`{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}`: "{\"\\r\":2,\"1\":4,\"\u0080\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\ufb33\":3}",
		`{}`: `{}`, `[]`: `[]`, `{"":""}`: `{"":""}`, `{"aa":1,"a":2,"":3}`: `{"":3,"a":2,"aa":1}`,
	} {
		got, err := eval.Canonical([]byte(text))
		if string(got) != want || err != nil {
			t.Errorf("Canonical(%s) = %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"a":{"b":[1,{"c":1,"c":2}]}}`: "$.a.b[1].c: stands twice", `"\ud800"`: "half a surrogate", `["\udc00\ud800"]`: "$[0]: half a surrogate",
		"\"\xc3\"": "invalid UTF-8", `1e999`: "beyond the range", `NaN`: "a value", `{"a":1}{}`: "the end", ``: "a value", `{"a":+1}`: "$.a: '+'",
		strings.Repeat("[", 200): "nests too deep",
	} {
		if got, err := eval.Canonical([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Canonical(%s) = %s, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzCanonical holds that canonical form is idempotent, means the same, and is
// what another implementation of RFC 8785 makes of it.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		`{"b":1,"a":[1.5,"x",null,true]}`, `"\ud83d\ude80é"`, `[1e300,-0,5e-324,1e21]`, `{"\u0000":"\u001f","é":{},"":[]}`, `{"𐀀":1,"ﬀ":2}`, `[[[[[]]]]]`, `{"a":1,"a":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := eval.Canonical(text)
		if err != nil {
			return
		}
		second, err := eval.Canonical(first)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("Canonical(%s) = %s, and of that %s, %v", text, first, second, err)
		}
		var before, after any
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatalf("encoding/json refuses %s, which Canonical takes: %v", text, err)
		}
		if err := json.Unmarshal(first, &after); err != nil {
			t.Fatalf("Canonical(%s) = %s: %v", text, first, err)
		}
		equalNumbers := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
		if diff := cmp.Diff(before, after, equalNumbers); diff != "" {
			t.Fatalf("Canonical(%s) = %s means something else:\n%s", text, first, diff)
		}
		if first[0] == '{' || first[0] == '[' {
			if theirs, err := jcs.Transform(text); err == nil && !bytes.Equal(first, theirs) {
				t.Fatalf("Canonical(%s) = %s, jcs says %s", text, first, theirs)
			}
		}
	})
}

// FuzzCompile holds that no bytes whatever make compiling, validating, evaluating
// or explaining panic, and that what they come to is consistent.
func FuzzCompile(f *testing.F) {
	for _, rule := range benchRules {
		if len(rule) < 10_000 {
			f.Add([]byte(`{"flag":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":`+rule+`},"guidon":{"project":"p"}}`), []byte(`{"segment":{"var":"x"}}`), []byte(`{"fractional":"v3"}`))
		}
	}
	f.Add([]byte(`{"flag":{"state":"ENABLED","variants":{"a":{"b":1}},"metadata":{"x":1}},"guidon":{"requires":[{"flag":"other","variants":["on"]}],"scope":"local"}}`), []byte(`{"segment":{"$ref":"s"}}`), []byte(`{"travel":[{"attribute":"a","as":"b"}]}`))
	f.Add([]byte(`{"flag":{"state":"ENABLED","variants":{"on":1},"targeting":{"if":[{"$ref":"s"},{"fractional":["x",["on",1]]},{"reduce":[[1,2],{"+":[{"var":"current"},1]},0]}]}}}`), []byte(`{"segment":{"and":[1,{"!":[]}]}}`), []byte(`{}`))
	c, err := eval.NewContext(map[string]any{"targetingKey": "bob", "plan": "pro", "x": []any{1, map[string]any{"y": "z"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, flag, segment, settings []byte) {
		s, err := eval.Compile(3, []eval.Row{
			{Kind: eval.KindFlag, Name: "flag", From: 3, Document: flag},
			{Kind: eval.KindFlag, Name: "other", From: 1, Document: []byte(`{"flag":{"state":"ENABLED","variants":{"on":true},"targeting":{"if":[{"$ref":"s"},"on"]}}}`)},
			{Kind: eval.KindSegment, Name: "s", From: 2, Document: segment},
			{Kind: eval.KindSettings, Name: eval.SettingsName, From: 1, Document: settings},
		})
		if err != nil {
			t.Fatal(err)
		}
		compiled := s.Flag("flag")
		r := compiled.Evaluate(c, 5)
		if isolated := compiled.Err() != nil && compiled.State() == "ENABLED"; isolated != (r.ErrorCode() == eval.CodeParseError) {
			t.Errorf("Err() = %v, but it evaluates to %q %s", compiled.Err(), r.Variant(), r.ErrorCode())
		}
		if e := compiled.Explain(c, 5); e.Resolution != r {
			t.Errorf("Explain resolves to %q, Evaluate to %q", e.Resolution.Variant(), r.Variant())
		}
		if compiled.Err() != nil && s.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"}) == nil {
			t.Errorf("is valid, but %v", compiled.Err())
		}
		if definition := compiled.Definition(); json.Valid(flag) && !json.Valid(definition) {
			t.Errorf("Definition() = %s", definition)
		}
		_, _, _ = compiled.Warnings(), compiled.Reads(), r.Message()
	})
}
