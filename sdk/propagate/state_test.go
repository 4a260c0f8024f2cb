package propagate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

func TestRootTakesTheNewestRevision(t *testing.T) {
	t.Parallel()
	w := shop(t)
	p := newPropagator(t, w.instance())
	ctx := p.Root(t.Context(), map[string]any{"targetingKey": "u1", "plan": "gold", "country": "NZ", "cart": "full", "shoe": 43})
	got := header(ctx, t)
	if got.Correlation != propagate.CorrelationID(ctx) || len(got.Correlation) != 32 || len(got.Root) != 16 {
		t.Errorf("correlation %q, root %q, want 32 and 16 hex digits", got.Correlation, got.Root)
	}
	want := propagate.Header{
		Correlation: got.Correlation, Root: got.Root, Environment: "production", Revision: 1, Time: clock.Unix(),
		Subject: "u1", HasSubject: true, KeyID: testKey.ID,
		// country is on the allow-list but no flag reads it; cart is read but not on the list
		Attributes: []propagate.Attribute{attribute(t, "p", "gold")},
		Decisions: []propagate.Decision{
			{Flag: "banner", Variant: "on", Mark: propagate.MarkRoot},
			{Flag: "stock", Variant: "on", Mark: propagate.MarkRoot},
		},
	}
	if diff := cmp.Diff(want, got, compareAttributes); diff != "" {
		t.Errorf("header differs (-want +got):\n%s", diff)
	}
}

// The pin is taken when the request starts, not when it is first used.
func TestPinIsOfTheStart(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	p := newPropagator(t, i)
	ctx := p.Root(t.Context(), map[string]any{"plan": "gold"})
	idle := p.Root(t.Context(), map[string]any{"plan": "gold"})
	w.publish(t, flagRow(t, "pricing", "off", "", ""))
	i.catchUp()
	if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" || r.Revision != 1 || r.Pinned != 1 {
		t.Errorf("Evaluate = %q at %d pinned %d, want on at 1", r.Variant(), r.Revision, r.Pinned)
	}
	second := p.Root(t.Context(), map[string]any{"plan": "gold"})
	w.publish(t, settingsRow(t, `[{"attribute":"plan"}]`), flagRow(t, "pricing", "off", equals("plan", "gold"), ""))
	i.catchUp()
	if r := p.Evaluate(second, "pricing", eval.Boolean, nil); r.Variant() != "off" || r.Revision != 2 {
		t.Errorf("Evaluate = %q at %d, want off at 2", r.Variant(), r.Revision)
	}
	for _, ctx := range []context.Context{ctx, idle} {
		if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" || i.fetches.Load() != 0 {
			t.Errorf("Evaluate = %q after %d fetches, want on without: the root has the snapshot", r.Variant(), i.fetches.Load())
		}
	}
}

func TestEnrichUntilSealed(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	ctx := p.Root(t.Context(), map[string]any{"plan": "silver"})
	if err := propagate.Enrich(ctx, map[string]any{"plan": "gold", "targetingKey": "u1"}); err != nil {
		t.Fatal(err)
	}
	if err := propagate.Enrich(ctx, map[string]any{"plan": make(chan int), "country": "NZ"}); err == nil || !strings.Contains(err.Error(), "plan") {
		t.Errorf("Enrich with a channel: %v, want an error that names the place", err)
	}
	if r := p.Evaluate(ctx, "tuning", eval.Boolean, nil); r.Origin != propagate.OriginNewest {
		t.Errorf("origin of a local flag = %q, want newest", r.Origin)
	}
	s, _ := propagate.FromContext(ctx)
	if s.Sealed() {
		t.Error("a local flag sealed the State")
	}
	if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" {
		t.Errorf("Evaluate = %q, want on by the enriched plan", r.Variant())
	}
	if err := propagate.Enrich(ctx, map[string]any{"plan": "silver"}); !errors.Is(err, propagate.ErrSealed) {
		t.Errorf("Enrich after an evaluation: %v, want ErrSealed", err)
	}
	if got := p.Stats().Events[propagate.LateEnrich]; got != 1 {
		t.Errorf("late_enrich = %d, want 1", got)
	}
	if err := propagate.Enrich(t.Context(), nil); !errors.Is(err, propagate.ErrNoState) {
		t.Errorf("Enrich without State: %v, want ErrNoState", err)
	}
	pin, sealed := s.Pin()
	if want := []propagate.Attribute{attribute(t, "p", "gold")}; !sealed || pin.Subject != "u1" || !cmp.Equal(pin.Attributes, want, compareAttributes) {
		t.Errorf("Pin = %+v, %v, want subject u1 and plan gold", pin, sealed)
	}
}

// What the caller does with his maps afterwards is no business of the request.
func TestAttributesAreCopied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, flagRow(t, "named", "off", equals("user.name", "x"), ""))
	p := newPropagator(t, w.instance())
	inner := map[string]any{"name": "x"}
	ctx := p.Root(t.Context(), map[string]any{"user": inner})
	if err := propagate.Enrich(ctx, map[string]any{"other": inner}); err != nil {
		t.Fatal(err)
	}
	inner["name"] = "y"
	if r := p.Evaluate(ctx, "named", eval.Boolean, nil); r.Variant() != "on" {
		t.Errorf("Evaluate = %q, want on as when the request began", r.Variant())
	}
}

// An outgoing call seals too: what left cannot be taken back.
func TestInjectSeals(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	ctx := p.Root(t.Context(), nil)
	p.Inject(ctx, propagate.HTTPCarrier{})
	if err := propagate.Enrich(ctx, map[string]any{"plan": "gold"}); !errors.Is(err, propagate.ErrSealed) {
		t.Errorf("Enrich after a call: %v, want ErrSealed", err)
	}
}

// The evaluation that seals brings its own context in, so an application that
// only passes a context at its evaluations gets what it expects.
func TestSealingCallCounts(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	ctx := p.Root(t.Context(), map[string]any{"plan": "silver"})
	call := map[string]any{"targetingKey": "u1", "plan": "gold", "cart": "full"}
	for _, key := range []string{"pricing", "stock"} {
		if r := p.Evaluate(ctx, key, eval.Boolean, call); r.Variant() != "on" || r.IgnoredAttributes != nil {
			t.Errorf("Evaluate(%s) = %q ignoring %v, want on, ignoring nothing", key, r.Variant(), r.IgnoredAttributes)
		}
	}
	other := newPropagator(t, shop(t).instance())
	if r := other.Evaluate(hop(ctx, p, other), "stock", eval.Boolean, nil); r.Variant() != "on" || r.Origin != propagate.OriginRoot {
		t.Errorf("downstream = %q from %q, want on from the root", r.Variant(), r.Origin)
	}
}

func TestSealOnce(t *testing.T) {
	t.Parallel()
	w := shop(t)
	p := newPropagator(t, w.instance())
	ctx := p.Root(t.Context(), nil)
	var group sync.WaitGroup
	variants := make([]string, 16)
	for n := range variants {
		group.Go(func() { p.Inject(ctx, propagate.HTTPCarrier{}) })
		group.Go(func() { _ = propagate.Enrich(ctx, map[string]any{"cart": "full"}) }) // in time or too late
		group.Go(func() { p.Evaluate(ctx, "tuning", eval.Boolean, map[string]any{"host": "a"}) })
		group.Go(func() { p.Reroot(ctx) })
		group.Go(func() {
			variants[n] = p.Evaluate(ctx, "stock", eval.Boolean, map[string]any{"cart": []string{"full", "empty"}[n%2]}).Variant()
		})
	}
	group.Wait()
	for n, v := range variants {
		if v != variants[0] || v == "" {
			t.Fatalf("evaluation %d gave %q, the first %q", n, v, variants[0])
		}
	}
}

// Root and leaf evaluate the very same values.
func TestRootEvaluatesWhatTravels(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		settingsRow(t, `[{"attribute":"age"},{"attribute":"vip"}]`),
		flagRow(t, "adult", "off", `{"if":[{">=":[{"var":"age"},18.5]},"on","off"]}`, ""),
		flagRow(t, "zero", "off", `{"if":[{"===":[{"var":"age"},0]},"on","off"]}`, ""),
		flagRow(t, "lounge", "off", `{"if":[{"===":[{"var":"vip"},true]},"on","off"]}`, ""),
	)
	negative := 0.0
	for _, context := range []map[string]any{
		{"age": 18, "vip": true}, {"age": 18.5}, {"age": uint8(19), "vip": false}, {"age": int64(1) << 60}, {"age": -negative}, {"age": "19"}, {"vip": "true"}, {},
	} {
		root, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
		ctx := root.Root(t.Context(), context)
		below := hop(ctx, root, leaf)
		for _, key := range []string{"adult", "zero", "lounge"} {
			a, b := root.Evaluate(ctx, key, eval.Boolean, nil), leaf.Evaluate(below, key, eval.Boolean, nil)
			if a.Variant() != b.Variant() || a.Variant() == "" {
				t.Errorf("%v: %s is %q at the root and %q at the leaf", context, key, a.Variant(), b.Variant())
			}
			plain, err := eval.NewContext(context)
			if err != nil {
				t.Fatal(err)
			}
			if want := w.at(1).Evaluate(key, plain, 0).Variant(); a.Variant() != want {
				t.Errorf("%v: %s is %q, want %q as without propagation", context, key, a.Variant(), want)
			}
		}
	}
}

// What the format cannot carry is used once, at the root, and the result travels.
func TestUntravellableAttributes(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		settingsRow(t, `[{"attribute":"Mixed"},{"attribute":"a1","as":"same"},{"attribute":"a2","as":"same"},{"attribute":"note"},{"attribute":"plan"},{"attribute":"user"}]`),
		flagRow(t, "alias", "off", equals("a2", "x"), ""),
		flagRow(t, "mixed", "off", equals("Mixed", "x"), ""),
		flagRow(t, "nested", "off", equals("user.name", "x"), ""),
		flagRow(t, "plain", "off", equals("plan", "x"), ""),
		flagRow(t, "wordy", "off", `{"if":[{"starts_with":[{"var":"note"},"x"]},"on","off"]}`, ""),
	)
	p, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
	ctx := p.Root(t.Context(), map[string]any{
		"Mixed": "x", "a1": "y", "a2": "x", "note": strings.Repeat("x", 2000), "plan": "x", "user": map[string]any{"name": "x"},
	})
	h := header(ctx, t)
	var carried []string
	for _, d := range h.Decisions {
		carried = append(carried, d.Flag+":"+d.Variant)
	}
	if want := []string{"alias:on", "mixed:on", "nested:on", "wordy:on"}; !cmp.Equal(carried, want) {
		t.Errorf("decided at the root: %v, want %v", carried, want)
	}
	below := hop(ctx, p, leaf)
	for _, key := range []string{"alias", "mixed", "nested", "plain", "wordy"} {
		if r := leaf.Evaluate(below, key, eval.Boolean, nil); r.Variant() != "on" {
			t.Errorf("downstream %s = %q (%s), want on", key, r.Variant(), r.Message())
		}
	}
	if got := p.Stats().Events[propagate.AttributeLeftOut]; got != 4 {
		t.Errorf("attribute_left_out = %d, want 4", got)
	}
}

// A value that is longer than its attribute may be stays at the root, which
// decides what reads it, and everybody agrees.
func TestLongAttributesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		settingsRow(t, `[{"attribute":"country","maxBytes":2},{"attribute":"score","maxBytes":3},{"attribute":"tenant"},{"attribute":"vip","maxBytes":1}]`),
		flagRow(t, "local", "off", equals("country", "ÅÅ"), ""),
		flagRow(t, "rated", "off", `{"if":[{">":[{"var":"score"},1]},"on","off"]}`, ""),
		flagRow(t, "tenants", "off", `{"if":[{"starts_with":[{"var":"tenant"},"x"]},"on","off"]}`, ""),
		flagRow(t, "vips", "off", `{"if":[{"var":"vip"},"on","off"]}`, ""),
	)
	fits := map[string]any{"country": "NZ", "score": 1.5, "tenant": strings.Repeat("x", 40), "vip": true}
	for name, tt := range map[string]struct {
		attribute string
		value     any
		decided   string
	}{
		"all fit":                {},
		"by bytes, not letters":  {"country", "ÅÅ", "local"},
		"by digits":              {"score", 1.25, "rated"},
		"by the default":         {"tenant", strings.Repeat("x", 41), "tenants"},
		"no UTF-8 cannot travel": {"tenant", "x\xff", "tenants"},
	} {
		p, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
		context := maps.Clone(fits)
		want := 0
		if tt.attribute != "" {
			context[tt.attribute], want = tt.value, 1
		}
		ctx := p.Root(t.Context(), context)
		h := header(ctx, t)
		if len(h.Attributes) != 4-want || len(h.Decisions) != want || want == 1 && h.Decisions[0] != (propagate.Decision{Flag: tt.decided, Variant: "on", Mark: propagate.MarkRoot}) {
			t.Errorf("%s: %v travel, with decisions %v, want %d and %q", name, h.Attributes, h.Decisions, 4-want, tt.decided)
		}
		if got := p.Stats().Events[propagate.AttributeLeftOut]; got != uint64(want) {
			t.Errorf("%s: attribute_left_out = %d, want %d", name, got, want)
		}
		below := hop(ctx, p, leaf)
		for _, key := range []string{"local", "rated", "tenants", "vips"} {
			here, there := p.Evaluate(ctx, key, eval.Boolean, nil), leaf.Evaluate(below, key, eval.Boolean, nil)
			if here.Variant() != there.Variant() || key != "local" && here.Variant() != "on" {
				t.Errorf("%s: %s is %q at the root and %q below", name, key, here.Variant(), there.Variant())
			}
		}
	}
}

// Beyond the budget everybody evaluates from what travels, the root included.
func TestRootDecisionsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	for name, keys := range map[string]func(n int) string{
		"by number": func(n int) string { return fmt.Sprintf("flag-%02d", n) },
		"by length": func(n int) string { return fmt.Sprintf("flag-%02d-%s", n, long) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rows []eval.Row
			for n := range 40 {
				rows = append(rows, flagRow(t, keys(n), "off", equals("cart", "full"), ""))
			}
			w := newWorld(t, rows...)
			p, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
			ctx := p.Root(t.Context(), map[string]any{"cart": "full", "targetingKey": strings.Repeat("ü", 80)})
			s, _ := propagate.FromContext(ctx)
			value, _ := s.Header()
			decided := len(header(ctx, t).Decisions)
			if len(value) > 2048 || decided == 0 || decided > 24 {
				t.Errorf("header of %d bytes with %d decisions, want at most 2048 with 1 to 24", len(value), decided)
			}
			if got := p.Stats().Events[propagate.OverBudget]; got != uint64(40-decided) {
				t.Errorf("over_budget = %d, want %d", got, 40-decided)
			}
			below := hop(ctx, p, leaf)
			for n := range 40 {
				a, b := p.Evaluate(ctx, keys(n), eval.Boolean, nil), leaf.Evaluate(below, keys(n), eval.Boolean, nil)
				want := "off" // from what travels
				if n < decided {
					want = "on"
				}
				if a.Variant() != want || b.Variant() != want {
					t.Errorf("%s is %q at the root and %q at the leaf, want %q", keys(n), a.Variant(), b.Variant(), want)
				}
				var lacking any // what the answer had to do without
				if n >= decided {
					lacking = "cart"
				}
				if a, b := a.Metadata()["notTravelling"], b.Metadata()["notTravelling"]; a != lacking || b != lacking {
					t.Errorf("%s: notTravelling is %v at the root and %v at the leaf, want %v", keys(n), a, b, lacking)
				}
			}
		})
	}
}

// A rule that fails at the root fails for everybody, and is counted: downstream
// nothing is left of the error but the code default.
func TestRootDecisionThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, flagRow(t, "wild", "off", `{"var":"cart"}`, "")) // names a variant that may not exist
	p, leaf := newPropagator(t, w.instance()), newPropagator(t, w.instance())
	ctx := p.Root(t.Context(), map[string]any{"cart": "full"})
	for at, r := range map[string]propagate.Result{
		"root": p.Evaluate(ctx, "wild", eval.Boolean, nil),
		"leaf": leaf.Evaluate(hop(ctx, p, leaf), "wild", eval.Boolean, nil),
	} {
		if r.Variant() != "" || r.Value() != nil || r.Origin != propagate.OriginRoot {
			t.Errorf("at the %s: %q by %s, want the code default by the root", at, r.Variant(), r.Origin)
		}
	}
	if got := p.Stats().Flags[propagate.RootFailed]["wild"]; got != 1 {
		t.Errorf("root_failed = %d, want 1", got)
	}
}

// The worst that a root may be told still fits the budget.
func TestHeaderBudgetHolds(t *testing.T) {
	t.Parallel()
	var rows []eval.Row
	var travel []string
	context := map[string]any{"targetingKey": strings.Repeat("%", 170), "cart": "full"}
	for n := range 30 {
		name := fmt.Sprintf("attribute_%02d", n)
		travel = append(travel, fmt.Sprintf(`{"attribute":%q}`, name))
		context[name] = strings.Repeat("~", 5*n)
		rows = append(rows, flagRow(t, "by-"+name, "off", `{"if":[{"var":"`+name+`"},"on","off"]}`, ""),
			flagRow(t, "cart-"+name, "off", equals("cart", "full"), ""))
	}
	w := newWorld(t, append(rows, settingsRow(t, "["+strings.Join(travel, ",")+"]"))...)
	p := newPropagator(t, w.instance(), func(c *propagate.Config) {
		c.Environment = func() string { return strings.Repeat("e", 40) }
	})
	s, _ := propagate.FromContext(p.Root(t.Context(), context))
	if value, ok := s.Header(); !ok || len(value) > 2048 || len(value) < 1800 {
		t.Errorf("header of %d bytes, want just below 2048", len(value))
	}
}

// A subject too long to travel is no subject, at the root as elsewhere.
func TestOverlongSubjectIsAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, flagRow(t, "personal", "off", `{"if":[{"and":[{"var":"cart"},{"var":"targetingKey"}]},"on","off"]}`, ""))
	p := newPropagator(t, w.instance())
	for _, subject := range []string{strings.Repeat("u", 513), strings.Repeat("ü", 86), "\xff"} {
		h := header(p.Root(t.Context(), map[string]any{"targetingKey": subject, "cart": "full"}), t)
		if want := []propagate.Decision{{Flag: "personal", Variant: "off", Mark: propagate.MarkRoot}}; h.HasSubject || !cmp.Equal(h.Decisions, want) {
			t.Errorf("subject %q travels and decides %v, want absent and %v", h.Subject, h.Decisions, want)
		}
	}
	if got := p.Stats().Events[propagate.SubjectLeftOut]; got != 3 {
		t.Errorf("subject_left_out = %d, want 3", got)
	}
	if h := header(p.Root(t.Context(), map[string]any{"targetingKey": strings.Repeat("u", 512)}), t); !h.HasSubject {
		t.Error("a subject of 512 bytes does not travel")
	}
}

// Archived flags are disabled for everybody: there is nothing to decide.
func TestArchivedFlagsDoNotTravel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, flagRow(t, "old", "off", equals("cart", "full"), `"archived":true,"attach":true`))
	p := newPropagator(t, w.instance())
	if h := header(p.Root(t.Context(), map[string]any{"cart": "full"}), t); len(h.Decisions) != 0 {
		t.Errorf("decisions %v, want none", h.Decisions)
	}
}

func TestRootWithoutSnapshot(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	i.held.Store(-1)
	p := newPropagator(t, i)
	ctx := p.Root(t.Context(), map[string]any{"plan": "gold"})
	carrier := propagate.HTTPCarrier{}
	p.Inject(ctx, carrier)
	if len(carrier) != 1 || carrier.Values("x-correlation-id")[0] != propagate.CorrelationID(ctx) {
		t.Errorf("carried %v, want the correlation ID alone", carrier)
	}
	if got := p.Stats().Events[propagate.NotMinted]; got != 1 {
		t.Errorf("not_minted = %d, want 1", got)
	}
	r := p.Evaluate(ctx, "pricing", eval.Boolean, nil)
	if r.ErrorCode() != "PROVIDER_NOT_READY" || r.Reason() != eval.ReasonError || r.Value() != nil || r.Variant() != "" {
		t.Errorf("Evaluate = %v %v, want PROVIDER_NOT_READY", r.Reason(), r.ErrorCode())
	}
	i.catchUp() // now there is something to pin
	if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" || r.Pinned != 1 {
		t.Errorf("Evaluate = %q pinned at %d, want on at 1", r.Variant(), r.Pinned)
	}
}

// A process whose ring cannot sign still follows what it receives.
func TestVerifyOnly(t *testing.T) {
	t.Parallel()
	w := shop(t)
	p := newPropagator(t, w.instance())
	quiet := newPropagator(t, w.instance(), func(c *propagate.Config) {
		c.Keys = new(propagate.Keyring)
		if err := c.Keys.Set("", []propagate.Key{testKey}); err != nil {
			t.Fatal(err)
		}
	})
	if s, _ := propagate.FromContext(quiet.Root(t.Context(), nil)); s != nil {
		if value, ok := s.Header(); ok {
			t.Errorf("minted %q without a signing key", value)
		}
	}
	ctx := p.Root(t.Context(), nil)
	h := header(hop(hop(ctx, p, quiet), quiet, p), t)
	if h.Root != header(ctx, t).Root {
		t.Error("a process that cannot sign broke the chain")
	}
}

func TestReroot(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	p, leaf := newPropagator(t, i), newPropagator(t, w.instance())
	first := p.Root(t.Context(), map[string]any{"targetingKey": "u1", "plan": "gold", "cart": "full"})
	before := header(first, t)
	w.publish(t, flagRow(t, "pricing", "on", "", ""))
	i.catchUp()
	for name, ctx := range map[string]context.Context{"at the root": p.Reroot(first), "below": p.Reroot(hop(first, leaf, p))} {
		after := header(ctx, t)
		if after.Correlation != before.Correlation || after.Root == before.Root || after.Revision != 2 || after.Subject != "u1" {
			t.Errorf("%s: rerooted to %+v from %+v", name, after, before)
		}
	}
	if r := p.Evaluate(p.Reroot(first), "stock", eval.Boolean, nil); r.Variant() != "on" {
		t.Errorf("Evaluate = %q, want on: a reroot keeps all the root knew", r.Variant())
	}
	if h := header(p.Reroot(t.Context()), t); h.Correlation == before.Correlation {
		t.Error("Reroot without State reused a correlation ID")
	}
}
