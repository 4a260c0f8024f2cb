package propagate_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// benchHeader has keys of 26 bytes on average, as section 14 of the
// specification measures.
func benchHeader(t testing.TB, decisions int) propagate.Header {
	h := sampleHeader(t)
	h.Decisions = nil
	for n := range decisions {
		h.Decisions = append(h.Decisions, propagate.Decision{Flag: fmt.Sprintf("checkout.feature-number-%02d", n), Variant: "on", Mark: propagate.MarkRoot})
	}
	return h
}

func benchPropagator(b *testing.B) *propagate.Propagator {
	return newPropagator(b, nil, func(c *propagate.Config) { c.Snapshots = still{shop(b).at(1)} })
}

// benchSigned is the signed part of benchHeader.
func benchSigned(t testing.TB, decisions int) string {
	t.Helper()
	value, err := propagate.Encode(benchHeader(t, decisions), testKey)
	if err != nil {
		t.Fatal(err)
	}
	return value[:strings.LastIndex(value, ";s=:")]
}

func BenchmarkHeaderEncode(b *testing.B) {
	for _, decisions := range []int{0, 1, 5, 10} {
		b.Run(fmt.Sprintf("decisions=%d", decisions), func(b *testing.B) {
			keys, h := ring(b, testKey), benchHeader(b, decisions)
			value, err := keys.Sign(h)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = keys.Sign(h)
			}
			b.ReportMetric(float64(len(value)), "bytes")
		})
	}
}

func BenchmarkHeaderDecode(b *testing.B) {
	keys := ring(b, testKey)
	for _, decisions := range []int{0, 1, 5, 10} {
		b.Run(fmt.Sprintf("decisions=%d", decisions), func(b *testing.B) {
			value := signed(benchSigned(b, decisions), testKey)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keys.Verify(value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	forged := strings.Replace(sampleSigned, "user-77", strings.Repeat("u", 3700), 1)
	forged = signed(forged, propagate.Key{ID: testKey.ID})
	b.Run("forged=4k", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := keys.Verify(forged); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}

// still is a Snapshots that never changes and costs nothing.
type still struct{ snapshot *eval.Snapshot }

func (s still) Snapshot() *eval.Snapshot { return s.snapshot }

func (s still) FlagAt(_ context.Context, key string, _ int64) (*eval.Flag, error) {
	return s.snapshot.Flag(key), nil
}

func (s still) Nearest(_ context.Context, key string, revision int64) (*eval.Flag, int64, error) {
	return s.snapshot.Flag(key), revision, nil
}

func (s still) Emergencies() eval.Emergencies { return s.snapshot.Emergencies() }

func (s still) EmergenciesAt(context.Context, int64) (eval.Emergencies, error) {
	return s.Emergencies(), nil
}

func BenchmarkEvaluate(b *testing.B) {
	p := benchPropagator(b)
	ctx := received(b, p, pinnedAt(b, 1))
	for _, flag := range []string{"banner", "pricing", "split"} {
		b.Run("pinned="+flag, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.Evaluate(ctx, flag, eval.Boolean, nil).Boolean()
			}
		})
	}
}

func BenchmarkRoot(b *testing.B) {
	p := benchPropagator(b)
	attributes := map[string]any{"targetingKey": "user-77", "plan": "gold", "cart": "full"}
	b.ReportAllocs()
	for b.Loop() {
		s, _ := propagate.FromContext(p.Root(context.Background(), attributes))
		if _, ok := s.Header(); !ok {
			b.Fatal("no header")
		}
	}
}

// BenchmarkFirstSeal is what the first request pays that is rooted at a new
// revision: it looks at every flag.
func BenchmarkFirstSeal(b *testing.B) {
	for _, flags := range []int{100, 10_000} {
		rows := []eval.Row{settingsRow(b, shopTravel)}
		for n := range flags {
			rows = append(rows, flagRow(b, fmt.Sprintf("flag-%05d", n), "off", equals([]string{"plan", "country", "targetingKey"}[n%3], "gold"), ""))
		}
		w := newWorld(b, rows...)
		b.Run(fmt.Sprintf("flags=%d", flags), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := newPropagator(b, nil, func(c *propagate.Config) { c.Snapshots = still{w.at(1)} })
				s, _ := propagate.FromContext(p.Root(context.Background(), map[string]any{"plan": "gold"}))
				if _, ok := s.Header(); !ok {
					b.Fatal("no header")
				}
			}
		})
	}
}

// BenchmarkHop is one request through a handler that makes one call, without
// the network: bare, and with Middleware and Transport. The difference is what
// a hop pays.
func BenchmarkHop(b *testing.B) {
	p := benchPropagator(b)
	h := benchHeader(b, 5)
	h.Revision = 1
	value, err := propagate.Encode(h, testKey)
	if err != nil {
		b.Fatal(err)
	}
	var sink discard
	for _, run := range []struct {
		name    string
		handler http.Handler
	}{{"bare", relay(sink)}, {"guidon", p.Middleware(relay(p.Transport(sink)))}} {
		b.Run(run.name, func(b *testing.B) {
			request := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
			request.Header.Set("Guidon", value)
			answer := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				run.handler.ServeHTTP(answer, request)
			}
		})
	}
}

// relay is a handler that makes one call.
func relay(transport http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://127.0.0.1/", nil)
		request.Header.Set("Accept", "application/json")
		_, _ = transport.RoundTrip(request)
	})
}

// BenchmarkLoopbackHop is the same over a real connection.
func BenchmarkLoopbackHop(b *testing.B) {
	p := benchPropagator(b)
	ctx := received(b, p, pinnedAt(b, 1))
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, run := range []struct {
		name      string
		handler   http.Handler
		transport http.RoundTripper
	}{{"bare", empty, http.DefaultTransport}, {"guidon", p.Middleware(empty), p.Transport(nil)}} {
		b.Run(run.name, func(b *testing.B) {
			server := httptest.NewServer(run.handler)
			defer server.Close()
			b.ReportAllocs()
			for b.Loop() {
				request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				response, err := run.transport.RoundTrip(request)
				if err != nil {
					b.Fatal(err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

type discard struct{}

func (discard) RoundTrip(*http.Request) (*http.Response, error) { return nil, nil }
