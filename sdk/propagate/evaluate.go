package propagate

import (
	"context"
	"slices"
	"strings"
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
	r := p.evaluate(ctx, key, call)
	r.Resolution = r.Resolution.As(t)
	return r
}

func (p *Propagator) evaluate(ctx context.Context, key string, call map[string]any) Result {
	newest := p.config.Snapshots.Snapshot()
	var flag *eval.Flag
	if newest != nil {
		flag = newest.Flag(key)
	}
	s := stateOf(ctx)
	if s != nil && !s.p.same(p) {
		s = nil
	}
	switch {
	case s == nil:
		if flag != nil && flag.Scope() == scopeRequest {
			p.counters.flag(NoState, key)
		}
		return p.atNewest(nil, newest, flag, key, call)
	case s.off, flag != nil && flag.Scope() == scopeLocal, !s.seal(call):
		return p.atNewest(s, newest, flag, key, call)
	}
	return p.atPin(ctx, s, newest, flag, key, call)
}

// nowhere holds no flags: what it answers for one is a resolution without a
// flag and without a value, the base of every answer that has neither.
var nowhere, _ = eval.Compile(0, nil)

func unanswered(code eval.ErrorCode, detail string) Result {
	return Result{Resolution: nowhere.Evaluate("", nil, 0), Origin: OriginNone, code: code, detail: detail}
}

// atNewest is plain OpenFeature: newest revision, everything known here.
func (p *Propagator) atNewest(s *State, newest *eval.Snapshot, flag *eval.Flag, key string, call map[string]any) Result {
	if newest == nil {
		return unanswered(codeNotReady, "no snapshot has arrived yet")
	}
	r := Result{Revision: newest.Revision(), Origin: OriginNewest}
	if flag == nil {
		r.Resolution = newest.Evaluate(key, nil, 0)
		return r
	}
	c, err := s.merged(call, newest)
	if err != nil {
		return unanswered(codeInvalidContext, err.Error())
	}
	r.Resolution = flag.Evaluate(c, p.config.Now().Unix())
	return r
}

// atPin answers for a request flag under a sealed State. The order of the rules
// is what all hops share (propagation.md §3): emergency, override, root
// decision, evaluation at the pin; the code default where none applies.
func (p *Propagator) atPin(ctx context.Context, s *State, newest *eval.Snapshot, latest *eval.Flag, key string, call map[string]any) Result {
	pin := &s.pin
	r := Result{Revision: pin.Revision, Pinned: pin.Revision}
	other := s.otherSubject(call)
	decision, decided := pin.decision(key)

	if decided && decision.Mark == MarkEmergency && decision.Emergency > pin.Revision {
		// The emergency's own revision defines the value, so that everybody
		// serves the same one even if the variant was edited since.
		flag, err := p.flagAt(ctx, nil, newest, latest, key, decision.Emergency)
		if err != nil {
			return p.unavailable(r, latest, key)
		}
		if resolution, ok := chosen(flag, decision.Variant); ok {
			r.Resolution, r.Revision, r.Origin = resolution, decision.Emergency, OriginEmergency
			return r
		}
		p.counters.flag(UnknownVariant, key)
	}

	flag, err := p.flagAt(ctx, s.snapshot, newest, latest, key, pin.Revision)
	switch {
	case err != nil:
		return p.unavailable(r, latest, key)
	case flag == nil && latest != nil:
		return p.createdAfterPin(r, latest, key)
	case flag == nil || flag.Scope() == scopeLocal: // local flags are read at the newest, where this one is no more
		r.Resolution, r.Origin = nowhere.Evaluate(key, nil, 0), OriginNone
		return r
	}

	if decided && (decision.Mark == MarkOverride || decision.Mark == MarkRoot && !other) {
		if resolution, ok := chosen(flag, decision.Variant); ok {
			r.Resolution, r.Origin = resolution, OriginRoot
			if decision.Mark == MarkOverride {
				r.Origin = OriginOverride
			}
			r.IgnoredAttributes = p.ignored(s, newest, call, key)
			return r
		}
		p.counters.flag(UnknownVariant, key)
	}

	r.Origin = OriginPin
	if s.travelling.Load() == nil { // the definition may have come with a newer snapshot
		newest = p.config.Snapshots.Snapshot()
	}
	if other {
		return p.forOther(r, s, newest, flag, call)
	}
	travelled := s.travellingAt(newest)
	if travelled == nil {
		return p.unavailable(r, latest, key)
	}
	r.Resolution = flag.Evaluate(travelled.context, pin.Time)
	r.IgnoredAttributes = p.ignored(s, newest, call, key)
	return r
}

// chosen makes the resolution of a variant chosen elsewhere; false if the flag
// does not have it. The empty variant is the code default, which a disabled
// flag and one without a match share.
func chosen(flag *eval.Flag, variant string) (eval.Resolution, bool) {
	switch {
	case flag == nil:
		return eval.Resolution{}, false
	case variant != "":
		return flag.Decided(variant, eval.ReasonTargetingMatch)
	case flag.State() == "DISABLED":
		return flag.Decided("", eval.ReasonDisabled)
	}
	return flag.Decided("", eval.ReasonDefault)
}

// flagAt finds the flag as of a revision: in the pin's own snapshot if this
// process has it, in the newest if nothing the flag reads has changed since,
// and else by history. Nil without an error means it did not exist.
func (p *Propagator) flagAt(ctx context.Context, own, newest *eval.Snapshot, latest *eval.Flag, key string, revision int64) (*eval.Flag, error) {
	switch {
	case own != nil:
		return own.Flag(key), nil
	case revision == 0: // before the first change there was nothing
		return nil, nil
	case newest != nil && revision <= newest.Revision():
		if latest != nil && latest.EffectiveFrom() <= revision || latest == nil && newest.Revision() == revision {
			return latest, nil
		}
	}
	p.counters.flag(PinFetched, key)
	ctx, cancel := context.WithTimeout(ctx, fetchBudget)
	defer cancel()
	return p.config.Snapshots.FlagAt(ctx, key, revision)
}

// unavailable is an explicit error: another revision's value would be a tear
// that nobody sees.
func (p *Propagator) unavailable(r Result, latest *eval.Flag, key string) Result {
	p.counters.flag(PinUnavailable, key)
	missing := unanswered(eval.CodeGeneral, "the flag's definition at the pinned revision could not be had")
	missing.Revision, missing.Pinned, missing.PinUnavailable = r.Revision, r.Pinned, true
	if latest != nil { // for its metadata
		missing.Resolution, _ = latest.Decided("", eval.ReasonError)
	}
	return missing
}

func (p *Propagator) createdAfterPin(r Result, latest *eval.Flag, key string) Result {
	p.counters.flag(CreatedAfterPin, key)
	r.Resolution, _ = latest.Decided("", eval.ReasonDefault)
	r.Origin, r.CreatedAfterPin = OriginPin, true
	return r
}

// forOther evaluates at the pin for somebody else than the request is about:
// with that targeting key, what may travel of the call's attributes, and the
// root's clock. Nothing of it is recorded.
func (p *Propagator) forOther(r Result, s *State, newest *eval.Snapshot, flag *eval.Flag, call map[string]any) Result {
	p.counters.flag(OtherSubject, flag.Key())
	listed, ok := s.allowList(newest)
	if !ok {
		return p.unavailable(r, flag, flag.Key())
	}
	attributes := map[string]any{targetingKey: call[targetingKey]}
	for name, value := range call {
		switch {
		case name == targetingKey:
		case travels(listed, name):
			attributes[name] = value
		default:
			r.IgnoredAttributes = append(r.IgnoredAttributes, name)
		}
	}
	slices.Sort(r.IgnoredAttributes)
	c, err := eval.NewContext(attributes)
	if err != nil {
		bad := unanswered(codeInvalidContext, err.Error())
		bad.Revision, bad.Pinned = r.Revision, r.Pinned
		return bad
	}
	r.Resolution = flag.Evaluate(c, s.pin.Time)
	return r
}

func (h *Header) decision(key string) (Decision, bool) {
	if len(h.Decisions) == 0 {
		return Decision{}, false
	}
	i, found := slices.BinarySearchFunc(h.Decisions, key, func(d Decision, key string) int { return strings.Compare(d.Flag, key) })
	if !found {
		return Decision{}, false
	}
	return h.Decisions[i], true
}
