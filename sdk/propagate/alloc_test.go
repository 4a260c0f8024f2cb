//go:build !race

package propagate_test

import (
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// The path of nearly every evaluation: a sealed State, a flag that nothing has
// changed since the pin.
func TestEvaluateAllocatesNothing(t *testing.T) {
	w := shop(t)
	w.publish(t, flagRow(t, "unrelated", "on", "", ""))
	p := newPropagator(t, w.instance())
	same := map[string]any{"targetingKey": "user-77@example.com", "plan": "gold"}
	root := p.Root(t.Context(), map[string]any{"targetingKey": "user-77@example.com", "plan": "gold", "cart": "full"})
	below := received(t, p, pinnedAt(t, 1, propagate.Decision{Flag: "banner", Variant: "on", Mark: propagate.MarkRoot}))
	for _, tt := range []struct {
		name, flag string
		call       map[string]any
	}{
		{"derivable", "pricing", nil}, {"derivable, same context", "pricing", same}, {"split", "split", nil}, {"root decision", "banner", nil}, {"local", "tuning", nil},
	} {
		for where, ctx := range map[string]func() propagate.Result{
			"at the root": func() propagate.Result { return p.Evaluate(root, tt.flag, eval.Boolean, tt.call) },
			"below":       func() propagate.Result { return p.Evaluate(below, tt.flag, eval.Boolean, tt.call) },
		} {
			if r := ctx(); r.ErrorCode() != eval.CodeNone {
				t.Fatalf("%s %s: %v", tt.name, where, r.Message())
			}
			if n := testing.AllocsPerRun(100, func() { _, _ = ctx().Boolean() }); n != 0 {
				t.Errorf("%s %s: %v allocations, want 0", tt.name, where, n)
			}
		}
	}
}

func TestVerifyAllocatesLittle(t *testing.T) {
	keys := ring(t, testKey)
	value := signed(benchSigned(t, 5), testKey)
	if n := testing.AllocsPerRun(100, func() { _, _ = keys.Verify(value) }); n > 8 {
		t.Errorf("Verify with 5 decisions: %v allocations, want at most 8", n)
	}
	for name, bad := range map[string]string{
		"forged": signed(sampleSigned, propagate.Key{ID: "k1"}), "unknown key": signed(sampleSigned[:len(sampleSigned)-2]+`9"`, testKey), "rubbish": "rubbish",
	} {
		if n := testing.AllocsPerRun(100, func() { _, _ = keys.Verify(bad) }); n != 0 {
			t.Errorf("Verify of a header that is %s: %v allocations, want 0", name, n)
		}
	}
}
