package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server/hub/view"
	"github.com/guidon-flags/guidon/store"
)

// h2c speaks HTTP/2 without TLS, as gRPC does.
func h2c(t testing.TB) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// dialect is one way in which a provider speaks to flagd.
type dialect struct {
	name    string
	client  func(testing.TB) *http.Client
	options []connect.ClientOption
}

func http1(testing.TB) *http.Client { return http.DefaultClient }

var dialects = []dialect{
	{"gRPC", h2c, []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC-Web", http1, []connect.ClientOption{connect.WithGRPCWeb()}},
	{"Connect", http1, nil},
	{"Connect JSON", http1, []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect over HTTP/2", h2c, nil},
}

func (g *guidon) flagdV2(t testing.TB, d dialect, key string) evaluationv2connect.ServiceClient {
	return evaluationv2connect.NewServiceClient(d.client(t), g.url, append(d.options, withKey(key))...)
}

func (g *guidon) flagdV1(t testing.TB, d dialect, key string) evaluationv1connect.ServiceClient {
	return evaluationv1connect.NewServiceClient(d.client(t), g.url, append(d.options, withKey(key))...)
}

func structOf(t testing.TB, m map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asked is a request with headers.
func asked[T any](message *T, header ...string) *connect.Request[T] {
	r := connect.NewRequest(message)
	for i := 0; i < len(header); i += 2 {
		r.Header().Set(header[i], header[i+1])
	}
	return r
}

func TestFlagdEvaluates(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		g.apply(t, "production",
			putFlag("production", "plain", "on"), putPlan("production", "targeted", "pro"), putFlag("production", "dark", "on"),
			putDefinition("production", "price", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"now": 9.5, "then": 12}, "defaultVariant": "then",
				"targeting": map[string]any{"if": []any{map[string]any{"var": "now"}, "now"}},
			}),
			putDefinition("production", "theme", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"dark": map[string]any{"bg": "#000"}}, "defaultVariant": "dark",
			}),
			putDefinition("production", "caller", map[string]any{"state": "ENABLED", "variants": map[string]any{"a": "x"}}),
			putDefinition("production", "astray", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"a": "x"}, "defaultVariant": "a", "targeting": map[string]any{"var": "variant"},
			}),
		)
		g.apply(t, "production", setState("production", "dark", "DISABLED"))
		key := g.key(t, store.KeyServer, "production")
		for _, d := range dialects {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				v2, v1, ctx := g.flagdV2(t, d, key), g.flagdV1(t, d, key), t.Context()
				on, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "plain"}))
				if err != nil || !on.Msg.GetValue() || on.Msg.Value == nil || on.Msg.GetVariant() != "on" || on.Msg.GetReason() != "STATIC" ||
					on.Msg.GetMetadata().AsMap()["flagSetId"] != "default" || on.Msg.GetMetadata().AsMap()["version"] != 2.0 {
					t.Errorf("plain = %v, %v", on, err)
				}
				matched, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{
					FlagKey: "targeted", Context: structOf(t, map[string]any{"plan": "pro"}),
				}))
				if err != nil || !matched.Msg.GetValue() || matched.Msg.GetReason() != "TARGETING_MATCH" {
					t.Errorf("targeted = %v, %v", matched, err)
				}
				whole, err := v2.ResolveInt(ctx, asked(&evaluationv2.ResolveIntRequest{FlagKey: "price"}))
				if err != nil || whole.Msg.GetValue() != 12 || whole.Msg.GetReason() != "DEFAULT" {
					t.Errorf("price = %v, %v", whole, err)
				}
				half, err := v2.ResolveFloat(ctx, asked(&evaluationv2.ResolveFloatRequest{FlagKey: "price", Context: structOf(t, map[string]any{"now": true})}))
				if err != nil || half.Msg.GetValue() != 9.5 {
					t.Errorf("price now = %v, %v", half, err)
				}
				theme, err := v2.ResolveObject(ctx, asked(&evaluationv2.ResolveObjectRequest{FlagKey: "theme"}))
				if err != nil || theme.Msg.GetValue().AsMap()["bg"] != "#000" {
					t.Errorf("theme = %v, %v", theme, err)
				}
				// The caller's default: absent in v2; in v1 an error, or zero if disabled.
				none, err := v2.ResolveString(ctx, asked(&evaluationv2.ResolveStringRequest{FlagKey: "caller"}))
				if err != nil || none.Msg.Value != nil || none.Msg.Variant != nil || none.Msg.GetReason() != "DEFAULT" {
					t.Errorf("caller = %v, %v", none, err)
				}
				dark, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "dark"}))
				if err != nil || dark.Msg.Value != nil || dark.Msg.Variant != nil || dark.Msg.GetReason() != "DISABLED" {
					t.Errorf("dark = %v, %v", dark, err)
				}
				dark1, err := v1.ResolveBoolean(ctx, asked(&evaluationv1.ResolveBooleanRequest{FlagKey: "dark"}))
				if err != nil || dark1.Msg.GetValue() || dark1.Msg.GetVariant() != "" || dark1.Msg.GetReason() != "DISABLED" {
					t.Errorf("dark in v1 = %v, %v", dark1, err)
				}
				for name, tt := range map[string]struct {
					want connect.Code
					call func() error
				}{
					"unknown": {connect.CodeNotFound, func() error {
						_, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "none"}))
						return err
					}},
					"no default variant in v1": {connect.CodeNotFound, func() error {
						_, err := v1.ResolveString(ctx, asked(&evaluationv1.ResolveStringRequest{FlagKey: "caller"}))
						return err
					}},
					"of another type": {connect.CodeInvalidArgument, func() error {
						_, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "theme"}))
						return err
					}},
					"not whole": {connect.CodeInvalidArgument, func() error {
						_, err := v2.ResolveInt(ctx, asked(&evaluationv2.ResolveIntRequest{FlagKey: "price", Context: structOf(t, map[string]any{"now": true})}))
						return err
					}},
					"astray": {connect.CodeInternal, func() error {
						_, err := v1.ResolveString(ctx, asked(&evaluationv1.ResolveStringRequest{FlagKey: "astray", Context: structOf(t, map[string]any{"variant": "b"})}))
						return err
					}},
					"bad selector": {connect.CodeInvalidArgument, func() error {
						_, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "plain"}, view.SelectorHeader, "color=red"))
						return err
					}},
					"not in the selection": {connect.CodeNotFound, func() error {
						_, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "plain"}, view.SelectorHeader, "flagSetId=shop"))
						return err
					}},
				} {
					if err := tt.call(); connect.CodeOf(err) != tt.want {
						t.Errorf("%s: %v, want %v", name, err, tt.want)
					}
				}
				all, err := v1.ResolveAll(ctx, asked(&evaluationv1.ResolveAllRequest{}, view.SelectorHeader, "default"))
				if err != nil || len(all.Msg.GetFlags()) != 6 || all.Msg.GetFlags()["caller"] != nil || !all.Msg.GetFlags()["plain"].GetBoolValue() ||
					all.Msg.GetMetadata().AsMap()["source"] != "default" || all.Msg.GetFlags()["plain"].GetMetadata().AsMap()["source"] != "default" {
					t.Errorf("all = %v, %v", all, err)
				}
			})
		}
		// flagd's former name for the service, its JSON, and members that nobody knows.
		old := g.post(t, "/schema.v1.Service/ResolveBoolean", key, `{"flagKey":"dark","whatever":1}`)
		if body := parsed(t, old.body); old.status != 200 || body["value"] != false || body["variant"] != "" || body["reason"] != "DISABLED" {
			t.Errorf("schema.v1 = %d %s", old.status, old.body)
		}
		if got := g.post(t, "/flagd.evaluation.v2.Service/ResolveBoolean", "", `{"flagKey":"plain"}`); got.status != 401 {
			t.Errorf("without a key: %d %s", got.status, got.body)
		}
	})
}

// events reads the events of a stream, passing over signs of life.
type events struct {
	*connect.ServerStreamForClient[evaluationv2.EventStreamResponse]
}

func (e events) next(t testing.TB) *evaluationv2.EventStreamResponse {
	t.Helper()
	for e.Receive() {
		if e.Msg().GetType() != "keep_alive" {
			return e.Msg()
		}
	}
	t.Fatalf("the stream ended: %v", e.Err())
	return nil
}

func TestFlagdEventStream(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start(func(o *options) { o.server.Recheck = 10 * time.Millisecond; o.server.Drain = time.Millisecond })
		g.apply(t, "production", putFlag("production", "a", "on"), inProject("shop", putFlag("production", "b", "on")))
		id, text := g.create(t, store.NewKey{Kind: store.KeyServer, Environment: "production", Name: "revoked"})
		open := func(d dialect, key string, header ...string) events {
			stream, err := g.flagdV2(t, d, key).EventStream(t.Context(), asked(&evaluationv2.EventStreamRequest{}, header...))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stream.Close() })
			return events{stream}
		}
		key := g.key(t, store.KeyServer, "production")
		var all []events
		for _, d := range dialects[:4] {
			all = append(all, open(d, key))
		}
		shop, revoked := open(dialects[0], key, view.SelectorHeader, "flagSetId=shop"), open(dialects[0], text)
		for _, e := range append(all, shop, revoked) {
			if got := e.next(t); got.GetType() != "provider_ready" {
				t.Fatalf("the first event is %v", got)
			}
		}
		g.apply(t, "production", putFlag("production", "a", "off"), putFlag("production", "c", "on"))
		want := map[string]any{"flags": map[string]any{"a": map[string]any{"type": "update"}, "c": map[string]any{"type": "write"}}}
		for i, e := range all {
			if got := e.next(t); got.GetType() != "configuration_change" || !cmp.Equal(want, got.GetData().AsMap()) {
				t.Errorf("%s: %v, want %v", dialects[i].name, got, want)
			}
		}
		g.apply(t, "production", putFlag("production", "b", "off"))
		if got := shop.next(t); !cmp.Equal(map[string]any{"flags": map[string]any{"b": map[string]any{"type": "update"}}}, got.GetData().AsMap()) {
			t.Errorf("under a selector: %v", got)
		}
		if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: id, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		for revoked.Receive() {
		}
		if connect.CodeOf(revoked.Err()) != connect.CodeUnauthenticated {
			t.Errorf("the stream of a revoked key ended with %v", revoked.Err())
		}
		g.stop()
		last := ""
		for shop.Receive() {
			last = shop.Msg().GetType()
		}
		if last != "provider_shutdown" {
			t.Errorf("the last event is %q", last)
		}
	})
}

// A request that carries a pin is answered at it, whatever is published
// meanwhile, and with nothing of the operator's context.
func TestFlagdPinned(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		contexts, err := view.NewContexts(map[string]string{"plan": "static"}, map[string]string{"X-Plan": "plan"})
		if err != nil {
			t.Fatal(err)
		}
		g := start(func(o *options) { o.server.Contexts = contexts })
		settings := &guidonv1.Operation{Operation: &guidonv1.Operation_PutSettings{PutSettings: &guidonv1.PutSettings{
			Environment: "production", Settings: &guidonv1.Settings{Fractional: "v2", Travel: []*guidonv1.TravelAttribute{{Attribute: "plan"}}},
		}}}
		old := g.apply(t, "production", settings, putFlag("production", "a", "on"), putPlan("production", "b", "pro"))
		key := g.key(t, store.KeyServer, "production")
		plan, _ := propagate.NewAttribute("plan", "pro")
		header := g.minted(t, "production", propagate.Header{Revision: old, Attributes: []propagate.Attribute{plan}})
		for range 3 {
			g.apply(t, "production", putFlag("production", "a", "off"), putPlan("production", "b", "static"))
			g.apply(t, "production", putFlag("production", "a", "off"), putPlan("production", "b", "mapped"))
		}
		ctx := t.Context()
		for _, d := range dialects {
			v2, v1 := g.flagdV2(t, d, key), g.flagdV1(t, d, key)
			for flag, reason := range map[string]string{"a": "PINNED", "b": "TARGETING_MATCH"} {
				pinned2, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{FlagKey: flag}, "Guidon", header, "X-Plan", "mapped"))
				if err != nil || !pinned2.Msg.GetValue() || pinned2.Msg.GetReason() != reason || pinned2.Msg.GetMetadata().AsMap()["pinnedRevision"] != float64(old) {
					t.Errorf("%s: %s at the pin = %v, %v", d.name, flag, pinned2, err)
				}
				pinned1, err := v1.ResolveBoolean(ctx, asked(&evaluationv1.ResolveBooleanRequest{FlagKey: flag}, "Guidon", header))
				if err != nil || !pinned1.Msg.GetValue() || pinned1.Msg.GetReason() != reason {
					t.Errorf("%s: %s at the pin in v1 = %v, %v", d.name, flag, pinned1, err)
				}
			}
			all, err := v1.ResolveAll(ctx, asked(&evaluationv1.ResolveAllRequest{}, "Guidon", header))
			if err != nil || !all.Msg.GetFlags()["a"].GetBoolValue() || !all.Msg.GetFlags()["b"].GetBoolValue() || all.Msg.GetMetadata().AsMap()["revision"] != float64(old) {
				t.Errorf("%s: all at the pin = %v, %v", d.name, all, err)
			}
			// Without the header: newest, and the operator's context above the caller's.
			mapped, err := v2.ResolveBoolean(ctx, asked(&evaluationv2.ResolveBooleanRequest{
				FlagKey: "b", Context: structOf(t, map[string]any{"plan": "pro"}),
			}, "X-Plan", "mapped"))
			if err != nil || !mapped.Msg.GetValue() {
				t.Errorf("%s: b with a mapped header = %v, %v", d.name, mapped, err)
			}
		}
		if got := g.post(t, ofrepSingle+"b", key, `{"context":{"plan":"pro"}}`, "X-Plan", "mapped"); !strings.Contains(got.body, `"variant":"on"`) {
			t.Errorf("b over OFREP with a mapped header = %s", got.body)
		}
		if got := g.post(t, ofrepSingle+"b", key, `{}`, "Guidon", header, "X-Plan", "mapped"); !strings.Contains(got.body, `"variant":"on"`) {
			t.Errorf("b over OFREP at the pin = %s", got.body)
		}
	})
}

func TestFlagdSync(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		contexts, err := view.NewContexts(map[string]string{"region": "eu"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		g := start(func(o *options) { o.server.Contexts = contexts })
		segment := &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{
			Environment: "production", Name: "staff", Condition: structpb.NewStructValue(structOf(t, map[string]any{"ends_with": []any{map[string]any{"var": "email"}, "@x.nz"}})),
		}}}
		g.apply(t, "production", segment,
			putDefinition("production", "a", map[string]any{
				"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
				"targeting": map[string]any{"if": []any{map[string]any{"$ref": "staff"}, "on"}}, "metadata": map[string]any{"team": "cart"},
			}),
			inProject("shop", putFlag("production", "b", "on")))
		key := g.key(t, store.KeyServer, "production")
		for _, d := range dialects {
			client := syncv1connect.NewFlagSyncServiceClient(d.client(t), g.url, append(d.options, withKey(key))...)
			ctx, cancel := context.WithCancel(t.Context())
			whole, err := client.SyncFlags(ctx, asked(&syncv1.SyncFlagsRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			part, err := client.SyncFlags(ctx, asked(&syncv1.SyncFlagsRequest{Selector: "flagSetId=default"}, view.SelectorHeader, "shop")) //nolint:staticcheck // older providers send it
			if err != nil {
				t.Fatal(err)
			}
			if !whole.Receive() || !part.Receive() {
				t.Fatalf("%s: %v, %v", d.name, whole.Err(), part.Err())
			}
			text := whole.Msg().GetFlagConfiguration()
			if strings.Contains(text, "$ref") || !strings.Contains(text, "@x.nz") || !strings.Contains(text, `"team":"cart"`) || !strings.Contains(text, `"flagSetId":"shop"`) || !strings.Contains(text, `"source":"shop"}`) ||
				whole.Msg().GetSyncContext().AsMap()["region"] != "eu" {
				t.Errorf("%s: %s with %v", d.name, text, whole.Msg().GetSyncContext())
			}
			if text := part.Msg().GetFlagConfiguration(); strings.Contains(text, `"a":`) || !strings.Contains(text, `"metadata":{"source":"shop"}}`) {
				t.Errorf("%s: under a selector: %s", d.name, text)
			}
			// News of another project is none; news of this one is the full state.
			g.apply(t, "production", putFlag("production", "a"+strings.ReplaceAll(d.name, " ", "")[:4], "on"))
			g.apply(t, "production", setState("production", "b", "DISABLED"))
			if !part.Receive() || !strings.Contains(part.Msg().GetFlagConfiguration(), "DISABLED") {
				t.Errorf("%s: %v after a change", d.name, part.Msg())
			}
			g.apply(t, "production", setState("production", "b", "ENABLED"))
			fetched, err := client.FetchAllFlags(ctx, asked(&syncv1.FetchAllFlagsRequest{}, view.SelectorHeader, "flagSetId=shop"))
			if err != nil || strings.Contains(fetched.Msg.GetFlagConfiguration(), "DISABLED") || strings.Contains(fetched.Msg.GetFlagConfiguration(), "@x.nz") {
				t.Errorf("%s: fetched %v, %v", d.name, fetched, err)
			}
			metadata, err := client.GetMetadata(ctx, asked(&syncv1.GetMetadataRequest{})) //nolint:staticcheck // see above
			if err != nil || metadata.Msg.GetMetadata().AsMap()["region"] != "eu" {
				t.Errorf("%s: metadata %v, %v", d.name, metadata, err)
			}
			cancel()
			_, _ = whole.Close(), part.Close()
		}
		client := syncv1connect.NewFlagSyncServiceClient(http.DefaultClient, g.url, withKey(g.key(t, store.KeyClient, "production")))
		if _, err := client.FetchAllFlags(t.Context(), asked(&syncv1.FetchAllFlagsRequest{})); connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("definitions with a client key: %v", err)
		}
	})
}

// Nothing that a client sends is the server's fault.
func TestFlagdRefuses(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "production")
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, _ = w.Write(bytes.Repeat([]byte(" "), 64<<20))
	_ = w.Close()
	for _, path := range []string{
		"/flagd.evaluation.v1.Service/ResolveAll", "/flagd.evaluation.v2.Service/ResolveBoolean", "/flagd.sync.v1.FlagSyncService/FetchAllFlags",
	} {
		for name, c := range map[string]struct {
			body   string
			header []string
		}{
			"too long":     {`{"flagKey":"` + strings.Repeat("x", 1<<20) + `"}`, nil},
			"a bomb":       {bomb.String(), []string{"Content-Encoding", "gzip"}},
			"another type": {`{}`, []string{"Content-Type", "text/xml"}},
			"no JSON":      {`{"context":`, nil},
			"nothing":      {``, nil},
			"too deep":     {`{"context":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 201), nil},
		} {
			if got := g.post(t, path, key, c.body, c.header...); got.status < 400 || got.status >= 500 {
				t.Errorf("%s at %s = %d %.200s", name, path, got.status, got.body)
			}
		}
	}
}

// A document that is nearly too large for flagd's providers is told to the
// operator, once.
func TestFlagdSyncWarns(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	g := start(t, func(o *options) {
		o.server.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	client := syncv1connect.NewFlagSyncServiceClient(h2c(t), g.url, withKey(g.key(t, store.KeyServer, "production")), connect.WithGRPC())
	for i := range 9 {
		g.apply(t, "production", putDefinition("production", fmt.Sprintf("large-%d", i), map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": strings.Repeat("x", 400<<10)}, "defaultVariant": "on",
		}))
		if _, err := client.FetchAllFlags(t.Context(), asked(&syncv1.FetchAllFlagsRequest{})); err != nil {
			t.Fatal(err)
		}
	}
	g.stop()
	if got := strings.Count(logged.String(), "4 MiB"); got != 1 || !strings.Contains(logged.String(), "environment=production") {
		t.Errorf("warned %d times: %s", got, logged.String())
	}
}
