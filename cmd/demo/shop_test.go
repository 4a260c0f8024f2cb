package main

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/open-feature/go-sdk/openfeature"

	"github.com/guidon-flags/guidon/store/storetest"
)

// What the shop is for: while a flag flips and every service learns of it at
// another moment, each request sees one state; and without the header it does
// not.
func TestStorm(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	shop := startShop(t, guidon.url, guidon.key, "--lag", "100ms")
	var out storetest.Log
	code := run(t.Context(), &out, &out, "storm", "--shop", shop.URL, "--guidon", guidon.url, "--key", guidon.admin,
		"--requests", "60", "--flip-every", "20ms", "--concurrency", "6")
	t.Logf("\n%s", &out)
	if code != 0 {
		t.Fatalf("the storm ended with code %d", code)
	}
	stats := shop.stats(t)
	with, without := stats.Counts[on], stats.Counts[off]
	// A pin that could not be had in time is an explicit error, and a matter of
	// how busy the machine is.
	if with.Requests != 60 || with.Torn != 0 || with.Failed != 0 {
		t.Errorf("with propagation: %+v, want 60 requests of which none is torn and none failed", with)
	}
	if without.Requests != 60 || without.Torn == 0 || without.Failed != 0 {
		t.Errorf("without propagation: %+v, want 60 requests of which some are torn", without)
	}
	if stats.Propagation != on {
		t.Errorf("after the storm propagation is %q, want on", stats.Propagation)
	}
	if len(stats.Requests) != keptRequests {
		t.Errorf("the page has %d requests, want the last %d", len(stats.Requests), keptRequests)
	}
	if a := stats.Arrivals; a.Changes == 0 || a.P50 < 100 || a.P99 < a.P50 {
		t.Errorf("arrivals are %+v, want changes that took the lag of the last service, 100 ms, or more", a)
	}
	// All services come to rest at the same revision.
	storetest.Eventually(t, "every service has the last revision", func() bool {
		services := shop.stats(t).Services
		for _, s := range services {
			if s.Revision != services[0].Revision {
				return false
			}
		}
		return true
	})
}

func TestCheckout(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	shop := startShop(t, guidon.url, guidon.key)
	revision := shop.stats(t).Services[0].Revision
	if revision < 1 {
		t.Fatalf("web has revision %d, want 1 or more", revision)
	}

	hop := func(service, parent string, via way, depth int, flags map[string]string) Hop {
		return Hop{Service: service, Parent: parent, Via: via, Depth: depth, Revision: revision, Flags: flags}
	}
	type variants = map[string]string
	inventory := variants{flipped: "off", "inventory.reserve-seconds": "long"}
	for _, m := range []mode{on, off} {
		post(t, shop.URL+"/propagation", string(m), http.StatusOK)
		var a Answer
		get(t, shop.URL+"/checkout?user=ada&plan=team&country=DE", http.StatusOK, &a)
		recommendations := a.Hops[0].Flags["shop.recommendations"]
		if recommendations == "" {
			t.Errorf("propagation %s: no recommendations, want a variant of the split", m)
		}
		want := Answer{CorrelationID: a.CorrelationID, Revision: revision, Hops: []Hop{
			hop("web", "", overHTTP, 0, variants{flipped: "off", "shop.banner": "members", "shop.recommendations": recommendations}),
			hop("cart", "web", overHTTP, 1, variants{flipped: "off", "checkout.free-shipping": "on", "cart.limits": "large"}),
			hop("inventory", "cart", overConnect, 2, inventory),
			hop("pricing", "web", overProxy, 1, variants{flipped: "off", "checkout.free-shipping": "on"}),
			hop("inventory", "pricing", overGRPC, 2, inventory),
			hop("mailer", "web", overJetStream, 1, variants{
				flipped: "off", "checkout.free-shipping": "on", "shop.recommendations": recommendations, "mailer.template": "formal",
			}),
		}}
		if diff := cmp.Diff(want, a, cmpopts.IgnoreFields(Hop{}, "Milliseconds", "Reasons")); diff != "" {
			t.Errorf("propagation %s (-want +got):\n%s", m, diff)
		}
		if len(a.CorrelationID) < 16 {
			t.Errorf("propagation %s: correlation ID %q", m, a.CorrelationID)
		}
		if got := a.Hops[0].Reasons[flipped]; got != "STATIC" {
			t.Errorf("propagation %s: %s has reason %q at web, want STATIC", m, flipped, got)
		}
		if a.Hops[0].Milliseconds < 50 {
			t.Errorf("propagation %s: answered after %v ms, before mailer was called", m, a.Hops[0].Milliseconds)
		}
	}
}

// What comes in from outside never decides, and never breaks anything.
func TestForgedHeader(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	shop := startShop(t, guidon.url, guidon.key)
	var honest Answer
	get(t, shop.URL+"/checkout?user=ada", http.StatusOK, &honest)
	var value strings.Builder
	for _, p := range shop.stats(t).Header {
		value.WriteString(p.Text)
	}
	if !strings.Contains(value.String(), honest.CorrelationID) {
		t.Fatalf("the page shows the header %s, want that of request %s", &value, honest.CorrelationID)
	}
	for name, lines := range map[string][]string{
		"a real one":      {value.String()},
		"two of them":     {value.String(), value.String()},
		"another pin":     {strings.Replace(value.String(), ";r=", ";r=9", 1)},
		"nonsense":        {"1;c"},
		"an oversize one": {strings.Repeat("x", 8000)},
	} {
		for _, to := range []string{shop.URL + "/checkout?user=bob", shop.Services["cart"] + "/hops"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Guidon"] = lines
			var body string
			do(t, req, http.StatusOK, &body)
			if strings.Contains(to, "/checkout") && strings.Contains(body, honest.CorrelationID) {
				t.Errorf("%s: web took over the correlation ID of a header from outside", name)
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	shop := openWithoutGuidon(t)
	for _, body := range []string{"", "maybe", "ON", "on off", strings.Repeat("on", 100)} {
		got := post(t, shop+"/propagation", body, http.StatusBadRequest)
		if !strings.Contains(got, "body") {
			t.Errorf("POST /propagation %q: %s, want an error that names the body", body, got)
		}
	}
	var stats Stats
	get(t, shop+"/stats", http.StatusOK, &stats)
	if stats.Propagation != on {
		t.Errorf("after bad bodies propagation is %q, want on as before", stats.Propagation)
	}
	var got string
	get(t, shop+"/checkout?user="+strings.Repeat("x", 65), http.StatusBadRequest, &got)
	if !strings.Contains(got, "user") {
		t.Errorf("an oversize user: %s, want an error that names it", got)
	}
	get(t, shop+"/stats?after=yesterday", http.StatusBadRequest, &got)
	if !strings.Contains(got, "after") {
		t.Errorf("a bad after: %s, want an error that names it", got)
	}
	get(t, shop+"/propagation", http.StatusMethodNotAllowed, &got)
	get(t, shop+"/nowhere", http.StatusNotFound, &got)
}

func TestPage(t *testing.T) {
	t.Parallel()
	shop := openWithoutGuidon(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var body string
	header := do(t, req, http.StatusOK, &body)
	if got := header.Get("Content-Security-Policy"); got != contentPolicy {
		t.Errorf("Content-Security-Policy is %q", got)
	}
	// The policy forbids these; a browser would drop them without a word.
	for _, inline := range []string{"<style", "style=", "onclick", "<script>", "javascript:"} {
		if strings.Contains(body, inline) {
			t.Errorf("the page has %q, which its policy forbids", inline)
		}
	}
	for path, kind := range map[string]string{"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"} {
		if !strings.Contains(body, "static/"+path) {
			t.Errorf("the page does not use %s", path)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/static/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var content string
		if got := do(t, req, http.StatusOK, &content).Get("Content-Type"); !strings.HasPrefix(got, kind) {
			t.Errorf("%s has type %q, want %s", path, got, kind)
		}
	}
	var healthy string
	get(t, shop+"/healthz", http.StatusOK, &healthy)

	// A page of another site cannot switch the shop.
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, shop+"/propagation", strings.NewReader("off"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://elsewhere.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	do(t, req, http.StatusForbidden, &body)
}

// Without Guidon the shop works with the code's own defaults and says so; when
// Guidon comes, the shop finds it.
func TestGuidonComesLater(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	behind, err := url.Parse(guidon.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.FlushInterval = -1 // a stream
	var there atomic.Bool
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(door.Close) // after the shop, which holds streams through it
	opened, _ := openShop(t, Config{Guidon: door.URL, Key: guidon.key, Listen: "127.0.0.1:0", Propagation: on})
	shop := opened.URLs()["web"]

	var a Answer
	get(t, shop+"/checkout?user=ada", http.StatusOK, &a)
	for _, h := range a.Hops {
		for key, variant := range h.Flags {
			if variant != "" || h.Reasons[key] != "ERROR" {
				t.Errorf("%s at %s without Guidon: %q, %s; want the code's default and ERROR", key, h.Service, variant, h.Reasons[key])
			}
		}
	}
	if a.Torn || a.Revision != 0 || a.CorrelationID == "" || len(a.Hops) != 6 {
		t.Errorf("without Guidon: %+v, want six hops at revision 0 that agree", a)
	}
	var stats Stats
	storetest.Eventually(t, "the shop says why it has no flags", func() bool {
		get(t, shop+"/stats", http.StatusOK, &stats)
		return stats.Services[0].Error != ""
	})
	if s := stats.Services[0]; s.Connected || s.Revision != 0 {
		t.Errorf("web without Guidon: %+v", s)
	}

	there.Store(true)
	storetest.Eventually(t, "all services have flags", func() bool {
		get(t, shop+"/stats", http.StatusOK, &stats)
		for _, s := range stats.Services {
			if !s.Connected || s.Revision == 0 {
				return false
			}
		}
		return true
	})
	storetest.Eventually(t, "evaluations use them", func() bool {
		get(t, shop+"/checkout?user=ada", http.StatusOK, &a)
		return a.Revision > 0 && a.Hops[5].Flags[flipped] == "off"
	})
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args string
		code int
		says string
	}{
		{"", 2, `required flag(s) "guidon", "key"`},
		{"--guidon http://127.0.0.1:1 --key k --propagation maybe", 2, `"maybe"`},
		{"--guidon http://127.0.0.1:1 --key k --lag soon", 2, `"soon"`},
		{"--guidon http://127.0.0.1:1 --key gdn_server_a --lag -1s", 1, "--lag -1s"},
		{"--guidon nowhere --key gdn_server_a", 1, `"nowhere"`},
		{"--guidon http://127.0.0.1:1 --key gdn_server_a --listen nowhere", 1, "web: "},
		{"storm", 2, `"guidon", "key", "shop"`},
		{"storm --shop http://127.0.0.1:1 --guidon http://127.0.0.1:1 --key k --requests 0", 1, "--requests 0"},
		{"storm --shop http://127.0.0.1:1 --guidon http://127.0.0.1:1 --key k", 1, "unavailable"},
		{"surprise", 2, `"surprise"`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			var out storetest.Log
			if code := run(t.Context(), &out, &out, strings.Fields(tt.args)...); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("it says %q, want %q in it", out.String(), tt.says)
			}
		})
	}
}

// The ready file is there while the shop is open, and names all services.
func TestReadyFile(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	shop := startShop(t, guidon.url, guidon.key, "--propagation", "off")
	for _, r := range roles {
		at := shop.Services[r.name]
		if at == "" || !strings.Contains(shop.out.String(), at) {
			t.Errorf("%s has the URL %q, want one that is printed too:\n%s", r.name, at, shop.out)
		}
		var healthy string
		get(t, at+"/healthz", http.StatusOK, &healthy)
	}
	if shop.URL != shop.Services["web"] {
		t.Errorf("the shop's URL is %s, want web's, %s", shop.URL, shop.Services["web"])
	}
	if got := shop.stats(t).Propagation; got != off {
		t.Errorf("started with --propagation off it is %q", got)
	}
	if code := shop.stop(); code != 0 {
		t.Errorf("the shop ended with code %d:\n%s", code, shop.out)
	}
	if _, err := os.Stat(shop.file); !os.IsNotExist(err) {
		t.Errorf("the ready file of a shop that has closed: %v, want %v", err, fs.ErrNotExist)
	}
}

// A request in flight when the shop is told to close gets its whole answer.
func TestCloseDrains(t *testing.T) {
	t.Parallel()
	guidon := startGuidon(t)
	shop, stop := openShop(t, Config{Guidon: guidon.url, Key: guidon.key, Listen: "127.0.0.1:0", Propagation: on})
	if err := shop.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	inside := hook{begun: make(chan struct{})}
	shop.booths[0].flags.AddHooks(&inside)
	stopped := make(chan error, 1)
	go func() {
		<-inside.begun
		stopped <- stop()
	}()
	var a Answer
	get(t, shop.URLs()["web"]+"/checkout", http.StatusOK, &a)
	if len(a.Hops) != 6 || a.Hops[5].Flags[flipped] != "off" {
		t.Errorf("a request in flight got %+v, want six hops that saw their flags", a)
	}
	if err := <-stopped; err != nil {
		t.Errorf("the shop ended with %v", err)
	}
	if _, err := os.Stat(shop.broker.dir); !os.IsNotExist(err) {
		t.Errorf("the mail of a shop that has closed: %v, want %v", err, fs.ErrNotExist)
	}
}

// A hook tells when the first evaluation begins.
type hook struct {
	openfeature.UnimplementedHook
	begun chan struct{}
	once  sync.Once
}

func (h *hook) Before(context.Context, openfeature.HookContext, openfeature.HookHints) (*openfeature.EvaluationContext, error) {
	h.once.Do(func() { close(h.begun) })
	return nil, nil //nolint:nilnil // OpenFeature's way to add nothing
}

// openShop runs a shop, and does not wait for its flags.
func openShop(t *testing.T, config Config) (*Shop, func() error) {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	shop, err := Open(ctx, config)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- shop.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the shop ended with %v", err)
		}
	})
	return shop, stop
}

func openWithoutGuidon(t *testing.T) string {
	t.Helper()
	shop, _ := openShop(t, Config{Guidon: "http://127.0.0.1:1", Key: "gdn_server_none", Listen: "127.0.0.1:0", Propagation: on})
	return shop.URLs()["web"]
}

func post(t *testing.T, url, body string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var answer string
	do(t, req, status, &answer)
	return answer
}
