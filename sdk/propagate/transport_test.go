package propagate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// recorder answers every request itself and keeps what would have gone out.
type recorder struct{ sent []*http.Request }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.sent = append(r.sent, request)
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: request}, nil
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list []string
		url  string
		want bool
	}{
		{nil, "http://127.0.0.1:8080/", true},
		{nil, "http://127.8.9.10/", true},
		{nil, "http://[::1]:80/", true},
		{nil, "http://[::ffff:127.0.0.1]/", true},
		{nil, "http://localhost/", true},
		{nil, "http://LOCALHOST./", true},
		{nil, "http://shop.localhost/", true},
		{nil, "http://inventory:80/", true},
		{nil, "http://inventory.shop.svc/", true},
		{nil, "http://a.b.internal/", true},
		{nil, "http://printer.local/", true},
		{nil, "http://example.com/", false},
		{nil, "http://internal.example.com/", false},
		{nil, "http://evillocalhost.com/", false},
		{nil, "http://10.0.0.1/", false},
		{nil, "http://2130706433.example/", false},
		{nil, "http://134744072/", false}, // 8.8.8.8 to many resolvers
		{nil, "http://0x8080808/", false},
		{nil, "http://01002004010/", false},
		{nil, "http://3scale/", true},
		{nil, "http://[2001:db8::1]/", false},
		{[]string{}, "http://127.0.0.1/", false},
		{[]string{"example.com"}, "http://localhost/", false},
		{[]string{"example.com"}, "http://example.com/", true},
		{[]string{"example.com"}, "http://a.Example.COM:81/", true},
		{[]string{"example.com"}, "http://badexample.com/", false},
		{[]string{"example.com"}, "http://example.com.evil.net/", false},
		{[]string{".example.com."}, "http://a.example.com/", true},
		{[]string{"10.0.0.1"}, "http://10.0.0.1/", true},
		{[]string{"10.0.0.1"}, "http://110.0.0.1/", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.list, " ", tt.url), func(t *testing.T) {
			t.Parallel()
			p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) { c.Destinations = tt.list })
			request, err := http.NewRequestWithContext(p.Root(t.Context(), nil), http.MethodGet, tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header["Guidon"] = []string{"copied from an inbound request"}
			request.Header["Baggage"] = []string{"guidon=x"}
			var out recorder
			do(t, &http.Client{Transport: p.Transport(&out)}, request)
			value := out.sent[0].Header.Get("Guidon")
			_, err = propagate.Decode(value)
			if got := err == nil && out.sent[0].Header.Get("X-Correlation-ID") != ""; got != tt.want || !got && value != "" {
				t.Errorf("sent %v, want a header: %v", out.sent[0].Header, tt.want)
			}
			if !tt.want && out.sent[0].Header.Get("Baggage") != "" {
				t.Error("baggage left the zone")
			}
			if request.Header.Get("Guidon") != "copied from an inbound request" {
				t.Error("Transport changed the caller's request")
			}
		})
	}
	if _, err := propagate.New(propagate.Config{Snapshots: shop(t).instance(), Environment: func() string { return "e" }, Destinations: []string{"http://a"}}); err == nil || !strings.Contains(err.Error(), "Destinations") {
		t.Errorf("New with a URL as destination: %v, want an error that names the field", err)
	}
}

// A State that has nothing to send does not let another request's header pass.
func TestTransportWithoutSnapshot(t *testing.T) {
	t.Parallel()
	i := shop(t).instance()
	i.held.Store(-1)
	p := newPropagator(t, i)
	request, err := http.NewRequestWithContext(p.Root(t.Context(), nil), http.MethodGet, "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Guidon", "copied from an inbound request")
	var out recorder
	do(t, &http.Client{Transport: p.Transport(&out)}, request)
	if h := out.sent[0].Header; len(h["Guidon"]) != 0 || h.Get("X-Correlation-Id") == "" {
		t.Errorf("sent %v, want the correlation ID alone", h)
	}
}

// A redirect is an instruction of the server that was called: it does not get
// to send the header elsewhere, not even to a host that is allowed by itself.
func TestRedirects(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	var got []string
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = append(got, fmt.Sprint(r.URL.Path, " ", r.Header.Get("Guidon") != "" && r.Header.Get("X-Correlation-Id") != ""))
		if r.URL.Path == "/moved" {
			http.Redirect(rw, r, "/end", http.StatusFound)
		}
	}))
	t.Cleanup(target.Close)
	source := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = append(got, fmt.Sprint(r.URL.Path, " ", r.Header.Get("Guidon") != ""))
		http.Redirect(rw, r, map[string]string{"/same": "/away", "/away": target.URL + "/moved"}[r.URL.Path], http.StatusFound)
	}))
	t.Cleanup(source.Close)
	request, err := http.NewRequestWithContext(p.Root(t.Context(), nil), http.MethodGet, source.URL+"/same", nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, &http.Client{Transport: p.Transport(nil)}, request)
	if diff := cmp.Diff([]string{"/same true", "/away true", "/moved false", "/end false"}, got); diff != "" {
		t.Errorf("requests that carried the header (-want +got):\n%s", diff)
	}
}

// A reverse proxy behind the middleware passes the pin on and nothing else.
func TestReverseProxy(t *testing.T) {
	t.Parallel()
	w := shop(t)
	p, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
	var seen []string
	leafURL := service(t, leaf, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header["Guidon"] })
	target, err := url.Parse(leafURL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: p.Transport(nil)}
	front := service(t, p, proxy.ServeHTTP)
	value := signed(strings.Replace(sampleSigned, "r=1042", "r=1", 1), testKey)
	get(t, front, "Guidon", value)
	if !cmp.Equal(seen, []string{value}) {
		t.Errorf("behind the proxy: %q, want the received bytes", seen)
	}
	get(t, front, "Guidon", "rubbish")
	if h, err := propagate.Decode(strings.Join(seen, "")); err != nil || h.Revision != 1 {
		t.Errorf("behind the proxy: %q, want the proxy's own root", seen)
	}
	// Connection: guidon asks a proxy to drop the header: absence is safe.
	get(t, front, "Guidon", value, "Connection", "guidon")
	if !cmp.Equal(seen, []string{value}) {
		t.Errorf("with Connection: guidon: %q, want the pin all the same: it travels in the context", seen)
	}
}
