package eval_test

import (
	"encoding/json"
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
	v3 := settingsRow(f, `{"fractional":"v3"}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		g := &generator{bytes: data}
		flag := g.flag()
		rows := []eval.Row{quickRow(t, flag)}
		n := naive{flagKey: "flag", v3: g.pick(4) == 1}
		if n.v3 {
			rows = append(rows, v3)
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
			if want := n.evaluate(flag, context, now); got != want {
				shown, _ := json.Marshal(context)
				t.Errorf("v3=%v\n%s\nin %s:\n got %+v\nwant %+v", n.v3, rows[0].Document, shown, got, want)
			}
		}
	})
}

// quickRow is flagRow for a generated flag, without the cost of canonical form,
// which the fuzzer would pay ten million times.
func quickRow(t *testing.T, flag map[string]any) eval.Row {
	t.Helper()
	rule, err := json.Marshal(flag["targeting"])
	if err != nil {
		t.Fatal(err)
	}
	byDefault, err := json.Marshal(flag["defaultVariant"])
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
