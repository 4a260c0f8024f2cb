package guidon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store/storetest"
)

// A request goes through two services, of which one lags behind the other. With
// the header they agree; without it they cannot.
func TestServicesAgreeThroughTheHeader(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		mode           propagate.Mode
		lagging        string
		here, below    string
		revision, from int64
	}{
		"the one below lags":      {propagate.Internal, "below", "true", "true", 2, 2},
		"the one above lags":      {propagate.Internal, "here", "false", "false", 1, 1},
		"the one below lags, off": {propagate.Off, "below", "true", "false", 2, 1},
		"the one above lags, off": {propagate.Off, "here", "false", "true", 1, 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, boolean("checkout", false))
			gate := make(chan struct{})
			t.Cleanup(func() { close(gate) })
			service := func(name string) *guidon.Client {
				opts := []guidon.Option{guidon.WithMode(c.mode), guidon.WithService(name)}
				if name == c.lagging {
					opts = append(opts, guidon.WithSource(func(source feed.Source) feed.Source { return held{source, 1, gate} }))
				}
				return ready(t, s, opts...)
			}
			here, below := service("here"), service("below")
			s.put(boolean("checkout", true))
			ahead := map[string]*guidon.Client{"here": below, "below": here}[c.lagging]
			storetest.Eventually(t, "revision 2 where nothing lags", func() bool { return ahead.Snapshot().Revision() == 2 })

			inventory := httptest.NewServer(below.Middleware(decide(t, below, nil, "")))
			t.Cleanup(inventory.Close)
			base := new(http.Transport)
			t.Cleanup(base.CloseIdleConnections)
			shop := httptest.NewServer(here.Middleware(decide(t, here, here.Transport(base), inventory.URL)))
			t.Cleanup(shop.Close)
			want := fmt.Sprintf("%s@%d %s@%d", c.here, c.revision, c.below, c.from)
			for range 3 {
				if got := get(t, &http.Client{Transport: base}, shop.URL); got != want {
					t.Errorf("the services say %q, want %q", got, want)
				}
			}
		})
	}
}

// What hands on nothing but baggage gets the header in it.
func TestBaggageCarriesTheHeader(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	below := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Guidon") != "", " ", strings.HasPrefix(r.Header.Get("Baggage"), "guidon="))
	}))
	t.Cleanup(below.Close)
	for want, opts := range map[string][]guidon.Option{"true false": nil, "true true": {guidon.WithBaggage("127.0.0.1")}} {
		here := ready(t, s, opts...)
		base := new(http.Transport)
		t.Cleanup(base.CloseIdleConnections)
		request, err := http.NewRequestWithContext(here.Propagator().Root(t.Context(), nil), http.MethodGet, below.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if got := answered(t, &http.Client{Transport: here.Transport(base)}, request); got != want {
			t.Errorf("header and baggage below: %s, want %s", got, want)
		}
	}
}

// decide answers with the flag's value and revision, and what the service below
// says to the same request.
func decide(t *testing.T, client *guidon.Client, outgoing http.RoundTripper, below string) http.Handler {
	t.Helper()
	flags := connected(t, client).NewClient()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := flags.BooleanValueDetails(r.Context(), "checkout", false, openfeature.EvaluationContext{})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintf(w, "%v@%v", got.Value, got.FlagMetadata["revision"])
		if below == "" {
			return
		}
		request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, below, http.NoBody)
		if err != nil {
			t.Errorf("NewRequest: %v", err)
			return
		}
		response, err := outgoing.RoundTrip(request)
		if err != nil {
			t.Errorf("the call below: %v", err)
			return
		}
		_, _ = io.WriteString(w, " ")
		_, _ = io.Copy(w, response.Body)
		_ = response.Body.Close()
	})
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return answered(t, client, request)
}

func answered(t *testing.T, client *http.Client, request *http.Request) string {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

func TestRequestHelpers(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	if guidon.CorrelationID(t.Context()) != "" || !errors.Is(guidon.Enrich(t.Context(), nil), propagate.ErrNoState) {
		t.Error("a context without a request has a correlation ID or takes attributes")
	}
	ctx := client.Propagator().Root(t.Context(), nil)
	if got := guidon.CorrelationID(ctx); len(got) != 32 {
		t.Errorf("CorrelationID = %q, want 32 hex digits", got)
	}
	if err := guidon.Enrich(ctx, map[string]any{"targetingKey": "ada"}); err != nil {
		t.Errorf("Enrich: %v", err)
	}
	client.Propagator().Evaluate(ctx, "checkout", 0, nil)
	if err := guidon.Enrich(ctx, map[string]any{"plan": "pro"}); !errors.Is(err, propagate.ErrSealed) {
		t.Errorf("Enrich after an evaluation: %v, want ErrSealed", err)
	}
	again := client.Reroot(ctx)
	if guidon.CorrelationID(again) != guidon.CorrelationID(ctx) || guidon.Enrich(again, map[string]any{"plan": "pro"}) != nil {
		t.Error("Reroot made another request, or one that is sealed")
	}
	if got := guidon.CorrelationID(client.Reroot(context.Background())); got == "" {
		t.Error("Reroot of no request made none")
	}
}
