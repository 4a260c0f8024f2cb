package propagate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

const asksForNearest = `"pinUnavailable":"nearest"`

// collected is a process at revision 6 of a server that keeps revisions from 4
// on. Both flags are on for the plan gold at 1; bold, which asks for the nearest
// revision in its newest definition only, and plain, which does not, are on for
// silver at 3, and for nobody at 6. late, which asks for it, is of 5, and so is
// a variant of bold.
func collected(t testing.TB) (*world, *instance, *propagate.Propagator) {
	t.Helper()
	w := newWorld(t, settingsRow(t, shopTravel),
		flagRow(t, "bold", "off", equals("plan", "gold"), ""), flagRow(t, "plain", "off", equals("plan", "gold"), asksForNearest))
	w.publish(t, flagRow(t, "other", "on", "", ""))
	w.publish(t, flagRow(t, "bold", "off", equals("plan", "silver"), ""), flagRow(t, "plain", "off", equals("plan", "silver"), asksForNearest))
	w.publish(t, flagRow(t, "other", "off", "", ""))
	w.publish(t, flagRow(t, "late", "on", "", asksForNearest))
	w.publish(t, flagRow(t, "bold", "off", "", asksForNearest), flagRow(t, "plain", "off", "", ""))
	i := w.instance()
	i.oldest.Store(4)
	return w, i, newPropagator(t, i)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	silver := pinnedAt(t, 2)
	silver.Attributes = []propagate.Attribute{attribute(t, "p", "silver")}
	kept := silver
	kept.Revision = 4
	on := func(mark propagate.Mark, variant string) propagate.Header {
		h := pinnedAt(t, 2, propagate.Decision{Flag: "bold", Variant: variant, Mark: mark})
		h.Attributes = silver.Attributes
		return h
	}
	type want struct {
		answer
		nearest int64
	}
	for name, c := range map[string]struct {
		header propagate.Header
		flag   string
		want   want
	}{
		"asked for":         {silver, "bold", want{answer{Variant: "on", Reason: eval.ReasonTargetingMatch, Origin: propagate.OriginNearest, Revision: 4, Pinned: 2, Unavailable: true}, 4}},
		"asked for no more": {silver, "plain", want{answer{Reason: eval.ReasonError, Code: eval.CodeGeneral, Origin: propagate.OriginNone, Revision: 2, Pinned: 2, Unavailable: true}, 0}},
		"kept":              {kept, "bold", want{answer{Variant: "on", Reason: eval.ReasonTargetingMatch, Origin: propagate.OriginPin, Revision: 4, Pinned: 4}, 0}},
		"not there yet":     {silver, "late", want{answer{Reason: eval.ReasonDefault, Origin: propagate.OriginNearest, Revision: 4, Pinned: 2, CreatedAfter: true, Unavailable: true}, 4}},
		"overridden": {
			on(propagate.MarkOverride, "off"), "bold",
			want{answer{Variant: "off", Reason: eval.ReasonTargetingMatch, Origin: propagate.OriginOverride, Revision: 4, Pinned: 2, Unavailable: true}, 4},
		},
		"decided at the root": {
			on(propagate.MarkRoot, "off"), "bold",
			want{answer{Variant: "off", Reason: eval.ReasonTargetingMatch, Origin: propagate.OriginRoot, Revision: 4, Pinned: 2, Unavailable: true}, 4},
		},
		"decided for a variant that is not there": {
			on(propagate.MarkRoot, "blue"), "bold",
			want{answer{Variant: "on", Reason: eval.ReasonTargetingMatch, Origin: propagate.OriginNearest, Revision: 4, Pinned: 2, Unavailable: true}, 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, p := collected(t)
			r := p.Evaluate(received(t, p, c.header), c.flag, eval.Boolean, nil)
			if diff := cmp.Diff(c.want, want{answerOf(r), r.Nearest}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("Evaluate (-want +got):\n%s", diff)
			}
			m := r.Metadata()
			if unavailable, _ := m["PIN_UNAVAILABLE"].(bool); unavailable != c.want.Unavailable {
				t.Errorf("PIN_UNAVAILABLE is %v", m["PIN_UNAVAILABLE"])
			}
			if nearest, _ := m["nearestRevision"].(int64); nearest != c.want.nearest {
				t.Errorf("nearestRevision is %v, want %d", m["nearestRevision"], c.want.nearest)
			}
			stats := p.Stats().Flags
			if got := stats[propagate.PinNearest][c.flag]; got != uint64(min(c.want.nearest, 1)) {
				t.Errorf("%d answers as of the nearest counted", got)
			}
			if got := stats[propagate.PinUnavailable][c.flag] == 1; got != c.want.Unavailable {
				t.Errorf("%d pins counted that could not be had", stats[propagate.PinUnavailable][c.flag])
			}
		})
	}
}

// Out of reach is not the same as no longer kept.
func TestNearestOutOfReach(t *testing.T) {
	t.Parallel()
	_, i, p := collected(t)
	i.cut.Store(true)
	r := p.Evaluate(received(t, p, pinnedAt(t, 2)), "bold", eval.Boolean, nil)
	if r.ErrorCode() != eval.CodeGeneral || !r.PinUnavailable || r.Nearest != 0 {
		t.Errorf("Evaluate = %+v, want PIN_UNAVAILABLE", answerOf(r))
	}
}

// A kill after the pin wins, and it needs no definition.
func TestNearestKilled(t *testing.T) {
	t.Parallel()
	w, i, p := collected(t)
	at := w.kill(t, "bold", "off", "false")
	i.catchUp()
	r := p.Evaluate(received(t, p, pinnedAt(t, 2)), "bold", eval.Boolean, nil)
	if r.Variant() != "off" || r.Origin != propagate.OriginEmergency || r.Revision != at || r.PinUnavailable {
		t.Errorf("Evaluate = %+v, want off by the kill", answerOf(r))
	}
}
