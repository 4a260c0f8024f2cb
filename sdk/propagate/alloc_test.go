//go:build !race

package propagate_test

import (
	"net/http"
	"net/http/httptest"
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

func TestRootAllocatesLittle(t *testing.T) {
	p := newPropagator(t, nil, func(c *propagate.Config) { c.Snapshots = still{shop(t).at(1)} })
	attributes := map[string]any{"targetingKey": "user-77", "plan": "gold", "cart": "full"}
	root := func() {
		s, _ := propagate.FromContext(p.Root(t.Context(), attributes))
		if _, ok := s.Header(); !ok {
			t.Fatal("no header")
		}
	}
	if n := testing.AllocsPerRun(100, root); n > 10 {
		t.Errorf("rooting, two decisions and the signature: %v allocations, want at most 10", n)
	}
}

func TestHopAllocatesLittle(t *testing.T) {
	p := newPropagator(t, nil, func(c *propagate.Config) { c.Snapshots = still{shop(t).at(1)} })
	h := benchHeader(t, 5)
	h.Revision = 1
	value, err := propagate.Encode(h, testKey)
	if err != nil {
		t.Fatal(err)
	}
	measure := func(transport http.RoundTripper, middleware func(http.Handler) http.Handler) float64 {
		handler := middleware(relay(transport))
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		request.Header.Set("Guidon", value)
		answer := httptest.NewRecorder()
		return testing.AllocsPerRun(100, func() { handler.ServeHTTP(answer, request) })
	}
	bare := measure(discard{}, func(h http.Handler) http.Handler { return h })
	if n := measure(p.Transport(discard{}), p.Middleware) - bare; n > 14 {
		t.Errorf("a hop: %v allocations beyond those of net/http, want at most 14, since net/http itself adds some for two more headers", n)
	}
}
