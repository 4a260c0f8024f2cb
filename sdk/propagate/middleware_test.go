package propagate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// service is one HTTP server behind the middleware of p.
func service(t testing.TB, p *propagate.Propagator, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(p.Middleware(handle))
	t.Cleanup(s.Close)
	return s.URL
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// get fetches a URL with headers given as name, value, name, value.
func get(t testing.TB, rawURL string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, rawURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header[pair[0]] = append(r.Header[pair[0]], pair[1])
	}
	return do(t, http.DefaultClient, r)
}

func do(t testing.TB, client *http.Client, r *http.Request) reply {
	t.Helper()
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

// call is a GET under the State of ctx.
func call(ctx context.Context, t testing.TB, p *propagate.Propagator, rawURL string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := do(t, &http.Client{Transport: p.Transport(nil)}, r)
	if len(r.Header) != 0 {
		t.Errorf("Transport wrote %v into the caller's request", r.Header)
	}
	return answer
}

func write(rw http.ResponseWriter, parts ...any) { _, _ = fmt.Fprint(rw, parts...) }

// Three services in a row, each with its own snapshot, answer with one variant
// although the flag changes between root and leaf.
func TestHTTPChain(t *testing.T) {
	t.Parallel()
	w := shop(t)
	var leafHeader, middleHeader string
	leafInstance := w.instance()
	leaf := newPropagator(t, leafInstance)
	leafURL := service(t, leaf, func(rw http.ResponseWriter, r *http.Request) {
		leafHeader = r.Header.Get("Guidon")
		write(rw, leaf.Evaluate(r.Context(), "pricing", eval.Boolean, nil).Variant())
	})
	middle := newPropagator(t, w.instance())
	middleURL := service(t, middle, func(rw http.ResponseWriter, r *http.Request) {
		middleHeader = r.Header.Get("Guidon")
		w.publish(t, flagRow(t, "pricing", "off", "", ""))
		leafInstance.catchUp()
		below := call(r.Context(), t, middle, leafURL)
		write(rw, middle.Evaluate(r.Context(), "pricing", eval.Boolean, nil).Variant(), " ", below.body)
	})
	edge := newPropagator(t, w.instance(), func(c *propagate.Config) {
		c.Mode = propagate.Edge
		c.Context = func(r *http.Request) map[string]any { return map[string]any{"plan": r.URL.Query().Get("plan")} }
	})
	edgeURL := service(t, edge, func(rw http.ResponseWriter, r *http.Request) {
		below := call(r.Context(), t, edge, middleURL)
		write(rw, edge.Evaluate(r.Context(), "pricing", eval.Boolean, nil).Variant(), " ", below.body)
	})
	answer := get(t, edgeURL+"?plan=gold")
	if answer.body != "on on on" {
		t.Errorf("variants = %q, want on on on", answer.body)
	}
	h, err := propagate.Decode(leafHeader)
	if err != nil || leafHeader != middleHeader {
		t.Fatalf("leaf got %q (%v), middle %q, want the same bytes", leafHeader, err, middleHeader)
	}
	if got := answer.header.Get("X-Correlation-ID"); got != h.Correlation {
		t.Errorf("X-Correlation-ID = %q, want %q", got, h.Correlation)
	}
}

// Whatever a caller from outside sends, the handler behind an edge sees a fresh
// root and nothing that looks like ours.
func TestEdgeStrips(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) { c.Mode = propagate.Edge })
	valid := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	var seen http.Header
	var state *propagate.State
	url := service(t, p, func(_ http.ResponseWriter, r *http.Request) {
		seen = r.Header
		state, _ = propagate.FromContext(r.Context())
	})
	get(t, url,
		"Guidon", valid, "Guidon", "second", "guidon_", "a", "gui-don", "b", "GUIDON-SEEN", "c", "Guidon_Seen", "d", "_Guidon", "e",
		"Guidonoverride", "taken", "X-Guidon", "kept", "Guidons", "kept", "Guid", "kept",
		"Baggage", "user=1, guidon=evil;p=1 ,Guidon_x=2", "Baggage", " %67uidon=3", "Baggage", "guild=4",
		"X-Request-Id", "external-request-0001", "X-Correlation-Id", "")
	want := http.Header{
		"X-Guidon": {"kept"}, "Guidons": {"kept"}, "Guid": {"kept"},
		"Baggage": {"user=1", "guild=4"}, "X-Request-Id": {"external-request-0001"}, "X-Correlation-Id": {""},
	}
	maps.DeleteFunc(seen, func(name string, _ []string) bool { return name == "User-Agent" || name == "Accept-Encoding" })
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the handler sees (-want +got):\n%s", diff)
	}
	if h, err := propagate.Decode(valid); err != nil || state.CorrelationID() == h.Correlation || state.Sealed() {
		t.Errorf("the edge followed a header from outside: %v", err)
	}
	if state.ExternalRequestID() != "external-request-0001" {
		t.Errorf("ExternalRequestID = %q, want that of X-Request-ID", state.ExternalRequestID())
	}
	get(t, url, "Guidon", valid)
	stats := p.Stats()
	if stats.Headers[propagate.Stripped] != 2 || stats.Events[propagate.ValidAtEdge] != 1 || stats.Headers[propagate.Verified] != 0 {
		t.Errorf("Stats = %+v, want 2 stripped, 1 of them valid", stats)
	}
}

// Everything that may be wrong with an inbound header: never followed, never an
// error to the caller, counted under its reason, and not passed on unless a
// service further down may be able to read it.
func TestInternalRefuses(t *testing.T) {
	t.Parallel()
	valid := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	unknown := propagate.Key{ID: "k9", Secret: [32]byte{9}}
	foreign := signed(strings.Replace(sampleSigned, "production", "staging", 1), testKey)
	strange := signed(strings.Replace(sampleSigned, `"k1"`, `"k9"`, 1), unknown)
	tests := []struct {
		name      string
		values    []string
		want      propagate.Outcome
		forwarded bool
	}{
		{"none", nil, propagate.Absent, false},
		{"two lines", []string{valid, valid}, propagate.Duplicate, false},
		{"forged", []string{signed(sampleSigned, propagate.Key{ID: "k1"})}, propagate.BadTag, false},
		{"joined", []string{valid + ", " + valid}, propagate.BadTag, false},
		{"cut", []string{valid[:100]}, propagate.Malformed, false},
		{"empty", []string{""}, propagate.Malformed, false},
		{"oversize", []string{strings.Repeat("x", 5000)}, propagate.Oversize, false},
		{"two megabytes", []string{"1;" + strings.Repeat(";s=:", 1<<19)}, propagate.Oversize, false},
		{"not canonical", []string{signed(strings.Replace(sampleSigned, "gold", "%67old", 1), testKey)}, propagate.NotCanonical, false},
		{"foreign environment", []string{foreign}, propagate.ForeignEnvironment, true},
		{"unknown key", []string{strange}, propagate.UnknownKey, true},
		{"unknown version", []string{"2" + valid[1:]}, propagate.UnknownVersion, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPropagator(t, shop(t).instance())
			below := newPropagator(t, shop(t).instance())
			var passed, visible []string
			belowURL := service(t, below, func(_ http.ResponseWriter, r *http.Request) { passed = r.Header["Guidon"] })
			mux := p.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				visible = r.Header["Guidon"]
				call(r.Context(), t, p, belowURL)
				write(rw, p.Evaluate(r.Context(), "banner", eval.Boolean, nil).Variant())
			}))
			server := httptest.NewUnstartedServer(mux)
			server.Config.MaxHeaderBytes = 4 << 20
			server.Start()
			t.Cleanup(server.Close)
			headers := []string{}
			for _, v := range tt.values {
				headers = append(headers, "Guidon", v)
			}
			if answer := get(t, server.URL, headers...); answer.status != http.StatusOK || answer.body != "on" {
				t.Errorf("answer %d %q, want 200 on", answer.status, answer.body)
			}
			for outcome, n := range p.Stats().Headers {
				if want := map[bool]uint64{true: 1}[outcome == tt.want]; n != want {
					t.Errorf("%v counted %d times, want %d", outcome, n, want)
				}
			}
			if tt.forwarded {
				if !cmp.Equal(passed, tt.values) || !cmp.Equal(visible, tt.values) {
					t.Errorf("handler saw %q and passed on %q, want the received bytes", visible, passed)
				}
				return
			}
			if h, err := propagate.Decode(strings.Join(passed, "")); err != nil || h.Root == "4f3c2b1a09d8e7f6" || len(visible) != 0 {
				t.Errorf("handler saw %q and passed on %q, want nothing and a root of its own", visible, passed)
			}
		})
	}
}

// Twelve thousand headers made of good ones by an attacker without the key:
// none is followed, each is counted once.
func TestForgeries(t *testing.T) {
	t.Parallel()
	const seed, tries = 20261123, 12_000
	random := rand.New(rand.NewPCG(seed, seed))
	p := newPropagator(t, shop(t).instance())
	valid := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	other := signed(strings.Replace(sampleSigned, "r=1042", "r=2", 1), testKey)
	tag := func(value string) int { return strings.LastIndex(value, ";s=:") }
	forge := []func(int) []string{
		func(n int) []string { return []string{valid[:n] + string(rune('!'+random.IntN(94))) + valid[n+1:]} }, // changed
		func(n int) []string { return []string{valid[:n]} },                                                   // cut
		func(n int) []string { return []string{valid[n+1:]} },                                                 // beheaded
		func(n int) []string { return []string{valid[:n] + valid[max(0, n-9):]} },                             // doubled inside
		func(n int) []string { return []string{valid[:n] + other[n:]} },                                       // spliced
		func(int) []string { return []string{valid[:tag(valid)] + other[tag(other):]} },                       // another's signature
		func(int) []string { return []string{valid[:tag(valid)] + ";s=::"} },                                  // downgraded
		func(int) []string { return []string{"0" + valid[1:]} },
		func(int) []string { return []string{valid, other} },                    // two lines
		func(int) []string { return []string{valid + "," + other} },             // joined
		func(n int) []string { return []string{strings.Repeat(valid, 15+n%5)} }, // oversize
		func(n int) []string {
			return []string{signed(valid[:tag(valid)], propagate.Key{ID: "k1", Secret: [32]byte{byte(n), 7}})} // own key
		},
	}
	made := uint64(0)
	for n := range tries {
		values := forge[n%len(forge)](random.IntN(len(valid) - 1))
		if len(values) == 1 && (values[0] == valid || values[0] == other) {
			continue
		}
		made++
		if s, _ := propagate.FromContext(p.Extract(t.Context(), propagate.HTTPCarrier{"Guidon": values})); s.Sealed() {
			t.Fatalf("seed %d: followed %q", seed, values)
		}
	}
	counted := uint64(0)
	headers := p.Stats().Headers
	for _, n := range headers {
		counted += n
	}
	if counted != made || headers[propagate.Verified] != 0 || headers[propagate.Absent] != 0 {
		t.Errorf("%d forgeries counted as %v, want each once and none verified", made, headers)
	}
	for _, o := range []propagate.Outcome{propagate.Duplicate, propagate.Oversize, propagate.Malformed, propagate.BadTag, propagate.UnknownKey} {
		if headers[o] == 0 {
			t.Errorf("no forgery counted as %v", o)
		}
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	on := newPropagator(t, i, func(c *propagate.Config) {
		c.Context = func(*http.Request) map[string]any { return map[string]any{"plan": "gold"} }
	})
	off := on.WithMode(propagate.Off)
	var inbound, outbound http.Header
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { outbound = r.Header }))
	t.Cleanup(sink.Close)
	url := service(t, off, func(rw http.ResponseWriter, r *http.Request) {
		inbound = r.Header
		if _, ok := propagate.FromContext(r.Context()); ok {
			t.Error("a State where propagation is off")
		}
		if r := off.Evaluate(r.Context(), "pricing", eval.Boolean, nil); r.Variant() != "on" || r.Pinned != 0 {
			t.Errorf("Evaluate = %+v, want on by what the application knows", answerOf(r))
		}
		if err := propagate.Enrich(r.Context(), map[string]any{"plan": "silver"}); err != nil {
			t.Errorf("Enrich: %v, want nil: nothing is ever sealed", err)
		}
		if r := off.Evaluate(r.Context(), "pricing", eval.Boolean, nil); r.Variant() != "off" {
			t.Errorf("Evaluate = %+v, want off by the enriched plan", answerOf(r))
		}
		call(r.Context(), t, off, sink.URL)
		before := off.Evaluate(r.Context(), "banner", eval.Boolean, nil).Variant()
		w.publish(t, flagRow(t, "banner", "off", "", ""))
		i.catchUp()
		write(rw, before, " ", off.Evaluate(r.Context(), "banner", eval.Boolean, nil).Variant())
	})
	value := signed(sampleSigned, testKey)
	answer := get(t, url, "Guidon", value, "X-Correlation-Id", "0123456789abcdef")
	if answer.body != "on off" {
		t.Errorf("variants = %q, want each at its newest", answer.body)
	}
	if inbound.Get("Guidon") != value || outbound.Get("Guidon") != "" || outbound.Get("X-Correlation-Id") != "0123456789abcdef" {
		t.Errorf("in %v, out %v, want the header left alone and only the correlation ID sent", inbound, outbound)
	}
	if answer.header.Get("X-Correlation-Id") != "0123456789abcdef" {
		t.Errorf("answered %v, want the correlation ID", answer.header)
	}
	if got := off.Stats().Flags[propagate.NoState]; len(got) != 0 {
		t.Errorf("no_state = %v, want none: off is off on purpose", got)
	}
}

// Middleware applied twice roots once.
func TestMiddlewareTwice(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) { c.Mode = propagate.Edge })
	url := service(t, p, p.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP)
	get(t, url)
	if got := p.Stats().Events[propagate.Rooted]; got != 1 {
		t.Errorf("rooted %d times, want once", got)
	}
}

// A Context that evaluates a flag seals the State: what it returns comes too
// late for the pin, and so for everybody.
func TestContextThatEvaluates(t *testing.T) {
	t.Parallel()
	var p *propagate.Propagator
	p = newPropagator(t, shop(t).instance(), func(c *propagate.Config) {
		c.Context = func(r *http.Request) map[string]any {
			p.Evaluate(r.Context(), "pricing", eval.Boolean, nil)
			return map[string]any{"plan": "gold", "host": "a"}
		}
	})
	get(t, service(t, p, func(_ http.ResponseWriter, r *http.Request) {
		for _, key := range []string{"pricing", "tuning"} {
			if got := p.Evaluate(r.Context(), key, eval.Boolean, nil).Variant(); got != "off" {
				t.Errorf("%s = %q, want off: what came after sealing does not count", key, got)
			}
		}
	}))
	if got := p.Stats().Events[propagate.LateEnrich]; got != 1 {
		t.Errorf("late_enrich = %d, want 1", got)
	}
}

// Raw bytes on the wire: what net/http itself refuses never reaches us, the
// rest is answered.
func TestWireOddities(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	address := strings.TrimPrefix(service(t, p, func(http.ResponseWriter, *http.Request) {}), "http://")
	value := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	for name, lines := range map[string]string{
		"lower and upper case": "guidon: " + value + "\r\nGUIDON: " + value,
		"padded":               "guidon:  \t" + value + " \t",
		"tab inside":           "guidon: 1;c=\t",
		"high bytes":           "guidon: \xff\xfe",
		"quote run":            "guidon: " + strings.Repeat(`"`, 4000),
	} {
		connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n\r\n", lines)
		status, readErr := bufio.NewReader(connection).ReadString('\n')
		if err := errors.Join(err, readErr, connection.Close()); err != nil || !strings.Contains(status, "200") {
			t.Errorf("%s: %q, %v, want 200", name, status, err)
		}
	}
	got := p.Stats().Headers
	if got[propagate.Duplicate] != 1 || got[propagate.Verified] != 1 || got[propagate.Malformed] != 3 {
		t.Errorf("Stats = %v, want 1 duplicate, 1 verified, 3 malformed", got)
	}
}
