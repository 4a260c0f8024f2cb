package eval_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// mustCompile compiles one row per flag or segment, for the examples.
func mustCompile(rows ...eval.Row) *eval.Snapshot {
	s, err := eval.Compile(1, rows)
	if err != nil {
		log.Fatal(err)
	}
	return s
}

func mustContext(attributes map[string]any) *eval.Context {
	c, err := eval.NewContext(attributes)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func shopFlag(key, definition string) eval.Row {
	return eval.Row{Kind: eval.KindFlag, Name: key, From: 1, Document: []byte(`{"flag":` + definition + `,"guidon":{"project":"shop"}}`)}
}

func Example() {
	snapshot, err := eval.Compile(1, []eval.Row{{
		Kind: eval.KindFlag, Name: "new-pricing", From: 1,
		Document: []byte(`{
			"flag": {
				"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
				"targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}
			},
			"guidon": {"project": "shop"}
		}`),
	}})
	if err != nil {
		log.Fatal(err)
	}
	pro, err := eval.NewContext(map[string]any{"targetingKey": "bob", "plan": "pro"})
	if err != nil {
		log.Fatal(err)
	}
	r := snapshot.Evaluate("new-pricing", pro, 1_767_225_600)
	on, ok := r.Boolean()
	fmt.Println(on, ok, r.Variant(), r.Reason())
	r = snapshot.Evaluate("new-pricing", nil, 1_767_225_600)
	fmt.Println(r.Value(), r.Variant(), r.Reason())
	// Output:
	// true true on TARGETING_MATCH
	// false off DEFAULT
}

func Example_operators() {
	s := mustCompile(
		shopFlag("region", `{"state":"ENABLED","variants":{"eu":"e","us":"u"},"targeting":
			{"if":[{"in":[{"var":"country"},["de","fr","pl"]]},"eu",{"starts_with":[{"var":"country"},"us"]},"us"]}}`),
		shopFlag("beta", `{"state":"ENABLED","variants":{"true":1,"false":0},"targeting":
			{"and":[{"sem_ver":[{"var":"version"},">=","2.1.0"]},{"some":[{"var":"roles"},{"==":[{"var":""},"tester"]}]}]}}`),
		shopFlag("sale", `{"state":"ENABLED","variants":{"now":1,"over":0},"defaultVariant":"over","targeting":
			{"if":[{"<=":[1000,{"var":"$flagd.timestamp"},2000]},"now"]}}`))
	c := mustContext(map[string]any{"country": "us-ca", "version": "v2.3.0", "roles": []string{"customer", "tester"}})
	for _, key := range []string{"region", "beta", "sale"} {
		fmt.Println(key, s.Evaluate(key, c, 1500).Variant())
	}
	// Output:
	// region us
	// beta true
	// sale now
}

func Example_fractional() {
	s := mustCompile(shopFlag("rollout", `{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"fractional":[["on",10],["off",90]]}}`))
	on := 0
	for i := range 10_000 {
		c := mustContext(map[string]any{"targetingKey": fmt.Sprint("user-", i)})
		if s.Evaluate("rollout", c, 0).Variant() == "on" {
			on++
		}
	}
	fmt.Println(on > 900 && on < 1_100)
	// Output: true
}

func Example_segment() {
	s := mustCompile(
		eval.Row{Kind: eval.KindSegment, Name: "staff", From: 1, Document: []byte(`{"segment":{"ends_with":[{"var":"email"},"@example.com"]}}`)},
		shopFlag("debug", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on"]}}`))
	fmt.Println(s.Evaluate("debug", mustContext(map[string]any{"email": "eve@example.com"}), 0).Variant())
	fmt.Println(s.Flag("debug").Segments(), s.Flag("debug").Reads())
	// Output:
	// on
	// [staff] [email]
}

func Example_prerequisite() {
	s := mustCompile(
		shopFlag("payments", `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"==":[{"var":"country"},"pl"]},"on"]}}`),
		eval.Row{Kind: eval.KindFlag, Name: "checkout", From: 1, Document: []byte(`{
			"flag": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"},
			"guidon": {"project": "shop", "requires": [{"flag": "payments", "variants": ["on"]}]}
		}`)})
	for _, country := range []string{"pl", "de"} {
		fmt.Println(country, s.Evaluate("checkout", mustContext(map[string]any{"country": country}), 0).Variant())
	}
	// Output:
	// pl on
	// de off
}

func ExampleSnapshot_With() {
	first := mustCompile(shopFlag("banner", `{"state":"ENABLED","variants":{"a":"A","b":"B"},"defaultVariant":"a"}`))
	changed := shopFlag("banner", `{"state":"ENABLED","variants":{"a":"A","b":"B"},"defaultVariant":"b"}`)
	changed.From = 2
	second, err := first.With(2, []eval.Row{changed}, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range []*eval.Snapshot{first, second} {
		fmt.Println(s.Revision(), s.Evaluate("banner", nil, 0).Variant(), s.Flag("banner").EffectiveFrom())
	}
	// Output:
	// 1 a 1
	// 2 b 2
}

func ExampleSnapshot_Validate() {
	s := mustCompile(shopFlag("banner", `{"state":"ENABLED","variants":{"a":"A"},"targeting":{"if":[{"regex":[{"var":"email"},".*"]},"b"]}}`))
	err := s.Validate(eval.Name{Kind: eval.KindFlag, Name: "banner"})
	fmt.Println(errors.Is(err, eval.ErrInvalid))
	fmt.Println(err)
	// Output:
	// true
	// flag/banner $.flag.targeting.if[0].regex: unknown operator "regex"
}

func ExampleFlag_Explain() {
	s := mustCompile(shopFlag("rollout", `{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":
		{"if":[{"==":[{"var":"plan"},"free"]},"off",{"fractional":[["on",10],["off",90]]}]}}`))
	e := s.Flag("rollout").Explain(mustContext(map[string]any{"targetingKey": "bob", "plan": "pro"}), 0)
	for _, step := range e.Trace {
		fmt.Println(step.Path, step.Seen, step.Outcome)
		if b := step.Fractional; b != nil {
			fmt.Printf("%q hashes to %d: bucket %d of %d in %v\n", b.Value, b.Hash, b.Bucket, b.Sum, b.Ranges)
		}
	}
	// Output:
	// $.flag.targeting.if[0] map[plan:pro] false
	// $.flag.targeting.if[2] map[targetingKey:bob] "off"
	// "rolloutbob" hashes to 2667656011: bucket 62 of 100 in [{on 0 10} {off 10 100}]
}

func ExampleResolution_As() {
	s := mustCompile(shopFlag("limit", `{"state":"ENABLED","variants":{"low":10,"high":99.5},"defaultVariant":"high"}`))
	r := s.Evaluate("limit", nil, 0)
	fmt.Println(r.As(eval.Float).Value())
	fmt.Println(r.As(eval.Integer).ErrorCode(), r.As(eval.Integer).Message())
	// Output:
	// 99.5
	// TYPE_MISMATCH flag "limit" is of type float
}

func ExampleCanonical() {
	text, err := eval.Canonical([]byte(`{"b": 1.50, "a": [true, "\u00e9"]}`))
	fmt.Println(string(text), err)
	_, err = eval.Canonical([]byte(`{"a": {"b": 1, "b": 2}}`))
	fmt.Println(err)
	// Output:
	// {"a":[true,"é"],"b":1.5} <nil>
	// $.a.b: stands twice in one object
}

func ExampleParseDocument() {
	d, err := eval.ParseDocument([]byte(`{
		"$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@example.com"]}},
		"flags": {"debug": {"state": "ENABLED", "variants": {"on": true, "off": false}, "targeting": {"if": [{"$ref": "staff"}, "on"]}}}
	}`))
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range d.Flags {
		t, err := eval.InferType(f.Definition)
		fmt.Println(f.Key, t, err)
	}
	fmt.Println(string(d.Evaluators["staff"]))
	// Output:
	// debug boolean <nil>
	// {"ends_with":[{"var":"email"},"@example.com"]}
}
