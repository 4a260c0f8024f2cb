package flagdoracle_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"go.uber.org/zap"
)

// flagd is flagd's JSON evaluator over one document.
type flagd struct{ evaluator *evaluator.JSON }

func newFlagd(t *testing.T) flagd {
	t.Helper()
	quiet := logger.NewLogger(zap.NewNop(), false)
	flags, err := store.NewStore(quiet, []string{"oracle"})
	if err != nil {
		t.Fatal(err)
	}
	return flagd{evaluator.NewJSON(quiet, flags)}
}

func (f flagd) load(t *testing.T, document []byte) {
	t.Helper()
	if err := f.evaluator.SetState(sync.DataSync{FlagData: string(document), Source: "oracle"}); err != nil {
		t.Fatal(err)
	}
}

type outcome struct{ Variant, Reason, Code string }

func (f flagd) evaluate(t *testing.T, key string, context map[string]any) outcome {
	v := f.evaluator.ResolveAsAnyValue(t.Context(), "", key, context)
	o := outcome{Variant: v.Variant, Reason: v.Reason}
	if o.Reason == "FALLBACK" { // its name inside flagd for a code default
		o.Reason = "DEFAULT"
	}
	if v.Error != nil {
		o.Code = v.Error.Error()
	}
	return o
}

func guidon(t *testing.T, document []byte) *eval.Snapshot {
	t.Helper()
	d, err := eval.ParseDocument(document)
	if err != nil {
		t.Fatal(err)
	}
	var rows []eval.Row
	for _, f := range d.Flags {
		rows = append(rows, row(t, eval.KindFlag, f.Key, map[string]any{"flag": f.Definition}))
	}
	for name, rule := range d.Evaluators {
		rows = append(rows, row(t, eval.KindSegment, name, map[string]any{"segment": rule}))
	}
	s, err := eval.Compile(1, rows)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRandomRules compares the two on random rules and contexts.
func TestRandomRules(t *testing.T) {
	const documents, flagsEach, contextsEach = 50, 40, 5
	theirs := newFlagd(t)
	compared, refused := 0, 0
	for seed := range uint64(documents) {
		g := generator{rand.New(rand.NewPCG(seed, 3))}
		flags := map[string]any{}
		for i := range flagsEach {
			flags[fmt.Sprintf("flag%d", i)] = g.flag()
		}
		document, err := json.Marshal(map[string]any{"flags": flags})
		if err != nil {
			t.Fatal(err)
		}
		theirs.load(t, document)
		ours := guidon(t, document)
		for key, flag := range flags {
			for range contextsEach {
				context := g.context()
				c, err := eval.NewContext(context)
				if err != nil {
					t.Fatal(err)
				}
				want := theirs.evaluate(t, key, context)
				if want.Code == "PARSE_ERROR" {
					refused++
					continue
				}
				compared++
				r := ours.Evaluate(key, c, time.Now().Unix())
				if got := (outcome{r.Variant(), string(r.Reason()), string(r.ErrorCode())}); got != want {
					rule, _ := json.Marshal(flag)
					shown, _ := json.Marshal(context)
					t.Errorf("%s %s\nin %s:\n   guidon %+v\n    flagd %+v\n%v", key, rule, shown, got, want, ours.Flag(key).Err())
				}
			}
		}
	}
	t.Logf("compared %d evaluations; flagd's engine stumbled in %d", compared, refused)
	if compared < documents*flagsEach {
		t.Errorf("only %d evaluations were compared: the generator makes too many that flagd refuses", compared)
	}
}
