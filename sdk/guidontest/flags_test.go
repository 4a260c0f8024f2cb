package guidontest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/guidontest"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// flags are a client with its provider under a domain of the test's own.
func flags(t *testing.T, values map[string]any, opts ...guidon.Option) (*guidontest.Flags, *openfeature.Client) {
	t.Helper()
	f, err := guidontest.Open(t.Context(), values, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := openfeature.SetNamedProviderAndWait(t.Name(), f.Provider()); err != nil {
		t.Fatal(err)
	}
	return f, openfeature.NewClient(t.Name())
}

func TestSetAndRequest(t *testing.T) {
	t.Parallel()
	f, client := flags(t, map[string]any{"pricing": false, "title": "hello", "rate": 0.5, "limit": 3, "theme": map[string]any{"dark": true}})
	request := f.Request(t.Context(), map[string]any{"targetingKey": "ann"})
	if client.Boolean(request, "pricing", true, openfeature.EvaluationContext{}) {
		t.Error("pricing is on, want what it was opened with")
	}
	if err := f.Set(t.Context(), "pricing", true); err != nil {
		t.Fatal(err)
	}
	if client.Boolean(request, "pricing", true, openfeature.EvaluationContext{}) {
		t.Error("pricing changed under a request that was pinned before")
	}
	if !client.Boolean(f.Request(t.Context(), nil), "pricing", false, openfeature.EvaluationContext{}) {
		t.Error("pricing is off for a new request, want what was set")
	}
	if got := client.String(t.Context(), "title", "", openfeature.EvaluationContext{}); got != "hello" {
		t.Errorf("title = %q, want hello", got)
	}
	if got := client.Int(t.Context(), "limit", 0, openfeature.EvaluationContext{}); got != 3 {
		t.Errorf("limit = %d, want 3", got)
	}
	if err := f.Define(t.Context(), "beta", `{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
		"targeting": {"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on"]}}`); err != nil {
		t.Fatal(err)
	}
	if !client.Boolean(f.Request(t.Context(), map[string]any{"targetingKey": "ann"}), "beta", false, openfeature.EvaluationContext{}) {
		t.Error("beta is off for ann")
	}
	for _, wrong := range []any{nil, []int{1}, func() {}} {
		if err := f.Set(t.Context(), "pricing", wrong); err == nil {
			t.Errorf("Set(%T) succeeded", wrong)
		}
	}
	if err := f.Define(t.Context(), "beta", `{`); err == nil {
		t.Error("Define of no JSON succeeded")
	}
}

// Headers work between two clients of the test's own, since their keys are the
// same.
func TestRequestsTravel(t *testing.T) {
	t.Parallel()
	f, _ := flags(t, map[string]any{"pricing": true}, guidon.WithMode(propagate.Internal))
	var arrived string
	server := httptest.NewServer(f.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived = guidon.CorrelationID(r.Context())
	})))
	t.Cleanup(server.Close)
	ctx := f.Request(t.Context(), nil)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: f.Transport(nil)}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	client.CloseIdleConnections()
	if want := guidon.CorrelationID(ctx); arrived == "" || arrived != want {
		t.Errorf("the correlation ID arrived as %q, want %q", arrived, want)
	}
}

func Example() {
	ctx := context.Background()
	flags, err := guidontest.Open(ctx, map[string]any{"checkout.new-pricing": true})
	if err != nil {
		panic(err)
	}
	defer func() { _ = flags.Close() }()
	if err := openfeature.SetNamedProviderAndWait("checkout", flags.Provider()); err != nil {
		panic(err)
	}
	pricing := func() bool {
		return openfeature.NewClient("checkout").Boolean(flags.Request(ctx, nil), "checkout.new-pricing", false, openfeature.EvaluationContext{})
	}
	fmt.Println(pricing())
	if err := flags.Set(ctx, "checkout.new-pricing", false); err != nil {
		panic(err)
	}
	fmt.Println(pricing())
	// Output:
	// true
	// false
}
