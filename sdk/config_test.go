package guidon_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/storetest"
)

type limits struct {
	Items  int      `json:"items"`
	Region []string `json:"regions"`
}

func object(key, variants, variant string) eval.Row { return typed(key, "object", variants, variant) }

func TestConfigDecodesWhatTheRequestSees(t *testing.T) {
	t.Parallel()
	s := startServer(t,
		object("cart.limits", `{"large":{"items":100,"regions":["nz","au"]}}`, "large"),
		typed("cart.currency", "string", `{"nzd":"NZD"}`, "nzd"),
		typed("cart.timeout", "integer", `{"long":1500000000}`, "long"),
		boolean("cart.on", true))
	client := ready(t, s)
	ctx := t.Context()

	got := guidon.ConfigDetails(ctx, client, "cart.limits", limits{Items: 1})
	if diff := cmp.Diff(limits{100, []string{"nz", "au"}}, got.Value); diff != "" || got.Variant != "large" || got.Reason != openfeature.StaticReason {
		t.Errorf("cart.limits is variant %q by %s (-want +got):\n%s", got.Variant, got.Reason, diff)
	}
	if revision := got.FlagMetadata["revision"]; revision != int64(1) {
		t.Errorf("metadata says revision %v, want 1", revision)
	}
	if got := guidon.ConfigDetails(ctx, client, "cart.currency", "EUR").Value; got != "NZD" {
		t.Errorf("cart.currency = %q, want NZD", got)
	}
	if got := guidon.ConfigDetails(ctx, client, "cart.timeout", time.Second).Value; got != 1500*time.Millisecond {
		t.Errorf("cart.timeout = %s, want 1.5s", got)
	}
	if !guidon.ConfigDetails(ctx, client, "cart.on", false).Value {
		t.Error("cart.on = false, want true")
	}
	asMap := guidon.ConfigDetails[map[string]any](ctx, client, "cart.limits", nil)
	asMap.Value["items"] = "spoilt"
	if got := guidon.ConfigDetails(ctx, client, "cart.limits", limits{}).Value.Items; got != 100 {
		t.Errorf("items = %d after a caller changed its map, want 100", got)
	}
}

func TestConfigFallsBackAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := startServer(t,
		object("cart.limits", `{"bad":{"items":"many","regions":[]}}`, "bad"),
		object("cart.unset", `{"a":{}}`, ""))
	client := ready(t, s)
	fallback := limits{Items: 7}
	for _, c := range []struct {
		key, message string
		client       *guidon.Client
		code         openfeature.ErrorCode
		reason       openfeature.Reason
	}{
		{"cart.limits", `variant "bad" of flag "cart.limits" does not decode: $.items`, client, openfeature.TypeMismatchCode, openfeature.ErrorReason},
		{"cart.none", "not found", client, openfeature.FlagNotFoundCode, openfeature.ErrorReason},
		{"cart.unset", "", client, "", openfeature.DefaultReason},
		{"cart.limits", "SetDefault", nil, openfeature.ProviderNotReadyCode, openfeature.ErrorReason},
	} {
		for range 2 { // the second time from what was kept
			got := guidon.ConfigDetails(t.Context(), c.client, c.key, fallback)
			if !cmp.Equal(got.Value, fallback) || got.ErrorCode != c.code || got.Reason != c.reason || !strings.Contains(got.ErrorMessage, c.message) {
				t.Errorf("%s: %+v, %s, %s, %q; want the fallback, %s, %s, %q", c.key, got.Value, got.Reason, got.ErrorCode, got.ErrorMessage, c.reason, c.code, c.message)
			}
		}
	}
}

// counted counts how often it is decoded.
type counted struct{ times *int }

var decodings int

func (c *counted) UnmarshalJSON([]byte) error {
	decodings++
	c.times = &decodings
	return nil
}

func TestConfigDecodesOncePerDefinition(t *testing.T) {
	s := startServer(t, object("cart.limits", `{"a":{"items":1}}`, "a"), object("cart.other", `{"a":{}}`, "a"))
	client := ready(t, s)
	read := func(want int) {
		t.Helper()
		for range 5 {
			guidon.ConfigDetails(t.Context(), client, "cart.limits", counted{})
		}
		if decodings != want {
			t.Errorf("decoded %d times, want %d", decodings, want)
		}
	}
	at := func(revision int64) {
		t.Helper()
		storetest.Eventually(t, fmt.Sprintf("revision %d", revision), func() bool { return client.Snapshot().Revision() == revision })
	}
	decodings = 0
	read(1)
	at(s.put(object("cart.other", `{"b":{}}`, "b")))
	read(1) // another flag changed: this one is what it was
	at(s.put(object("cart.limits", `{"a":{"items":2}}`, "a")))
	read(2)
}

func ExampleConfig() {
	client, err := guidon.Open(context.Background(), os.Getenv("GUIDON_URL"), guidon.WithKey(os.Getenv("GUIDON_KEY")))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	guidon.SetDefault(client)
	defer guidon.SetDefault(nil)
	if err := client.WaitReady(context.Background()); err != nil {
		panic(err)
	}
	type Limits struct {
		Items int `json:"items"`
	}
	limits := guidon.Config(context.Background(), "cart.limits", Limits{Items: 10})
	fmt.Println(limits.Items)
	// Output: 50
}
