package propagate_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

func TestModeWords(t *testing.T) {
	t.Parallel()
	for m, want := range map[propagate.Mode]string{propagate.Edge: "edge", propagate.Internal: "internal", propagate.Off: "off", 3: "mode(3)"} {
		if got := m.String(); got != want {
			t.Errorf("mode %d is %q, want %q", m, got, want)
		}
	}
	var zero propagate.Mode
	if zero != propagate.Edge {
		t.Errorf("the zero Mode is %v, want edge", zero)
	}
}

func TestNewNamesTheField(t *testing.T) {
	t.Parallel()
	i := shop(t).instance()
	environment := func() string { return "production" }
	for field, c := range map[string]propagate.Config{
		"Snapshots":    {Environment: environment},
		"Environment":  {Snapshots: i},
		"Mode":         {Snapshots: i, Environment: environment, Mode: 9},
		"Destinations": {Snapshots: i, Environment: environment, Destinations: []string{"shop:80"}},
	} {
		if p, err := propagate.New(c); p != nil || err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New without %s: %v, want an error that names it", field, err)
		}
	}
}

// The copies that WithMode makes belong together: one's States count for the other.
func TestWithModeShares(t *testing.T) {
	t.Parallel()
	internal := newPropagator(t, shop(t).instance())
	edge := internal.WithMode(propagate.Edge)
	if internal.Mode() != propagate.Internal || edge.Mode() != propagate.Edge {
		t.Errorf("modes %v and %v, want internal and edge", internal.Mode(), edge.Mode())
	}
	ctx := edge.Extract(t.Context(), propagate.HTTPCarrier{})
	if r := internal.Evaluate(ctx, "banner", eval.Boolean, nil); r.Origin != propagate.OriginRoot {
		t.Errorf("origin %q, want root", r.Origin)
	}
	if edge.Stats().Headers[propagate.Absent] != 1 || internal.Stats().Headers[propagate.Absent] != 1 {
		t.Error("the counters are not shared")
	}
}

// The root's clock is the only one: a flag that changes at a moment has one
// variant for the request, however late a hop runs and whatever its clock says.
func TestClockIsTheRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, flagRow(t, "sale", "off", `{"if":[{">":[{"var":"$flagd.timestamp"},1795435200]},"on","off"]}`, ""))
	now := time.Unix(1795435200, 0)
	at := func(d time.Duration) *propagate.Propagator {
		return newPropagator(t, w.instance(), func(c *propagate.Config) { c.Now = func() time.Time { return now.Add(d) } })
	}
	root := at(0)
	ctx := root.Root(t.Context(), nil)
	for _, skew := range []time.Duration{0, time.Second, 59 * time.Second, 2 * time.Minute, -2 * time.Minute, 30 * 24 * time.Hour} {
		p := at(skew)
		below := hop(ctx, root, p)
		if r := p.Evaluate(below, "sale", eval.Boolean, nil); r.Variant() != "off" {
			t.Errorf("%v later: %q, want off as at the root", skew, r.Variant())
		}
		want := uint64(0)
		if skew.Abs() > time.Minute {
			want = 1
		}
		if got := p.Stats().Events[propagate.ClockSkew]; got != want {
			t.Errorf("%v later: clock_skew = %d, want %d", skew, got, want)
		}
	}
	if r := at(time.Second).Evaluate(at(time.Second).Root(t.Context(), nil), "sale", eval.Boolean, nil); r.Variant() != "on" {
		t.Errorf("a root a second later: %q, want on", r.Variant())
	}
}

func TestHTTPCarrierSpells(t *testing.T) {
	t.Parallel()
	h := http.Header{}
	h.Add("guidon", "a")
	h.Add("GUIDON", "b")
	h.Add("tracestate", "c")
	c := propagate.HTTPCarrier(h)
	if got := c.Values("guidon"); len(got) != 2 {
		t.Errorf("Values = %q, want both lines", got)
	}
	c.Set("guidon", "d")
	c.Set("tracestate", "e")
	if h.Get("Guidon") != "d" || len(h["Guidon"]) != 1 || h.Get("Tracestate") != "e" {
		t.Errorf("after Set: %v", h)
	}
}

func TestStatsWords(t *testing.T) {
	t.Parallel()
	s := newPropagator(t, shop(t).instance()).Stats()
	words := map[string]bool{}
	for kind := range s.Events {
		words[kind.String()] = true
	}
	for outcome := range s.Headers {
		words[outcome.String()] = true
	}
	if len(words) != len(s.Events)+len(s.Headers) || words[""] {
		t.Errorf("%d words for %d kinds and %d outcomes", len(words), len(s.Events), len(s.Headers))
	}
}
