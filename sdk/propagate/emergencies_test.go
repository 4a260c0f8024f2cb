package propagate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// kill makes a revision in which a flag is killed, to a variant of that value,
// and returns its number.
func (w *world) kill(t rapid.TB, flag, variant, value string) int64 {
	t.Helper()
	return w.emergency(t, flag, true, fmt.Sprintf(`{"revision":%d,"value":%s,"variant":%q}`, w.head()+1, value, variant))
}

// unkill lets a flag live again.
func (w *world) unkill(t rapid.TB, flag string) int64 {
	t.Helper()
	return w.emergency(t, flag, false, "")
}

func (w *world) emergency(t rapid.TB, flag string, active bool, entry string) int64 {
	t.Helper()
	var log []string
	for e := range w.at(w.head()).Emergencies().All() {
		if e.Flag == flag {
			log = append(log, fmt.Sprintf(`{"revision":%d,"value":%s,"variant":%q}`, e.Revision, jsonOf(e.Value()), e.Variant))
		}
	}
	if entry != "" {
		log = append(log, entry)
	}
	return w.publish(t, eval.Row{Kind: eval.KindEmergency, Name: flag, Document: canonical(t, fmt.Sprintf(`{"active":%t,"log":[%s]}`, active, strings.Join(log, ",")))})
}

func jsonOf(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// got is an answer in short: variant, value, origin, error.
func got(r propagate.Result) string {
	return fmt.Sprint(r.Variant(), " ", r.Value(), " ", r.Origin, r.ErrorCode())
}

// A kill reaches a request that is pinned before it, where it is known, and goes
// along from there: to whom it is news and to whom it is not.
func TestKillOnTheWay(t *testing.T) {
	t.Parallel()
	w := shop(t)
	a, b, c := w.instance(), w.instance(), w.instance()
	pa, pb, pc := newPropagator(t, a), newPropagator(t, b), newPropagator(t, c)
	ctx := pa.Root(t.Context(), map[string]any{"targetingKey": "u", "plan": "gold", "cart": "full"})
	for flag, want := range map[string]string{"pricing": "on true pin", "stock": "on true root", "banner": "on true root"} {
		if got := got(pa.Evaluate(ctx, flag, eval.Boolean, nil)); got != want {
			t.Fatalf("at the root %s is %q, want %q", flag, got, want)
		}
	}
	if h := header(ctx, t); h.Known != 0 {
		t.Fatalf("the root says k=%d", h.Known)
	}
	e := w.kill(t, "stock", "stop", "false")
	w.publish(t, flagRow(t, "stock", "on", "", "")) // what was killed stays so, whatever its definition
	b.catchUp()

	inB := hop(ctx, pa, pb)
	for flag, want := range map[string]string{"pricing": "on true pin", "stock": "stop false emergency", "banner": "on true root"} {
		if got := got(pb.Evaluate(inB, flag, eval.Boolean, nil)); got != want {
			t.Errorf("where the kill is known %s is %q, want %q", flag, got, want)
		}
	}
	_ = pb.Evaluate(inB, "stock", eval.Boolean, nil)
	if diff := cmp.Diff(map[int64]int64{e: 1}, pb.TakePierced()); diff != "" {
		t.Errorf("TakePierced (-want +got):\n%s", diff)
	}
	if pb.TakePierced() != nil {
		t.Error("TakePierced gives the same again")
	}
	want := []propagate.Decision{{Flag: "banner", Variant: "on", Mark: propagate.MarkRoot}, {Flag: "stock", Variant: "stop", Mark: propagate.MarkEmergency, Emergency: e}}
	if h := header(inB, t); h.Known != e || !cmp.Equal(h.Decisions, want) {
		t.Errorf("the header says k=%d and %v, want %d and %v", h.Known, h.Decisions, e, want)
	}

	// c lags behind: what the header says of stock it must fetch, of others not.
	inC := hop(inB, pb, pc)
	if got := got(pc.Evaluate(inC, "pricing", eval.Boolean, nil)); got != "on true pin" || c.fetches.Load() != 0 {
		t.Errorf("pricing is %q after %d fetches, want on and none", got, c.fetches.Load())
	}
	c.cut.Store(true)
	if r := pc.Evaluate(inC, "stock", eval.Boolean, nil); got(r) != "  <nil> noneGENERAL" && got(r) != " <nil> noneGENERAL" || !r.PinUnavailable {
		t.Errorf("out of reach stock is %q, want an error", got(r))
	}
	c.cut.Store(false)
	if got := got(pc.Evaluate(inC, "stock", eval.Boolean, nil)); got != "stop false emergency" {
		t.Errorf("fetched, stock is %q", got)
	}
	// From then on it knows, and other requests hear of it too.
	other := hop(ctx, pa, pc)
	if got := got(pc.Evaluate(other, "stock", eval.Boolean, nil)); got != "stop false emergency" || header(other, t).Known != e {
		t.Errorf("another request sees stock %q and goes on with k=%d", got, header(other, t).Known)
	}
	if got := got(pc.Evaluate(t.Context(), "stock", eval.Boolean, nil)); got != "stop false emergency" {
		t.Errorf("without a State stock is %q", got)
	}
	if s, _ := propagate.FromContext(inC); s != nil {
		if value, _ := s.Header(); value != "" {
			if got, _ := propagate.Decode(value); got.Known != e {
				t.Errorf("c goes on with k=%d", got.Known)
			}
		}
	}

	// Alive again is for new requests only.
	w.unkill(t, "stock")
	b.catchUp()
	if got := got(pb.Evaluate(inB, "stock", eval.Boolean, nil)); got != "stop false emergency" {
		t.Errorf("alive again the request under way sees stock %q", got)
	}
	fresh := pb.Root(t.Context(), nil)
	if got := got(pb.Evaluate(fresh, "stock", eval.Boolean, nil)); got != "on true pin" || header(fresh, t).Known != 0 {
		t.Errorf("alive again a new request sees stock %q and k=%d", got, header(fresh, t).Known)
	}
}

// Beyond 32 kills a header names none, and whoever lags fetches the log.
func TestManyKills(t *testing.T) {
	t.Parallel()
	for kills, marks := range map[int]int{32: 32, 33: 0} {
		w := shop(t)
		a, b, c := w.instance(), w.instance(), w.instance()
		pa, pb, pc := newPropagator(t, a), newPropagator(t, b), newPropagator(t, c)
		ctx := pa.Root(t.Context(), map[string]any{"plan": "gold"})
		for i := range kills - 1 {
			w.kill(t, fmt.Sprintf("unknown%02d", i), "off", "false")
		}
		k := w.kill(t, "pricing", "off", "false")
		b.catchUp()
		inB := hop(ctx, pa, pb)
		h := header(inB, t)
		named := 0
		for _, d := range h.Decisions {
			if d.Mark == propagate.MarkEmergency {
				named++
			}
		}
		if h.Known != k || named != marks {
			t.Errorf("after %d kills k=%d with %d marks, want %d with %d", kills, h.Known, named, k, marks)
		}
		inC := hop(inB, pb, pc)
		if got := got(pc.Evaluate(inC, "banner", eval.Boolean, nil)); got != "on true root" {
			t.Errorf("after %d kills banner is %q", kills, got)
		}
		if fetched := c.fetches.Load(); fetched > 0 != (marks == 0) {
			t.Errorf("after %d kills a flag that is alive took %d fetches", kills, fetched)
		}
		if got := got(pc.Evaluate(inC, "pricing", eval.Boolean, nil)); got != "off false emergency" {
			t.Errorf("after %d kills pricing is %q", kills, got)
		}
	}
}

// An override loses to a kill, whichever came first; so does a root decision.
func TestKillWins(t *testing.T) {
	t.Parallel()
	w := shop(t)
	before := w.head()
	w.kill(t, "pricing", "off", "false")
	after := w.head()
	for _, pin := range []int64{before, after} {
		for _, mark := range []propagate.Mark{propagate.MarkOverride, propagate.MarkRoot} {
			p := newPropagator(t, w.instance())
			ctx := received(t, p, pinnedAt(t, pin, propagate.Decision{Flag: "pricing", Variant: "on", Mark: mark}))
			if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "off" || r.ErrorCode() != "" {
				t.Errorf("pinned at %d with %c pricing is %q", pin, mark, got(r))
			}
		}
	}
}

// A key that only verifies passes the bytes on, and yet serves the kill.
func TestKillWithoutASigner(t *testing.T) {
	t.Parallel()
	w := shop(t)
	root := newPropagator(t, w.instance())
	ctx := root.Root(t.Context(), map[string]any{"plan": "gold"})
	w.kill(t, "pricing", "off", "false")
	p := newPropagator(t, w.instance(), func(c *propagate.Config) {
		c.Keys = new(propagate.Keyring)
		if err := c.Keys.Set("", []propagate.Key{testKey}); err != nil {
			t.Fatal(err)
		}
	})
	in := hop(ctx, root, p)
	if got := got(p.Evaluate(in, "pricing", eval.Boolean, nil)); got != "off false emergency" {
		t.Errorf("pricing is %q", got)
	}
	sent, _ := propagate.FromContext(ctx)
	passed, _ := propagate.FromContext(in)
	was, _ := sent.Header()
	if is, _ := passed.Header(); is != was {
		t.Errorf("sent on %q, want %q", is, was)
	}
	if _, ok := p.Seen(in); ok {
		t.Error("it answers with a signature of its own")
	}
}

// What a call met further down its answer tells, in the header if it was known
// in time and else in a trailer, up to the edge and not beyond.
func TestSeen(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			t.Parallel()
			w := shop(t)
			a, b := w.instance(), w.instance()
			edge := newPropagator(t, a, func(c *propagate.Config) {
				c.Mode = propagate.Edge
				c.Context = func(*http.Request) map[string]any { return map[string]any{"plan": "gold"} }
			})
			inside := newPropagator(t, b)
			leaf := httptest.NewServer(inside.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if late {
					_, _ = io.WriteString(rw, "…")
					rw.(http.Flusher).Flush()
				}
				w.kill(t, "pricing", "off", "false")
				b.catchUp()
				_, _ = fmt.Fprint(rw, got(inside.Evaluate(r.Context(), "pricing", eval.Boolean, nil)))
			})))
			t.Cleanup(leaf.Close)
			target, _ := url.Parse(leaf.URL)
			var after propagate.Result
			front := httptest.NewServer(edge.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				before := edge.Evaluate(r.Context(), "pricing", eval.Boolean, nil)
				proxy := httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: edge.Transport(nil)}
				proxy.ServeHTTP(rw, r)
				after = edge.Evaluate(r.Context(), "pricing", eval.Boolean, nil)
				if got(before) != "on true pin" {
					t.Errorf("before the call pricing is %q", got(before))
				}
			})))
			t.Cleanup(front.Close)
			answer, err := http.Get(front.URL)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if !strings.HasSuffix(string(text), "off false emergency") || got(after) != "off false emergency" {
				t.Errorf("the leaf saw %q, the root afterwards %q", text, got(after))
			}
			for _, h := range []http.Header{answer.Header, answer.Trailer} {
				for name := range h {
					if propagate.Reserved(name) {
						t.Errorf("the edge answers with %s", name)
					}
				}
			}
			if ids := answer.Header["X-Correlation-Id"]; len(ids) != 1 {
				t.Errorf("the edge answers with the correlation IDs %q, want one", ids)
			}
			if edge.Stats().Events[propagate.Joined] != 1 || edge.Stats().Events[propagate.JoinRefused] != 0 {
				t.Errorf("the edge counts %v", edge.Stats().Events)
			}
		})
	}
}

// Only what is rightly signed as an answer to this very root is joined.
func TestJoinRefused(t *testing.T) {
	t.Parallel()
	w := shop(t)
	a, b := w.instance(), w.instance()
	pa, pb := newPropagator(t, a), newPropagator(t, b)
	ctx, stranger := pa.Root(t.Context(), nil), pa.Root(t.Context(), nil)
	sealed := hop(ctx, pa, pb)
	theirs := hop(stranger, pa, pb)
	w.kill(t, "pricing", "off", "false")
	b.catchUp()
	ours, ok := pb.Seen(sealed)
	other, _ := pb.Seen(theirs)
	if !ok {
		t.Fatal("b tells nothing")
	}
	s, _ := propagate.FromContext(sealed)
	request, _ := s.Header()
	for name, values := range map[string][]string{
		"of another root": {other}, "twice": {ours, ours}, "a request's header": {request}, "cut": {ours[:len(ours)-3]}, "none": {""},
	} {
		before := pa.Stats().Events[propagate.JoinRefused]
		pa.Join(ctx, values)
		if pa.Stats().Events[propagate.JoinRefused] != before+1 || header(ctx, t).Known != 0 {
			t.Errorf("%s: joined, or not counted", name)
		}
	}
	if _, err := ring(t, testKey).Verify(ours); err == nil {
		t.Error("an answer passes for a request's header")
	}
	pa.Join(ctx, []string{ours})
	if header(ctx, t).Known == 0 || pa.Stats().Events[propagate.Joined] != 1 {
		t.Errorf("what was told is not sent on: %v", pa.Stats().Events)
	}
	pa.Join(context.Background(), []string{ours}) // nobody's
}
