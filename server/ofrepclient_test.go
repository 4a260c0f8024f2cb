package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/guidon-flags/guidon/store"
)

// OpenFeature's own OFREP client for Go, with the Transport of a service: what it
// evaluates for a request is evaluated at the request's pin, for the request's
// subject, and reached by kills.
func TestGoClientAtThePin(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"), putPlan("staging", "b", "gold"))
	e, err := g.hub.Environment("staging")
	if err != nil {
		t.Fatal(err)
	}
	key := g.key(t, store.KeyServer, "staging")
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.WithoutCancel(t.Context())) })
	// The Propagator of a service is client.Propagator(); it writes the same headers.
	transport := e.Propagator().Transport(nil)
	provider := ofrep.NewProvider(g.url, ofrep.WithBearerToken(key), ofrep.WithClient(&http.Client{Transport: transport}))
	if err := api.SetProviderAndWait(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	client := api.NewClient()
	is := func(ctx context.Context, what, flag, plan string, want bool) {
		t.Helper()
		got, err := client.BooleanValueDetails(ctx, flag, !want, openfeature.NewTargetlessEvaluationContext(map[string]any{"plan": plan}))
		if err != nil || got.Value != want {
			t.Errorf("%s: %s = %v (%v), want %v", what, flag, got.Value, err, want)
		}
	}

	request := e.Propagator().Root(t.Context(), map[string]any{"targetingKey": "ada", "plan": "gold"})
	is(request, "before", "a", "gold", true)
	g.apply(t, "staging", putFlag("staging", "a", "off"), putPlan("staging", "b", "free"))
	is(request, "the request goes on", "a", "free", true)
	is(request, "with the subject that it began with", "b", "free", true)
	is(t.Context(), "without a request", "a", "gold", false)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	is(request, "a kill", "a", "gold", true)
	g.kill(t, "a")
	is(request, "a kill", "a", "gold", false)
}

// One call too many: the client gives the caller's default, and says when to come
// back.
func TestGoClientTooOften(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := start(t, func(o *options) { o.server.Now, o.server.ServerRate = func() time.Time { return now }, 1 })
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.WithoutCancel(t.Context())) })
	if err := api.SetProviderAndWait(t.Context(), ofrep.NewProvider(g.url, ofrep.WithBearerToken(g.key(t, store.KeyServer, "staging")))); err != nil {
		t.Fatal(err)
	}
	client := api.NewClient()
	for range 2 {
		if got, err := client.BooleanValueDetails(t.Context(), "a", false, openfeature.EvaluationContext{}); err != nil || !got.Value {
			t.Fatalf("a = %v, %v, want on", got, err)
		}
	}
	got, err := client.BooleanValueDetails(t.Context(), "a", false, openfeature.EvaluationContext{})
	if err == nil || got.Value || !strings.Contains(err.Error(), "try again after 1") {
		t.Errorf("one too many = %v, %v, want the default and when to come back", got.Value, err)
	}
}
