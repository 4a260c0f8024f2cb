package propagate_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// received is the context of a request that arrived with h, signed.
func received(t testing.TB, p *propagate.Propagator, h propagate.Header) context.Context {
	t.Helper()
	value, err := propagate.Encode(h, testKey)
	if err != nil {
		t.Fatal(err)
	}
	ctx := p.Extract(t.Context(), propagate.HTTPCarrier{"Guidon": {value}})
	if got := p.Stats().Headers[propagate.Verified]; got == 0 {
		t.Fatalf("header not followed: %v", p.Stats().Headers)
	}
	return ctx
}

// pinnedAt is a header of the shop for a gold subject without decisions.
func pinnedAt(t testing.TB, revision int64, decisions ...propagate.Decision) propagate.Header {
	h := sampleHeader(t)
	h.Revision, h.Decisions = revision, decisions
	h.Attributes = []propagate.Attribute{attribute(t, "p", "gold")}
	return h
}

// answer is what a test compares of a Result.
type answer struct {
	Variant                   string
	Reason                    eval.Reason
	Code                      eval.ErrorCode
	Origin                    propagate.Origin
	Revision, Pinned          int64
	CreatedAfter, Unavailable bool
	Ignored                   []string
}

func answerOf(r propagate.Result) answer {
	return answer{
		r.Variant(), r.Reason(), r.ErrorCode(), r.Origin, r.Revision, r.Pinned,
		r.CreatedAfterPin, r.PinUnavailable, r.IgnoredAttributes,
	}
}

// The history that the tables below look back on: revision 1 is the shop; at 2
// pricing changes, at 3 late is created, at 4 stock is deleted, at 5 pricing is
// turned off, at 6 an unrelated segment changes.
func history(t testing.TB) *world {
	w := shop(t)
	w.publish(t, flagRow(t, "pricing", "off", equals("plan", "silver"), ""))
	w.publish(t, flagRow(t, "late", "on", "", ""))
	w.change(t, nil, []eval.Name{{Kind: eval.KindFlag, Name: "stock"}})
	disabled := flagRow(t, "pricing", "off", equals("plan", "gold"), "")
	disabled.Document = canonical(t, `{"flag":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"off"},"guidon":{"project":"default","type":"boolean"}}`)
	w.publish(t, disabled)
	w.publish(t, flagRow(t, "unrelated", "on", "", ""))
	return w
}

func TestEvaluateAtPin(t *testing.T) {
	t.Parallel()
	root := func(flag, variant string) propagate.Decision {
		return propagate.Decision{Flag: flag, Variant: variant, Mark: propagate.MarkRoot}
	}
	override := func(flag, variant string) propagate.Decision {
		return propagate.Decision{Flag: flag, Variant: variant, Mark: propagate.MarkOverride}
	}
	emergency := func(flag, variant string, revision int64) propagate.Decision {
		return propagate.Decision{Flag: flag, Variant: variant, Mark: propagate.MarkEmergency, Emergency: revision}
	}
	match, pin := eval.ReasonTargetingMatch, propagate.OriginPin
	tests := []struct {
		name      string
		pin       int64
		held      int64
		cut       bool
		decisions []propagate.Decision
		flag      string
		call      map[string]any
		want      answer
		fetches   int64
	}{
		{name: "head is the pin", pin: 6, held: 6, flag: "pricing", want: answer{Reason: eval.ReasonDisabled, Origin: pin, Revision: 6, Pinned: 6}},
		{name: "unchanged since the pin", pin: 5, held: 6, flag: "pricing", want: answer{Reason: eval.ReasonDisabled, Origin: pin, Revision: 5, Pinned: 5}},
		{name: "changed since", pin: 1, held: 6, flag: "pricing", want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1}, fetches: 1},
		{name: "changed twice since", pin: 2, held: 6, flag: "pricing", want: answer{Variant: "off", Reason: match, Origin: pin, Revision: 2, Pinned: 2}, fetches: 1},
		{name: "from the future", pin: 5, held: 2, flag: "pricing", want: answer{Reason: eval.ReasonDisabled, Origin: pin, Revision: 5, Pinned: 5}, fetches: 1},
		{name: "nothing held but what is fetched", pin: 1, held: -1, flag: "split", want: answer{Variant: "off", Reason: match, Origin: pin, Revision: 1, Pinned: 1}, fetches: 1},
		{name: "pin out of reach", pin: 1, held: 6, cut: true, flag: "pricing", want: answer{Reason: eval.ReasonError, Code: eval.CodeGeneral, Origin: propagate.OriginNone, Revision: 1, Pinned: 1, Unavailable: true}, fetches: 1},
		{name: "future out of reach", pin: 6, held: 2, cut: true, flag: "pricing", want: answer{Reason: eval.ReasonError, Code: eval.CodeGeneral, Origin: propagate.OriginNone, Revision: 6, Pinned: 6, Unavailable: true}, fetches: 1},
		{name: "created after the pin", pin: 1, held: 6, flag: "late", want: answer{Reason: eval.ReasonDefault, Origin: pin, Revision: 1, Pinned: 1, CreatedAfter: true}, fetches: 1},
		{name: "before the first revision", pin: 0, held: 6, flag: "late", want: answer{Reason: eval.ReasonDefault, Origin: pin, CreatedAfter: true}},
		{name: "deleted after the pin", pin: 1, held: 6, flag: "stock", want: answer{Variant: "off", Reason: match, Origin: pin, Revision: 1, Pinned: 1}, fetches: 1},
		{name: "never there", pin: 1, held: 6, flag: "nothing", want: answer{Reason: eval.ReasonError, Code: eval.CodeFlagNotFound, Origin: propagate.OriginNone, Revision: 1, Pinned: 1}, fetches: 1},
		{name: "not there at the head", pin: 6, held: 6, flag: "nothing", want: answer{Reason: eval.ReasonError, Code: eval.CodeFlagNotFound, Origin: propagate.OriginNone, Revision: 6, Pinned: 6}},

		{name: "local is newest", pin: 1, held: 6, flag: "tuning", call: map[string]any{"host": "a"}, want: answer{Variant: "on", Reason: match, Origin: propagate.OriginNewest, Revision: 6}},
		{
			name: "call attributes do not count", pin: 1, held: 1, flag: "pricing", call: map[string]any{"plan": "silver", "country": "NZ", "targetingKey": "user-77@example.com"},
			want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1, Ignored: []string{"country", "plan"}},
		},
		{name: "same attributes are not ignored", pin: 1, held: 1, flag: "pricing", call: map[string]any{"plan": "gold"}, want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1}},

		{name: "root decision", pin: 1, held: 1, flag: "stock", decisions: []propagate.Decision{root("stock", "on")}, want: answer{Variant: "on", Reason: match, Origin: propagate.OriginRoot, Revision: 1, Pinned: 1}},
		{name: "root decision of the code default", pin: 1, held: 1, flag: "stock", decisions: []propagate.Decision{root("stock", "")}, want: answer{Reason: eval.ReasonDefault, Origin: propagate.OriginRoot, Revision: 1, Pinned: 1}},
		{name: "root decision of a disabled flag", pin: 5, held: 6, flag: "pricing", decisions: []propagate.Decision{root("pricing", "")}, want: answer{Reason: eval.ReasonDisabled, Origin: propagate.OriginRoot, Revision: 5, Pinned: 5}},
		{name: "root decision unknown at the pin", pin: 1, held: 1, flag: "pricing", decisions: []propagate.Decision{root("pricing", "blue")}, want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1}},
		{
			name: "root decision for another subject", pin: 1, held: 1, flag: "pricing", decisions: []propagate.Decision{root("pricing", "on")}, call: map[string]any{"targetingKey": "else"},
			want: answer{Variant: "off", Reason: match, Origin: pin, Revision: 1, Pinned: 1},
		},
		{
			name: "another subject brings what may travel", pin: 1, held: 1, flag: "pricing", call: map[string]any{"targetingKey": "else", "plan": "gold", "cart": "full"},
			want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1, Ignored: []string{"cart"}},
		},
		{name: "override", pin: 1, held: 1, flag: "pricing", decisions: []propagate.Decision{override("pricing", "off")}, want: answer{Variant: "off", Reason: match, Origin: propagate.OriginOverride, Revision: 1, Pinned: 1}},
		{
			name: "override for another subject", pin: 1, held: 1, flag: "pricing", decisions: []propagate.Decision{override("pricing", "on")}, call: map[string]any{"targetingKey": "else"},
			want: answer{Variant: "on", Reason: match, Origin: propagate.OriginOverride, Revision: 1, Pinned: 1},
		},
		{name: "emergency before the pin", pin: 1, held: 1, flag: "pricing", decisions: []propagate.Decision{emergency("pricing", "off", 1)}, want: answer{Variant: "on", Reason: match, Origin: pin, Revision: 1, Pinned: 1}},
		{name: "emergency that no log knows", pin: 1, held: 6, flag: "pricing", decisions: []propagate.Decision{emergency("pricing", "off", 6)}, want: answer{Reason: eval.ReasonError, Code: eval.CodeGeneral, Origin: propagate.OriginNone, Revision: 1, Pinned: 1, Unavailable: true}},
		{name: "emergency out of reach", pin: 1, held: 1, cut: true, flag: "pricing", decisions: []propagate.Decision{emergency("pricing", "off", 6)}, want: answer{Reason: eval.ReasonError, Code: eval.CodeGeneral, Origin: propagate.OriginNone, Revision: 1, Pinned: 1, Unavailable: true}, fetches: 1},
	}
	w := history(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := w.instance()
			i.held.Store(-2) // nothing at hand while the header arrives: what is held then would answer for the pin for ever
			p := newPropagator(t, i)
			ctx := received(t, p, pinnedAt(t, tt.pin, tt.decisions...))
			i.held.Store(tt.held)
			i.cut.Store(tt.cut)
			if diff := cmp.Diff(tt.want, answerOf(p.Evaluate(ctx, tt.flag, eval.Boolean, tt.call))); diff != "" {
				t.Errorf("Evaluate(%s) differs (-want +got):\n%s", tt.flag, diff)
			}
			if got := i.fetches.Load(); got != tt.fetches {
				t.Errorf("%d definitions were fetched, want %d", got, tt.fetches)
			}
		})
	}
}

// A process that holds exactly the pinned revision when the request arrives
// needs no history afterwards, whatever is published meanwhile.
func TestPinAtHandIsKept(t *testing.T) {
	t.Parallel()
	w := shop(t)
	i := w.instance()
	p := newPropagator(t, i)
	ctx := received(t, p, pinnedAt(t, 1))
	w.publish(t, flagRow(t, "pricing", "off", "", ""))
	i.catchUp()
	i.cut.Store(true)
	if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" || i.fetches.Load() != 0 {
		t.Errorf("Evaluate = %q after %d fetches, want on after none", r.Variant(), i.fetches.Load())
	}
}

func TestEvaluateWithoutState(t *testing.T) {
	t.Parallel()
	w := history(t)
	p := newPropagator(t, w.instance())
	r := p.Evaluate(t.Context(), "split", eval.Boolean, map[string]any{"targetingKey": "u1"})
	if r.Variant() == "" || r.Origin != propagate.OriginNewest || r.Revision != 6 || r.Pinned != 0 {
		t.Errorf("Evaluate = %+v, want a variant of the newest", answerOf(r))
	}
	p.Evaluate(t.Context(), "tuning", eval.Boolean, nil)
	if got, want := p.Stats().Flags[propagate.NoState], map[string]uint64{"split": 1}; !cmp.Equal(got, want) {
		t.Errorf("no_state = %v, want %v: local flags need none", got, want)
	}
	if r := p.Evaluate(t.Context(), "split", eval.Boolean, map[string]any{"bad": make(chan int)}); r.ErrorCode() != "INVALID_CONTEXT" || r.Value() != nil {
		t.Errorf("Evaluate with a channel = %v %q, want INVALID_CONTEXT", r.ErrorCode(), r.Message())
	}
	if r := p.Evaluate(t.Context(), "nothing", eval.Boolean, nil); r.ErrorCode() != eval.CodeFlagNotFound {
		t.Errorf("Evaluate(nothing) = %v, want FLAG_NOT_FOUND", r.ErrorCode())
	}
}

// A State means nothing to a Propagator of another environment.
func TestStateOfAnotherEnvironment(t *testing.T) {
	t.Parallel()
	ours, theirs := newPropagator(t, shop(t).instance()), newPropagator(t, history(t).instance())
	ctx := ours.Root(t.Context(), map[string]any{"plan": "gold"})
	if r := theirs.Evaluate(ctx, "late", eval.Boolean, nil); r.Variant() != "on" || r.Pinned != 0 {
		t.Errorf("Evaluate = %+v, want on at the newest", answerOf(r))
	}
	if s, _ := propagate.FromContext(ctx); s.Sealed() {
		t.Error("another environment's evaluation sealed the State")
	}
}

func TestEvaluateType(t *testing.T) {
	t.Parallel()
	p := newPropagator(t, shop(t).instance())
	r := p.Evaluate(p.Root(t.Context(), nil), "banner", eval.String, nil)
	if r.ErrorCode() != eval.CodeTypeMismatch || r.Reason() != eval.ReasonError || r.Message() == "" {
		t.Errorf("Evaluate as a string = %v %v, want TYPE_MISMATCH", r.Reason(), r.ErrorCode())
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	w := history(t)
	i := w.instance()
	p := newPropagator(t, i)
	ctx := received(t, p, pinnedAt(t, 1))
	got := p.Evaluate(ctx, "pricing", eval.Boolean, map[string]any{"plan": "silver", "a": 1}).Metadata()
	for name, want := range map[string]any{"revision": int64(1), "pinnedRevision": int64(1), "origin": "pin", "ignoredAttributes": "a,plan", "flagSetId": "default"} {
		if got[name] != want {
			t.Errorf("metadata %s = %v, want %v", name, got[name], want)
		}
	}
	if got := p.Evaluate(ctx, "late", eval.Boolean, nil).Metadata(); got["createdAfterPin"] != true {
		t.Errorf("metadata of a later flag = %v, want createdAfterPin", got)
	}
	i.cut.Store(true)
	if got := p.Evaluate(ctx, "pricing", eval.Boolean, nil).Metadata(); got["PIN_UNAVAILABLE"] != true {
		t.Errorf("metadata of an unavailable pin = %v, want PIN_UNAVAILABLE", got)
	}
}

// The allow-list at the pin decides how the header's names read. When it has
// changed beyond recognition the answer is an error, not another value.
func TestAllowListIsOfThePin(t *testing.T) {
	t.Parallel()
	w := shop(t)
	w.publish(t, settingsRow(t, `[{"attribute":"plan"}]`)) // no alias any more
	i := w.instance()
	p := newPropagator(t, i)
	ctx := received(t, p, pinnedAt(t, 1))
	if r := p.Evaluate(ctx, "pricing", eval.Boolean, nil); r.Variant() != "on" && !r.PinUnavailable {
		t.Errorf("Evaluate = %+v, want on or an explicit error", answerOf(r))
	}
	w.publish(t, settingsRow(t, shopTravel))
	i.catchUp()
	if r := p.Evaluate(received(t, p, pinnedAt(t, 3)), "pricing", eval.Boolean, nil); r.Variant() != "on" {
		t.Errorf("Evaluate = %+v, want on", answerOf(r))
	}
}

// Each Observer is told once per event and flag; the counters go on.
func TestObserverHearsOnce(t *testing.T) {
	t.Parallel()
	var heard []propagate.Event
	p := newPropagator(t, shop(t).instance(), func(c *propagate.Config) {
		c.Observer = func(e propagate.Event) { heard = append(heard, e) }
	})
	for range 3 {
		p.Evaluate(t.Context(), "split", eval.Boolean, nil)
		p.Evaluate(t.Context(), "pricing", eval.Boolean, nil)
		p.Extract(t.Context(), propagate.HTTPCarrier{"Guidon": {"rubbish"}})
	}
	want := []propagate.Event{
		{Kind: propagate.NoState, Flag: "split"},
		{Kind: propagate.NoState, Flag: "pricing"},
		{Kind: propagate.HeaderRefused, Outcome: propagate.Malformed},
		{Kind: propagate.Rooted},
	}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
	s := p.Stats()
	if s.Headers[propagate.Malformed] != 3 || s.Flags[propagate.NoState]["split"] != 3 || s.Events[propagate.NoState] != 6 {
		t.Errorf("Stats = %+v, want 3 malformed and 6 no_state, 3 of split", s)
	}
}

// The names in a header are those of the allow-list at its pin, whatever the
// list says now.
func TestEvaluateReadsNamesOfThePin(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		settingsRow(t, `[{"attribute":"country","as":"c"},{"attribute":"plan","as":"p"}]`),
		flagRow(t, "pricing", "off", equals("plan", "gold"), ""))
	pin := w.head()
	w.publish(t, settingsRow(t, `[{"attribute":"country","as":"p"},{"attribute":"plan","as":"c"}]`))
	leaf := w.instance()
	leaf.catchUp()
	p := newPropagator(t, leaf)
	r := p.Evaluate(received(t, p, pinnedAt(t, pin)), "pricing", eval.Boolean, nil)
	if got, want := r.Variant(), "on"; got != want {
		t.Errorf("Evaluate(pricing) with p=gold, the alias of plan at the pin = %q, want %q", got, want)
	}
}
