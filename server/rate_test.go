package server_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// Whatever the protocol, a key draws from one bucket, and who is refused hears
// when to come back.
func TestRates(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		now := time.Now()
		g := start(func(o *options) {
			if o.outermost {
				o.server.Now, o.server.ClientRate, o.server.ServerRate = func() time.Time { return now }, 1, 2
			}
		})
		g.apply(t, "production", visible(putFlag("production", "shown", "on")))
		for kind, limit := range map[store.KeyKind]string{store.KeyClient: "client key", store.KeyServer: "server key"} {
			rate := map[store.KeyKind]int{store.KeyClient: 1, store.KeyServer: 2}[kind]
			key, other := g.key(t, kind, "production"), g.key(t, kind, "production")
			for range 2 * rate { // the clock stands: what may come at once
				if got := g.post(t, ofrepSingle+"shown", key, `{}`); got.status != 200 {
					t.Fatalf("%s: %d %s", kind, got.status, got.body)
				}
			}
			for _, path := range []string{ofrepSingle + "shown", ofrepBulk} {
				if got := g.post(t, path, key, `{}`); got.status != 429 || got.header.Get("Retry-After") != "1" || got.body != "" {
					t.Errorf("%s: %s = %d %v %s, want 429 with Retry-After and no body", kind, path, got.status, got.header, got.body)
				}
			}
			for _, d := range dialects {
				_, err := g.flagdV2(t, d, key).ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "shown"}))
				refusedWith(t, d.name, err)
				stream, err := g.flagdV2(t, d, key).EventStream(t.Context(), asked(&evaluationv2.EventStreamRequest{}))
				if err == nil && !stream.Receive() {
					err = stream.Err()
				}
				refusedWith(t, d.name+" event stream", err)
			}
			if kind == store.KeyServer {
				_, err := g.evaluations(key).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "shown"})
				refusedWith(t, "Connect", err)
			}
			if got := g.post(t, ofrepBulk, other, `{}`); got.status != 200 {
				t.Errorf("%s: another key = %d", kind, got.status)
			}
			if text := g.do(t, http.MethodGet, "/metrics", "").body; !strings.Contains(text, `guidon_rate_limited_total{limit="`+limit+`"} 1`) {
				t.Errorf("%s: the metrics do not count what was refused", kind)
			}
		}
	})
}

// refusedWith wants the error of one call too many.
func refusedWith(t *testing.T, name string, err error) {
	t.Helper()
	refused, ok := err.(*connect.Error) //nolint:errorlint // nothing wraps it
	if !ok || refused.Code() != connect.CodeResourceExhausted || refused.Meta().Get("Retry-After") != "1" {
		t.Errorf("%s: %v, want resource_exhausted with Retry-After", name, err)
	}
}

// An address that asks without a good key is slowed down, and so is one that
// asks too much with keys that anybody may have; services are not.
func TestAddressRate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := start(t, func(o *options) { o.server.Now, o.server.AddressRate = func() time.Time { return now }, 2 })
	g.apply(t, "production", visible(putFlag("production", "shown", "on")))
	client, service := g.key(t, store.KeyClient, "production"), g.key(t, store.KeyServer, "production")
	for range 2 {
		if got := g.post(t, ofrepSingle+"shown", "gdn_server_nonsense", `{}`); got.status != 401 {
			t.Fatalf("without a good key: %d", got.status)
		}
		if got := g.post(t, ofrepSingle+"shown", client, `{}`); got.status != 200 {
			t.Fatalf("with a client key: %d", got.status)
		}
	}
	for _, key := range []string{"gdn_server_nonsense", "", client, g.key(t, store.KeyClient, "production")} {
		if got := g.post(t, ofrepSingle+"shown", key, `{}`); got.status != 429 || got.header.Get("Retry-After") == "" {
			t.Errorf("one too many = %d %v", got.status, got.header)
		}
		if got := g.post(t, "/flagd.evaluation.v1.Service/ResolveBoolean", key, `{"flagKey":"shown"}`); got.status != 429 || got.code() != "resource_exhausted" {
			t.Errorf("one too many of flagd's = %d %s", got.status, got.body)
		}
	}
	if got := g.post(t, ofrepSingle+"shown", service, `{}`); got.status != 200 {
		t.Errorf("a service = %d", got.status)
	}
}

// No route is a way around the bound on who has no good key.
func TestAddressRateOfEveryRoute(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64 // seconds
	began := time.Now()
	g := start(t, func(o *options) {
		o.server.Now = func() time.Time { return began.Add(time.Duration(passed.Load()) * time.Second) }
		o.server.AddressRate = 2
	})
	for _, route := range []struct{ method, path string }{
		{http.MethodPost, ofrepSingle + "shown"},
		{http.MethodPost, ofrepBulk},
		{http.MethodPost, ofrepBulk + "/"},
		{http.MethodPost, auth.State},
		{http.MethodGet, "/guidon/v1/environments/production/revisions/1"},
		{http.MethodPost, guidonv1connect.FlagServiceListProcedure},
		{http.MethodPost, evaluationv1connect.ServiceResolveBooleanProcedure},
	} {
		for n, want := range []int{401, 401, 401, 401, 429, 429} { // the clock stands
			got := g.do(t, route.method, route.path, `{}`, "Content-Type", "application/json", "X-API-Key", "gdn_server_nonsense")
			if got.status != want || (want == 429) != (got.header.Get("Retry-After") != "") {
				t.Errorf("%s %s, call %d: %d %v, want %d", route.method, route.path, n+1, got.status, got.header, want)
			}
		}
		passed.Add(10)
	}
}
