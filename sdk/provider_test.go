package guidon_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/storetest"
)

// connected is an OpenFeature API of the test's own with the client's provider.
func connected(t testing.TB, client *guidon.Client) *openfeature.EvaluationAPI {
	t.Helper()
	api := isolated.NewAPI()
	t.Cleanup(func() {
		if err := api.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	if err := api.SetProviderAndWait(t.Context(), client.Provider()); err != nil {
		t.Fatalf("SetProviderAndWait: %v", err)
	}
	return api
}

// handle collects the events of a type. OpenFeature calls a handler at once if
// the provider is in the state that the event tells of.
func handle(api *openfeature.EvaluationAPI, eventType openfeature.EventType) <-chan openfeature.EventDetails {
	events := make(chan openfeature.EventDetails, 100)
	handler := func(details openfeature.EventDetails) { events <- details }
	api.AddHandler(eventType, &handler)
	return events
}

func waitFor(t testing.TB, events <-chan openfeature.EventDetails, what string) openfeature.EventDetails {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case details := <-events:
		return details
	case <-ctx.Done():
		t.Fatalf("no %s event", what)
		return openfeature.EventDetails{}
	}
}

// catalogue is a flag of each type and of each way to have no value.
func catalogue() []eval.Row {
	disabled := boolean("disabled", true)
	disabled.Document = []byte(`{"flag":{"defaultVariant":"on","state":"DISABLED","variants":{"off":false,"on":true}},"guidon":{"kind":"release","project":"shop","scope":"request","type":"boolean"}}`)
	broken := boolean("broken", true)
	broken.Document = []byte(`{"flag":{"defaultVariant":"on","state":"ENABLED","targeting":{"no-such-operator":[1]},"variants":{"off":false,"on":true}},"guidon":{"kind":"release","project":"shop","scope":"request","type":"boolean"}}`)
	return []eval.Row{
		boolean("bool", true), disabled, broken,
		typed("string", "string", `{"blue":"#00f"}`, "blue"),
		typed("float", "float", `{"half":0.5}`, "half"),
		typed("int", "integer", `{"largest":9007199254740991}`, "largest"),
		typed("object", "object", `{"big":{"limits":[1,{"max":2}]}}`, "big"),
		typed("undecided", "boolean", `{"off":false,"on":true}`, ""),
	}
}

// provider is a client's provider, initialised.
func provider(t *testing.T) openfeature.FeatureProvider {
	t.Helper()
	p := ready(t, startServer(t, catalogue()...)).Provider()
	if err := p.(openfeature.ContextAwareStateHandler).InitWithContext(t.Context(), openfeature.EvaluationContext{}); err != nil {
		t.Fatalf("Init: %v", err)
	}
	return p
}

func TestRequirement_2_1_1(t *testing.T) {
	t.Parallel()
	if got := provider(t).Metadata().Name; got != "guidon" {
		t.Errorf("Metadata().Name = %q, want guidon", got)
	}
}

// A value of each type, with variant, reason, metadata and no error.
func TestRequirement_2_2_2_1(t *testing.T) {
	t.Parallel()
	p, ctx := provider(t), t.Context()
	type detail = openfeature.ProviderResolutionDetail
	b := p.BooleanEvaluation(ctx, "bool", false, nil)
	s := p.StringEvaluation(ctx, "string", "", nil)
	f := p.FloatEvaluation(ctx, "float", 0, nil)
	i := p.IntEvaluation(ctx, "int", 0, nil)
	o := p.ObjectEvaluation(ctx, "object", nil, nil)
	cases := []struct {
		key, variant string
		got, want    any
		detail       detail
	}{
		{"bool", "on", b.Value, true, b.ProviderResolutionDetail},
		{"string", "blue", s.Value, "#00f", s.ProviderResolutionDetail},
		{"float", "half", f.Value, 0.5, f.ProviderResolutionDetail},
		{"int", "largest", i.Value, int64(1)<<53 - 1, i.ProviderResolutionDetail},
		{"object", "big", o.Value, map[string]any{"limits": []any{1.0, map[string]any{"max": 2.0}}}, o.ProviderResolutionDetail},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, c.got); diff != "" { // 2.2.3
			t.Errorf("%s: value (-want +got):\n%s", c.key, diff)
		}
		if c.detail.Variant != c.variant || c.detail.Reason != openfeature.StaticReason { // 2.2.4, 2.2.5
			t.Errorf("%s: variant %q, reason %q, want %q, STATIC", c.key, c.detail.Variant, c.detail.Reason, c.variant)
		}
		if err := c.detail.Error(); err != nil { // 2.2.6, 2.3.2
			t.Errorf("%s: error %v, want none", c.key, err)
		}
	}
}

// An integer flag read as a float is a float; a fraction read as an integer is
// not rounded.
func TestNumbersAreLossless(t *testing.T) {
	t.Parallel()
	p := provider(t)
	if got := p.FloatEvaluation(t.Context(), "int", 0, nil); got.Value != float64(1<<53-1) || got.Error() != nil {
		t.Errorf("int as float = %v, %v", got.Value, got.Error())
	}
	if got := p.IntEvaluation(t.Context(), "float", 7, nil); got.Value != 7 || got.ResolutionDetail().ErrorCode != openfeature.TypeMismatchCode {
		t.Errorf("0.5 as int = %d, %q, want the default and TYPE_MISMATCH", got.Value, got.ResolutionDetail().ErrorCode)
	}
}

// What goes wrong is a code, a message, the reason ERROR and the default value.
func TestRequirement_2_2_7(t *testing.T) {
	t.Parallel()
	p := provider(t)
	cases := map[string]struct {
		key  string
		call openfeature.FlattenedContext
		want openfeature.ErrorCode
	}{
		"not there":      {"missing", nil, openfeature.FlagNotFoundCode},
		"another type":   {"bool", nil, openfeature.TypeMismatchCode},
		"does not parse": {"broken", nil, openfeature.ParseErrorCode},
		"bad context":    {"string", openfeature.FlattenedContext{"f": func() {}}, openfeature.InvalidContextCode},
	}
	for name, c := range cases {
		got := p.StringEvaluation(t.Context(), c.key, "mine", c.call)
		detail := got.ResolutionDetail()
		if detail.ErrorCode != c.want || detail.ErrorMessage == "" || detail.Reason != openfeature.ErrorReason || got.Value != "mine" {
			t.Errorf("%s: %+v, value %q, want %s, a message and the default", name, detail, got.Value, c.want)
		}
	}
}

// A flag that is off, or that has no default variant, leaves the value to the
// caller, and that is no error.
func TestCodeDefault(t *testing.T) {
	t.Parallel()
	p := provider(t)
	for key, reason := range map[string]openfeature.Reason{"disabled": openfeature.DisabledReason, "undecided": openfeature.DefaultReason} {
		for _, mine := range []bool{false, true} {
			got := p.BooleanEvaluation(t.Context(), key, mine, nil)
			if got.Value != mine || got.Variant != "" || got.Reason != reason || got.Error() != nil {
				t.Errorf("%s: %+v, want the default %v for %s", key, got, mine, reason)
			}
		}
	}
}

// Flag metadata is flat, and says what the value came from.
func TestRequirement_2_2_9(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", false))
	s.put(boolean("checkout", true))
	s.put(boolean("another", true))
	client := ready(t, s)
	p := connected(t, client)
	state := client.Propagator().Root(t.Context(), nil)
	s.put(boolean("another", false))
	storetest.Eventually(t, "revision 4", func() bool { return client.Snapshot().Revision() == 4 })
	got, err := p.NewClient().BooleanValueDetails(state, "checkout", false, openfeature.EvaluationContext{})
	if err != nil || !got.Value {
		t.Fatalf("BooleanValueDetails = %v, %v", got.Value, err)
	}
	for key, want := range map[string]any{
		"team": "shop", "flagSetId": "shop", "version": int64(2), "revision": int64(3), "pinnedRevision": int64(3),
	} {
		if got.FlagMetadata[key] != want {
			t.Errorf("metadata %s = %v (%[2]T), want %v", key, got.FlagMetadata[key], want)
		}
	}
	for key, value := range got.FlagMetadata { // 2.2.10
		switch value.(type) {
		case string, bool, int64, float64:
		default:
			t.Errorf("metadata %s is a %T", key, value)
		}
	}
}

// The application may do what it likes with an object it was given, and what is
// between it and the provider with the metadata, as openfeature/multi does.
func TestObjectsAreCopies(t *testing.T) {
	t.Parallel()
	p := provider(t)
	first := p.ObjectEvaluation(t.Context(), "object", nil, nil).Value.(map[string]any)
	first["limits"].([]any)[1].(map[string]any)["max"] = math.Inf(1)
	delete(first, "limits")
	p.ObjectEvaluation(t.Context(), "object", nil, nil).FlagMetadata["team"] = "another"
	want := map[string]any{"limits": []any{1.0, map[string]any{"max": 2.0}}}
	if diff := cmp.Diff(want, p.ObjectEvaluation(t.Context(), "object", nil, nil).Value); diff != "" {
		t.Errorf("the flag was changed through the value it gave (-want +got):\n%s", diff)
	}
	if got := p.ObjectEvaluation(t.Context(), "object", nil, nil).FlagMetadata["team"]; got != "shop" {
		t.Errorf("the flag's metadata was changed to %v through what it gave", got)
	}
}

func TestRequirement_2_3_1(t *testing.T) {
	t.Parallel()
	if got := provider(t).Hooks(); len(got) != 0 {
		t.Errorf("Hooks() = %v, want none: the provider has nothing to add to an evaluation", got)
	}
}

// Initialisation waits for flags, and ends abnormally if there are none.
func TestRequirement_2_4_2_1(t *testing.T) {
	t.Parallel()
	s := newServer()
	s.put(boolean("checkout", true))
	s.start(t)
	s.kill()
	client := open(t, s)
	p := client.Provider()
	if got := p.BooleanEvaluation(t.Context(), "checkout", false, nil).ResolutionDetail(); got.ErrorCode != openfeature.ProviderNotReadyCode {
		t.Errorf("before any flags: %+v, want PROVIDER_NOT_READY", got)
	}
	storetest.Eventually(t, "a first failure", func() bool { return client.Status().LastError != "" })
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	failed := handle(api, openfeature.ProviderError)
	ready := handle(api, openfeature.ProviderReady)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.(openfeature.ContextAwareStateHandler).InitWithContext(ctx, openfeature.EvaluationContext{})
	if initErr, ok := errors.AsType[*openfeature.ProviderInitError](err); !ok || initErr.ErrorCode != openfeature.ProviderNotReadyCode || initErr.Message == "" {
		t.Errorf("Init without a server: %v, want PROVIDER_NOT_READY with a message", err)
	}
	if err := api.SetProvider(ctx, p); err != nil {
		t.Fatalf("SetProvider: %v", err)
	}
	if got := waitFor(t, failed, "ERROR"); got.Message == "" { // 2.8.3, 5.1.4
		t.Errorf("ERROR without a message: %+v", got)
	}
	// The client goes on trying, and says when it has succeeded.
	s.start(t)
	waitFor(t, ready, "READY")
	if !api.NewClient().Boolean(t.Context(), "checkout", false, openfeature.EvaluationContext{}) {
		t.Error("checkout is off after READY")
	}
}

// Shutdown reverts to the state before initialisation, leaves the client to
// itself, may be called twice, and can be undone.
func TestRequirement_2_5_1(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	p := client.Provider()
	life := p.(openfeature.ContextAwareStateHandler)
	for range 2 {
		if err := life.InitWithContext(t.Context(), openfeature.EvaluationContext{}); err != nil {
			t.Fatalf("Init: %v", err)
		}
		if got := p.BooleanEvaluation(t.Context(), "checkout", false, nil); !got.Value {
			t.Errorf("after Init: %+v", got)
		}
		for range 2 { // 2.5.3
			if err := life.ShutdownWithContext(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			life.Shutdown()
		}
		if got := p.BooleanEvaluation(t.Context(), "checkout", false, nil).ResolutionDetail(); got.ErrorCode != openfeature.ProviderNotReadyCode { // 2.5.2
			t.Errorf("after Shutdown: %+v, want PROVIDER_NOT_READY", got)
		}
	}
	newest := s.put(boolean("checkout", false))
	storetest.Eventually(t, "the newest revision", func() bool { return client.Snapshot().Revision() == newest })
}

// Events that nobody took before Shutdown are not delivered to who comes after.
func TestShutdownDropsEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	life := client.Provider().(openfeature.ContextAwareStateHandler)
	if err := life.InitWithContext(t.Context(), openfeature.EvaluationContext{}); err != nil {
		t.Fatalf("Init: %v", err)
	}
	newest := s.put(boolean("checkout", false)) // its event waits for a reader
	storetest.Eventually(t, "the newest revision", func() bool { return client.Snapshot().Revision() == newest })
	life.Shutdown()
	changed := handle(connected(t, client), openfeature.ProviderConfigChange)
	s.put(boolean("search", true))
	if got := waitFor(t, changed, "CONFIGURATION_CHANGED"); len(got.FlagChanges) != 1 || got.FlagChanges[0] != "search" {
		t.Errorf("CONFIGURATION_CHANGED with %v, want search alone", got.FlagChanges)
	}
}

// go-sdk 1.20 announces READY itself when Init returns; the provider must not
// do it again, whatever the specification's head says.
func TestRequirement_2_8_2(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	api := isolated.NewAPI()
	t.Cleanup(func() { _ = api.Shutdown(context.Background()) })
	ready, changed := handle(api, openfeature.ProviderReady), handle(api, openfeature.ProviderConfigChange)
	if err := api.SetProviderAndWait(t.Context(), client.Provider()); err != nil {
		t.Fatalf("SetProviderAndWait: %v", err)
	}
	waitFor(t, ready, "READY")
	s.put(boolean("checkout", false)) // whose event would come after a second READY
	if got := waitFor(t, changed, "CONFIGURATION_CHANGED"); len(got.FlagChanges) != 1 || got.FlagChanges[0] != "checkout" {
		t.Errorf("CONFIGURATION_CHANGED with %v, want checkout", got.FlagChanges)
	}
	select {
	case <-ready:
		t.Error("a second READY")
	default:
	}
}
