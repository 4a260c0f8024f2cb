package propagate

import (
	"context"
	"slices"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// fetchBudget bounds how long one evaluation waits for a definition that is
// not at hand.
const fetchBudget = 50 * time.Millisecond

// The scopes of flags; Flag.Scope is one of them.
const (
	scopeRequest = "request"
	scopeLocal   = "local"
)

// Evaluate evaluates a flag as the request of ctx must see it; t is the wanted
// type. call is the evaluation context passed at this call, flattened, and may
// be nil: it counts in full for flags of local scope and without a State, and
// for a request flag only if this evaluation seals the State.
//
// It never fails and never panics: what goes wrong is an ERROR resolution,
// for which the caller uses its default. It does no I/O unless the definition
// at the pin is not at hand, and then waits at most 50 ms.
func (p *Propagator) Evaluate(ctx context.Context, key string, t eval.Type, call map[string]any) Result {
	e := evaluation{p: p, newest: p.config.Snapshots.Snapshot(), key: key, call: call}
	if e.newest != nil {
		e.latest = e.newest.Flag(key)
	}
	if s := stateOf(ctx); s != nil && s.p.same(p) {
		e.state = s
	}
	switch {
	case e.state == nil:
		if e.latest != nil && e.latest.Scope() == scopeRequest {
			p.counters.flag(NoState, key)
		}
		e.atNewest(ctx)
	case e.state.off, e.latest != nil && e.latest.Scope() == scopeLocal, !e.state.seal(call):
		e.atNewest(ctx)
	default:
		e.atPin(ctx)
		e.result.Overridden = e.state.Overridden()
	}
	e.result.Resolution = e.result.As(t)
	return e.result
}

// evaluation is one call of Evaluate.
type evaluation struct {
	p      *Propagator
	state  *State // nil without, or if it belongs to another environment
	newest *eval.Snapshot
	latest *eval.Flag // the flag in newest
	key    string
	call   map[string]any
	result Result
}

// nowhere holds no flags: what it answers for one is a resolution without a
// flag and without a value, the base of every answer that has neither.
var nowhere, _ = eval.Compile(0, nil)

// fail makes the result an error without a value.
func (e *evaluation) fail(code eval.ErrorCode, detail string) {
	e.result.Resolution, e.result.Origin = nowhere.Evaluate(e.key, nil, 0), OriginNone
	e.result.code, e.result.detail = code, detail
}

// atNewest is plain OpenFeature: newest revision, everything known here.
func (e *evaluation) atNewest(ctx context.Context) {
	if e.newest == nil {
		e.fail(codeNotReady, "no snapshot has arrived yet")
		return
	}
	e.result.Revision, e.result.Origin = e.newest.Revision(), OriginNewest
	if e.latest == nil {
		e.result.Resolution = e.newest.Evaluate(e.key, nil, 0)
		return
	}
	if e.emergency(ctx, e.newest.Revision(), false) { // one that is ahead of the newest snapshot
		return
	}
	c, err := e.state.merged(e.call, e.newest)
	if err != nil {
		e.fail(codeInvalidContext, err.Error())
		return
	}
	e.result.Resolution = e.latest.Evaluate(c, e.p.config.Now().Unix())
}

// atPin answers for a request flag under a sealed State. The order of the rules
// is what all hops share (propagation.md §3): emergency, override, root
// decision, evaluation at the pin; the code default where none applies.
func (e *evaluation) atPin(ctx context.Context) {
	pin := &e.state.pin
	e.result.Revision, e.result.Pinned = pin.Revision, pin.Revision
	if e.emergency(ctx, pin.Revision, true) {
		return
	}
	var flag *eval.Flag
	var err error
	if own := e.state.snapshot; own != nil {
		flag = own.Flag(e.key)
	} else if flag, err = e.flagAt(ctx, pin.Revision); err != nil {
		e.unavailable("the flag's definition at the pinned revision could not be had")
		return
	}
	switch {
	case flag == nil && e.latest != nil:
		e.createdAfterPin()
		return
	case flag == nil || flag.Scope() == scopeLocal: // local flags are read at the newest, where this one is no more
		e.fail(eval.CodeFlagNotFound, "the flag does not exist")
		return
	}

	decision, decided := pin.decision(e.key)
	other := e.state.otherSubject(e.call)
	if _, killed := flag.Killed(); killed {
		decided = false // before the pin already: no override wins against it
	}
	if decided && decision.Mark == MarkOverride && e.decide(flag, decision, OriginOverride) {
		e.p.counters.flag(OverrideUsed, e.key)
		return
	}
	if decided && decision.Mark == MarkRoot && !other && e.decide(flag, decision, OriginRoot) {
		e.compare(flag, decision)
		e.noteIgnored(flag)
		return
	}
	e.result.Origin, e.result.NotTravelling = OriginPin, flag.NotTravelling()
	if e.result.Nearest > 0 {
		e.result.Origin = OriginNearest
	}
	if other {
		e.forOther(flag)
		return
	}
	e.result.Resolution = flag.Evaluate(e.state.travellingUnder(flag.Settings().Travel).context, pin.Time)
	e.noteIgnored(flag)
}

// comparedIn is how many root decisions go by for one that is recomputed.
const comparedIn = 1000

// compare recomputes, now and then, a root decision that can be: for a flag that
// is attached and yet derivable. Anything else than the root's answer means that
// two processes do not evaluate alike.
func (e *evaluation) compare(flag *eval.Flag, d Decision) {
	if !flag.Derivable() || e.p.counters.decided.Add(1)%comparedIn != 1 {
		return
	}
	e.p.counters.flag(Compared, e.key)
	own := flag.Evaluate(e.state.travellingUnder(flag.Settings().Travel).context, e.state.pin.Time)
	if own.Variant() != d.Variant {
		e.p.counters.flag(Diverged, e.key)
	}
}

// flagAt finds the flag as of a revision: in the newest snapshot if nothing the
// flag reads has changed since, and else by history. Nil without an error means
// it did not exist.
func (e *evaluation) flagAt(ctx context.Context, revision int64) (*eval.Flag, error) {
	if revision == 0 { // before the first change there was nothing
		return nil, nil
	}
	if e.newest != nil && revision <= e.newest.Revision() {
		unchanged := e.latest != nil && e.latest.EffectiveFrom() <= revision
		if unchanged || e.latest == nil && e.newest.Revision() == revision {
			return e.latest, nil
		}
	}
	e.p.counters.flag(PinFetched, e.key)
	ctx, cancel := context.WithTimeout(ctx, fetchBudget)
	defer cancel()
	began := e.p.config.Now()
	flag, err := e.fetch(ctx, revision)
	e.p.counters.pinFetch.add(uint64(max(e.p.config.Now().Sub(began).Microseconds(), 0)))
	return flag, err
}

// fetch asks for the flag as of a revision, and for one that is no longer kept
// as of the oldest that is, if the flag has asked for that. What it asks for is
// read off its newest definition: the one at the pin is what cannot be had.
func (e *evaluation) fetch(ctx context.Context, revision int64) (*eval.Flag, error) {
	if e.latest == nil || !e.latest.Nearest() {
		return e.p.config.Snapshots.FlagAt(ctx, e.key, revision)
	}
	flag, at, err := e.p.config.Snapshots.Nearest(ctx, e.key, revision)
	if err == nil && at > revision {
		e.p.counters.flag(PinUnavailable, e.key)
		e.p.counters.flag(PinNearest, e.key)
		e.result.PinUnavailable, e.result.Nearest, e.result.Revision = true, at, at
	}
	return flag, err
}

// decide makes the result that of a decision which travelled. It reports false,
// and the next rule applies, if the flag does not have the variant. The empty
// variant is the code default, of a disabled flag or one without a match.
func (e *evaluation) decide(flag *eval.Flag, d Decision, origin Origin) bool {
	reason := eval.ReasonTargetingMatch
	if d.Variant == "" {
		if reason = eval.ReasonDefault; flag != nil && flag.State() == "DISABLED" {
			reason = eval.ReasonDisabled
		}
	}
	if flag != nil {
		if resolution, ok := flag.Decided(d.Variant, reason); ok {
			e.result.Resolution, e.result.Origin = resolution, origin
			return true
		}
	}
	e.p.counters.flag(UnknownVariant, e.key)
	return false
}

// unavailable is an explicit error: another revision's value would be a tear
// that nobody sees.
func (e *evaluation) unavailable(detail string) {
	e.p.counters.flag(PinUnavailable, e.key)
	e.fail(eval.CodeGeneral, detail)
	e.result.PinUnavailable = true
	if e.latest != nil { // for its metadata
		e.result.Resolution, _ = e.latest.Decided("", eval.ReasonError)
	}
}

func (e *evaluation) createdAfterPin() {
	e.p.counters.flag(CreatedAfterPin, e.key)
	e.result.Resolution, _ = e.latest.Decided("", eval.ReasonDefault)
	e.result.Origin, e.result.CreatedAfterPin = OriginPin, true
	if e.result.Nearest > 0 {
		e.result.Origin = OriginNearest
	}
}

// forOther evaluates at the pin for somebody else than the request is about:
// with that targeting key, what may travel of the call's attributes, and the
// root's clock. Nothing of it is recorded.
func (e *evaluation) forOther(flag *eval.Flag) {
	e.p.counters.flag(OtherSubject, e.key)
	if !e.state.pin.HasSubject {
		e.p.counters.flag(LateSubject, e.key)
	}
	listed := flag.Settings().Travel
	attributes := map[string]any{targetingKey: e.call[targetingKey]}
	for name, value := range e.call {
		switch {
		case name == targetingKey:
		case travels(listed, name):
			attributes[name] = value
		default:
			e.result.IgnoredAttributes = append(e.result.IgnoredAttributes, name)
		}
	}
	slices.Sort(e.result.IgnoredAttributes)
	c, err := eval.NewContext(attributes)
	if err != nil {
		e.fail(codeInvalidContext, err.Error())
		return
	}
	e.result.Resolution = flag.Evaluate(c, e.state.pin.Time)
}

// noteIgnored names what the call passed in vain.
func (e *evaluation) noteIgnored(flag *eval.Flag) {
	if len(e.call) == 0 {
		return
	}
	e.state.travellingUnder(flag.Settings().Travel)
	e.result.IgnoredAttributes = e.state.ignored(e.newest, e.call)
	if len(e.result.IgnoredAttributes) > 0 {
		e.p.counters.flag(IgnoredAttributes, e.key)
	}
}
