package flagdoracle_test

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestServedDefinitions compares flagd on what Guidon serves to its providers,
// with segments and prerequisites inlined, and Guidon on the rows themselves.
func TestServedDefinitions(t *testing.T) {
	theirs := newFlagd(t)
	compared, refused := 0, 0
	for seed := range uint64(400) {
		g := generator{rand.New(rand.NewPCG(seed, 9))}
		required, dependent := g.flag(), g.flag()
		dependent["targeting"] = op("if", map[string]any{"$ref": "common"}, "a", g.branches(2))
		rows := []eval.Row{
			row(t, eval.KindSegment, "common", map[string]any{"segment": g.boolean(2)}),
			row(t, eval.KindFlag, "required", map[string]any{"flag": required}),
			row(t, eval.KindFlag, "dependent", map[string]any{
				"flag":   dependent,
				"guidon": map[string]any{"project": "shop", "requires": []any{map[string]any{"flag": "required", "variants": []any{"on", pick(g, "off", "a", "true", "b")}}}},
			}),
		}
		ours, err := eval.Compile(1, rows)
		if err != nil {
			t.Fatal(err)
		}
		f := ours.Flag("dependent")
		if f.Err() != nil { // a prerequisite that cannot be inlined
			refused++
			continue
		}
		document, err := json.Marshal(map[string]any{"flags": map[string]any{"dependent": json.RawMessage(f.Definition())}})
		if err != nil {
			t.Fatal(err)
		}
		theirs.load(t, document)
		for range 10 {
			context := g.context()
			c, err := eval.NewContext(context)
			if err != nil {
				t.Fatal(err)
			}
			want := theirs.evaluate(t, "dependent", context)
			if want.Code == "PARSE_ERROR" {
				continue
			}
			compared++
			r := f.Evaluate(c, time.Now().Unix())
			if got := (outcome{r.Variant(), string(r.Reason()), string(r.ErrorCode())}); got != want {
				shown, _ := json.Marshal(context)
				t.Errorf("%s\nin %s:\n   guidon %+v\n    flagd %+v", document, shown, got, want)
			}
		}
	}
	t.Logf("compared %d evaluations; %d prerequisites cannot be inlined", compared, refused)
	if compared < 1_000 {
		t.Errorf("only %d evaluations were compared", compared)
	}
}

func row(t *testing.T, kind eval.Kind, name string, document map[string]any) eval.Row {
	t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := eval.Canonical(text)
	if err != nil {
		t.Fatal(err)
	}
	return eval.Row{Kind: kind, Name: name, From: 1, Document: canonical}
}
