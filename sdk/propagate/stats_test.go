package propagate_test

import (
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// One in a thousand root decisions that can be recomputed is, and one that comes
// out differently is counted.
func TestDivergence(t *testing.T) {
	t.Parallel()
	for variant, diverged := range map[string]uint64{"on": 0, "off": 3} {
		p := newPropagator(t, shop(t).instance())
		ctx := received(t, p, pinnedAt(t, 1, propagate.Decision{Flag: "banner", Variant: variant, Mark: propagate.MarkRoot},
			propagate.Decision{Flag: "stock", Variant: variant, Mark: propagate.MarkRoot}))
		for range 3000 {
			_ = p.Evaluate(ctx, "banner", eval.Boolean, nil)
			_ = p.Evaluate(ctx, "stock", eval.Boolean, nil) // cannot be recomputed
		}
		if got := p.Stats().Events; got[propagate.Compared] != 3 || got[propagate.Diverged] != diverged {
			t.Errorf("decided %s: %d compared and %d diverged, want 3 and %d", variant, got[propagate.Compared], got[propagate.Diverged], diverged)
		}
	}
}

func TestHistograms(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	p := newPropagator(t, i)
	ctx := received(t, p, pinnedAt(t, 1))
	w.publish(t, flagRow(t, "pricing", "off", "", ""))
	i.catchUp()
	ctx = hop(ctx, p, p)
	_ = p.Evaluate(ctx, "nothing", eval.Boolean, nil)
	s := p.Stats()
	if s.HeaderBytes.Count() != 1 || s.HeaderBytes.Sum < 150 || len(s.HeaderBytes.Counts) != len(s.HeaderBytes.Bounds)+1 {
		t.Errorf("header bytes %+v, want one", s.HeaderBytes)
	}
	if s.PinFetchSeconds.Count() != 1 || s.PinFetchSeconds.Bounds[0] != 500*1e-6 {
		t.Errorf("pin fetches %+v, want one", s.PinFetchSeconds)
	}
}

// A targeting key that comes after sealing without one is told apart.
func TestLateSubject(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	h := pinnedAt(t, 1)
	for _, has := range []bool{true, false} {
		h.HasSubject = has
		_ = p.Evaluate(received(t, p, h), "pricing", eval.Boolean, map[string]any{"targetingKey": "late"})
	}
	if got := p.Stats().Events; got[propagate.OtherSubject] != 2 || got[propagate.LateSubject] != 1 {
		t.Errorf("%d of another subject, %d late, want 2 and 1", got[propagate.OtherSubject], got[propagate.LateSubject])
	}
}
