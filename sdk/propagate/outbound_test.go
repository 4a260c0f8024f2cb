package propagate_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Destinations that asked for it get the header as baggage, too, beside what
// else is there and in place of an older one.
func TestBaggageOut(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) {
		c.Destinations, c.Baggage = []string{"shop.internal", "plain.internal"}, []string{"shop.internal", "elsewhere.example"}
	})
	ctx := p.Root(t.Context(), map[string]any{"targetingKey": "é 1"})
	s, _ := propagate.FromContext(ctx)
	value, _ := s.Header()
	for host, want := range map[string]bool{"shop.internal:443": true, "plain.internal": false, "elsewhere.example": false} {
		given := http.Header{"Baggage": {"user=1,guidon=old", "a=b;p=1"}}
		sent := p.Outbound(ctx, host, given)
		line := strings.Join(sent["Baggage"], ",")
		_, member, found := strings.Cut(line, "guidon=")
		if found != want || !strings.HasPrefix(line, "user=1,a=b;p=1") {
			t.Errorf("%s gets baggage %q, want ours: %v", host, line, want)
		}
		if plain, err := url.PathUnescape(member); want && (plain != value || err != nil || strings.ContainsAny(member, `,;"\ =`)) {
			t.Errorf("the member is %q, %v, want %q", plain, err, value)
		}
		if got := strings.Join(given["Baggage"], ","); got != "user=1,guidon=old,a=b;p=1" {
			t.Errorf("the caller's headers became %q", got)
		}
	}
}

// A header that comes as baggage alone is followed; beside a plain one of the
// same root it adds the kills it knows of, and otherwise counts for nothing.
func TestBaggageIn(t *testing.T) {
	t.Parallel()
	w := shop(t)
	early := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	late := signed(strings.NewReplacer("r=1042;", "r=1;k=2;", "checkout.new-pricing:on^ ship.express:^", "pricing:off*2").Replace(sampleSigned), testKey)
	stranger := signed(strings.NewReplacer("r=1042", "r=1", "4f3c2b1a", "00000000").Replace(sampleSigned), testKey)
	w.kill(t, "pricing", "off", "false")
	packed := func(value string) string { return "a=b,guidon=" + url.PathEscape(value) + ";p=1" }
	for name, tt := range map[string]struct {
		plain   []string
		baggage []string
		outcome propagate.Outcome
		known   int64
		refused uint64
	}{
		"alone":             {nil, []string{packed(late)}, propagate.Verified, 2, 0},
		"the same":          {[]string{early}, []string{packed(early)}, propagate.Verified, 0, 0},
		"that knows more":   {[]string{early}, []string{packed(late)}, propagate.Verified, 2, 0},
		"that knows less":   {[]string{late}, []string{packed(early)}, propagate.Verified, 2, 0},
		"of another root":   {[]string{early}, []string{packed(stranger)}, propagate.Verified, 0, 1},
		"forged":            {[]string{early}, []string{packed(late[:len(late)-9] + "AAAAAAA=:")}, propagate.Verified, 0, 1},
		"twice":             {[]string{early}, []string{packed(late), packed(late)}, propagate.Verified, 0, 1},
		"twice, alone":      {nil, []string{packed(late) + "," + packed(late)}, propagate.Duplicate, 0, 0},
		"broken, alone":     {nil, []string{"guidon=%zz"}, propagate.Malformed, 0, 0},
		"beside a forgery":  {[]string{"1;rubbish"}, []string{packed(late)}, propagate.Malformed, 0, 0},
		"somebody else's":   {nil, []string{"guidonx=1, xguidon=2"}, propagate.Absent, 0, 0},
		"spaced out, alone": {nil, []string{" guidon = " + url.PathEscape(late)}, propagate.Verified, 2, 0},
	} {
		i := w.instance()
		i.held.Store(1)
		p := newPropagator(t, i)
		handled := false
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header["Guidon"], r.Header["Baggage"] = tt.plain, tt.baggage
		p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			handled = true
			if got := header(r.Context(), t).Known; got != tt.known {
				t.Errorf("%s: goes on with k=%d, want %d", name, got, tt.known)
			}
			if refused := tt.outcome != propagate.Verified && tt.outcome != propagate.Absent; refused && strings.Contains(strings.Join(r.Header["Baggage"], ","), "guidon") {
				t.Errorf("%s: the handler sees %q", name, r.Header["Baggage"])
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
		if s := p.Stats(); !handled || s.Headers[tt.outcome] != 1 || s.Events[propagate.BaggageRefused] != tt.refused {
			t.Errorf("%s: counted %v and %d refused, want one %s and %d", name, s.Headers, s.Events[propagate.BaggageRefused], tt.outcome, tt.refused)
		}
	}
}

// A central router, with middleware of its own and without, hands the bytes through, and
// the answer names one correlation ID.
func TestRouterAnswersOnce(t *testing.T) {
	t.Parallel()
	value := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	for name, plain := range map[string]bool{"with middleware": false, "without": true} {
		w := shop(t)
		leaf, router := newPropagator(t, w.instance()), newPropagator(t, w.instance())
		var passed []string
		upstream := httptest.NewServer(leaf.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = r.Header["Guidon"]
			if got := leaf.Evaluate(r.Context(), "banner", eval.Boolean, nil); got.Pinned != 1 {
				t.Errorf("%s: evaluated at %d", name, got.Pinned)
			}
		})))
		t.Cleanup(upstream.Close)
		target, err := url.Parse(upstream.URL)
		if err != nil {
			t.Fatal(err)
		}
		var proxy http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: router.Transport(nil)}
		if !plain {
			proxy = router.Middleware(proxy)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Guidon", value)
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r)
		if !cmp.Equal(passed, []string{value}) {
			t.Errorf("%s: behind the router %q, want the received bytes", name, passed)
		}
		if ids := answer.Header()["X-Correlation-Id"]; !cmp.Equal(ids, []string{"0198c0de5a7e7f00a1b2c3d4e5f60718"}) {
			t.Errorf("%s: answered correlation IDs %q, want one", name, ids)
		}
	}
}

// A service without Guidon hears the correlation ID, and nothing else of ours.
func TestOutside(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	ctx := p.Root(t.Context(), nil)
	id := propagate.CorrelationID(ctx)
	for _, given := range []http.Header{nil, {"Guidon": {"copied"}, "Guidonseen": {"copied"}, "Gui-Don": {"copied"}}} {
		if got := p.Outbound(ctx, "legacy.example.com:80", given); !cmp.Equal(got, http.Header{"X-Correlation-Id": {id}}) {
			t.Errorf("sent %v, want the correlation ID alone", got)
		}
	}
	own := http.Header{"X-Correlation-Id": {"the-callers-own-id"}}
	if got := p.Outbound(ctx, "legacy.example.com", own); !cmp.Equal(got, own) {
		t.Errorf("sent %v, want the caller's own ID", got)
	}
	for _, host := range []string{"evil.example,a.local", "evil.example/a.local", "evil.example@a.local", ""} {
		if p.Allows(host) {
			t.Errorf("%q is allowed", host)
		}
	}
}
