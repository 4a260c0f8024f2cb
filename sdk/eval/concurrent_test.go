package eval_test

import (
	"sync"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestConcurrentUse has readers on one snapshot and one context while others are
// derived from it; the race detector is the judge.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	first := compile(t, segmentRow(t, "s", true), ruleRow(`{"if":[{"$ref":"s"},{"fractional":[["on",1],["off",1]]}]}`))
	c := subject(t, "bob")
	want := first.Evaluate("flag", c, 0)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s := first
			for revision := range 50 {
				if got := first.Evaluate("flag", c, 0); got != want {
					t.Errorf("Evaluate = %q, want %q", got.Variant(), want.Variant())
				}
				_, _, _ = c.Map(), first.Flag("flag").Explain(c, 0), first.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"})
				row := ruleRow(`{"if":[{"$ref":"s"},"on"]}`)
				row.From = int64(revision)
				next, err := s.With(int64(revision), []eval.Row{row}, nil)
				if err != nil {
					t.Errorf("goroutine %d: %v", i, err)
					return
				}
				s = next
			}
		})
	}
	all.Wait()
}
