package eval_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// FuzzEvaluate compares the compiled evaluator with the naive one on random
// rules and contexts, under both bucketing algorithms.
func FuzzEvaluate(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		seed := make([]byte, 20+r.IntN(180))
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(differ)
}

var executions = flag.Int("executions", 5_000, "random rules that TestDifferential compares")

// TestDifferential is FuzzEvaluate without the fuzzer, for runs that are long
// because nothing guides them: go test -run TestDifferential . -executions 10000000
func TestDifferential(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	seed := make([]byte, 400)
	for range *executions {
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		differ(t, seed[:20+r.IntN(380)])
		if t.Failed() {
			return
		}
	}
}

// differ compares the evaluators on what a generator makes of data.
func differ(t *testing.T, data []byte) {
	g := &generator{bytes: data}
	definition := g.flag()
	rows := []eval.Row{quickRow(t, definition)}
	n := naive{flagKey: "flag", v3: g.pick(4) == 1}
	if n.v3 {
		rows = append(rows, eval.Row{Kind: eval.KindSettings, Name: eval.SettingsName, From: 1, Document: []byte(`{"fractional":"v3"}`)})
	}
	compiled := compile(t, rows...).Flag("flag")
	if err := compiled.Err(); err != nil {
		t.Fatalf("%s does not compile: %v", rows[0].Document, err)
	}
	for range 2 {
		context := g.context()
		c, err := eval.NewContext(context)
		if err != nil {
			t.Fatal(err)
		}
		const now = 1_700_000_000
		res := compiled.Evaluate(c, now)
		got := outcome{res.Variant(), string(res.Reason()), string(res.ErrorCode())}
		if want := n.evaluate(definition, context, now); got != want {
			shown, _ := json.Marshal(context)
			t.Errorf("v3=%v\n%s\nin %s:\n got %+v\nwant %+v", n.v3, rows[0].Document, shown, got, want)
		}
	}
}

// quickRow is flagRow for a generated flag, without the cost of canonical form,
// which the fuzzer would pay ten million times.
func quickRow(t *testing.T, definition map[string]any) eval.Row {
	t.Helper()
	rule, err := json.Marshal(definition["targeting"])
	if err != nil {
		t.Fatal(err)
	}
	byDefault, err := json.Marshal(definition["defaultVariant"])
	if err != nil {
		t.Fatal(err)
	}
	document := fmt.Appendf(nil, `{"flag":{"state":"ENABLED","defaultVariant":%s,"targeting":%s,"variants":%s}}`, byDefault, rule, generatedVariants)
	return eval.Row{Kind: eval.KindFlag, Name: "flag", From: 1, Document: document}
}

var generatedVariants = func() []byte {
	text, _ := json.Marshal((&generator{}).flag()["variants"])
	return text
}()
