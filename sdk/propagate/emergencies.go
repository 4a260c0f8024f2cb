package propagate

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// SeenName is the header or trailer of an answer that tells the caller which
	// emergencies the request has met further down. It carries nothing else.
	SeenName = "guidonseen"

	// maxMarks is how many emergencies a header names. Beyond that it says only
	// up to which revision there were some, and who needs one fetches the log.
	maxMarks = 32
)

// known is which emergencies a request is known to have met: all that there
// were up to a revision. It is immutable; a State only ever goes on to one of a
// greater revision, which covers all that the one before did, since logs have
// no gaps.
type known struct {
	until int64 // the format's k; 0 = none is known

	// marks names each flag with an emergency in (pin, until], once, sorted by
	// flag. Empty if there are too many, and then nobody can tell from this
	// alone which flags those are.
	marks []Decision

	// value is the header that says so; "" until it is asked for.
	value string
}

// marksOf are the marks of a log, none if there are too many.
func marksOf(emergencies []eval.Emergency) []Decision {
	if len(emergencies) > maxMarks {
		return nil
	}
	marks := make([]Decision, 0, len(emergencies))
	for _, e := range emergencies {
		marks = append(marks, Decision{Flag: e.Flag, Variant: e.Variant, Mark: MarkEmergency, Emergency: e.Revision})
	}
	return marks
}

// metBy is what a header says of emergencies.
func metBy(h *Header) known {
	k := known{until: h.Known}
	for _, d := range h.Decisions {
		if d.Mark == MarkEmergency {
			k.marks = append(k.marks, d)
			k.until = max(k.until, d.Emergency) // never less, as we write it
		}
	}
	return k
}

// needs reports whether it takes a log that reaches up to k.until to answer for
// a flag, where the one at hand ends at revision end.
func (k *known) needs(flag string, end int64) bool {
	return len(k.marks) == 0 || k.marked(flag) > end
}

// marked returns the revision of a flag's mark, 0 without.
func (k *known) marked(flag string) int64 {
	i, ok := slices.BinarySearchFunc(k.marks, flag, func(d Decision, flag string) int { return strings.Compare(d.Flag, flag) })
	if !ok {
		return 0
	}
	return k.marks[i].Emergency
}

// contradicts reports whether a log and k, what the request has met, cannot both be
// whole. It takes a server that lost a kill when it was restored: the log is then
// of no use for this request, since its value must not go back. A process that
// sees some projects only has a log of these: what the request has met in others
// says nothing of it.
func (s *State) contradicts(k *known, log eval.Emergencies) bool {
	pin, part := s.pin.Revision, s.p.config.Keys.onlyVerifies()
	if k.until <= pin {
		return false
	}
	if len(k.marks) == 0 {
		return !part && log.Revision() >= k.until && !log.Has(k.until)
	}
	for _, e := range log.Between(pin, k.until) {
		if k.marked(e.Flag) < e.Revision {
			return true
		}
	}
	newest := s.p.config.Snapshots.Snapshot()
	for _, m := range k.marks {
		if part && (newest == nil || newest.Flag(m.Flag) == nil) {
			continue
		}
		if e, _ := log.After(m.Flag, pin); m.Emergency <= log.Revision() && e.Revision < m.Emergency {
			return true
		}
	}
	return false
}

// outgoing returns what is known of the request's emergencies here and now: what
// came with it, what answers brought, and what this process itself knows.
func (s *State) outgoing() *known {
	log := s.p.config.Snapshots.Emergencies()
	k := s.met.Load()
	if k.value != "" && log.Newest() <= max(k.until, s.pin.Revision) {
		return k
	}
	return s.renew(log)
}

// renew goes on to what the log knows and writes the header that says so.
func (s *State) renew(log eval.Emergencies) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next()
	s.raise(next, log)
	if next.value == "" {
		s.write(next)
	}
	s.met.Store(next)
	return next
}

// next is a copy of what is known, to go on with and then to store. It is called
// under the lock.
func (s *State) next() *known {
	now, next := s.met.Load(), &s.knowns[1]
	if now != &s.knowns[0] { // the second is in use
		next = new(known)
	}
	*next = *now
	return next
}

// raise makes k what the log knows, if that is more.
func (s *State) raise(k *known, log eval.Emergencies) {
	if newest := log.Newest(); newest > max(k.until, s.pin.Revision) && !s.contradicts(k, log) {
		*k = known{until: newest, marks: marksOf(log.Between(s.pin.Revision, newest))}
	}
}

// served keeps in mind what the log knew when it gave an answer, in case a later
// one has lost it.
func (s *State) served(log eval.Emergencies) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next()
	if s.raise(next, log); next.until > s.met.Load().until {
		s.met.Store(next)
	}
}

// write signs the header of k. A process that must not sign goes on with what it
// received: whoever reads that knows less, and never something wrong.
func (s *State) write(k *known) {
	h := s.pin
	h.Known = k.until
	for {
		h.Decisions = marked(s.pin.Decisions, k.marks)
		value, err := s.p.config.Keys.signAs(headerLabel, &h)
		if len(k.marks) > 0 && (err == nil && len(value) > headerBudget || errors.Is(err, errOversize)) {
			k.marks = nil
			continue
		}
		if err != nil { // no key that signs, or no environment yet
			value = s.received
		}
		k.value = value
		return
	}
}

// marked returns decisions with those marks in place of the emergencies that they
// name themselves.
func marked(decisions, marks []Decision) []Decision {
	emergency := func(d Decision) bool { return d.Mark == MarkEmergency }
	if len(marks) == 0 && !slices.ContainsFunc(decisions, emergency) {
		return decisions // nearly always
	}
	plain := slices.DeleteFunc(slices.Clone(decisions), emergency)
	all := slices.Concat(marks, plain) // an emergency stands before what it overrules
	slices.SortStableFunc(all, func(a, b Decision) int { return strings.Compare(a.Flag, b.Flag) })
	return slices.CompactFunc(all, func(a, b Decision) bool { return a.Flag == b.Flag })
}

// Seen returns the value that the answer to a request carries under SeenName: the
// emergencies that are known here and that the caller did not send along. It
// reports false, nearly always, if there is nothing to tell, and wherever the
// caller is not of the zone.
func (p *Propagator) Seen(ctx context.Context) (value string, ok bool) {
	s := stateOf(ctx)
	if s == nil || !s.followed || p.config.Mode != Internal {
		return "", false
	}
	k := s.outgoing()
	if k.until <= max(s.pin.Known, s.pin.Revision) {
		return "", false
	}
	h := Header{
		Correlation: s.pin.Correlation, Root: s.pin.Root, Environment: s.pin.Environment, Revision: s.pin.Revision,
		Known: k.until, Time: s.pin.Time, Decisions: k.marks,
	}
	value, err := p.config.Keys.signAs(seenLabel, &h)
	return value, err == nil
}

// Join takes what the answer to a call carried under SeenName: the request of
// ctx has met those emergencies, too. Values that are not rightly signed for
// this very root are counted and passed over.
func (p *Propagator) Join(ctx context.Context, values []string) {
	s := stateOf(ctx)
	if len(values) == 0 || s == nil || s.off || !s.sealed.Load() {
		return
	}
	if len(values) > 1 || !s.join(values[0]) {
		p.counters.event(JoinRefused)
	}
}

// join reports whether value was of this request.
func (s *State) join(value string) bool {
	h, err := s.p.config.Keys.verifyAs(seenLabel, value)
	if err != nil || !s.sameRoot(&h) {
		return false
	}
	k := metBy(&h)
	if len(k.marks) != len(h.Decisions) {
		return false
	}
	s.unite(k)
	return true
}

// sameRoot reports whether h is of the very root that s is of.
func (s *State) sameRoot(h *Header) bool {
	return h.Root == s.pin.Root && h.Correlation == s.pin.Correlation && h.Environment == s.pin.Environment && h.Revision == s.pin.Revision
}

// unite goes on to what k knows if that is more.
func (s *State) unite(k known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.until <= s.met.Load().until {
		return
	}
	k.value = ""
	s.met.Store(&k)
	s.p.counters.event(Joined)
}

// emergency answers for a flag with the emergency that it had after a revision,
// if there is one: it reports whether the result is settled. The log of this
// process comes first; if the request has met a later emergency the log up to
// that is fetched, unless the request says that this flag had none.
//
// strict says that the flag must not be answered without that log.
func (e *evaluation) emergency(ctx context.Context, after int64, strict bool) (settled bool) {
	log := e.p.config.Snapshots.Emergencies()
	missing := false
	if e.state != nil {
		if met := e.state.met.Load(); met != nil && met.until > after {
			if met.until > log.Revision() && met.needs(e.key, log.Revision()) {
				fetched, err := e.emergenciesAt(ctx, met.until)
				if missing = err != nil; !missing {
					log = fetched
				}
			}
			missing = missing || e.state.contradicts(met, log)
		}
	}
	if missing && strict {
		e.p.counters.flag(EmergencyUnavailable, e.key)
		e.unavailable("an emergency that the request has met could not be had")
		return true
	}
	if log.Newest() <= after {
		return false // nearly always
	}
	found, ok := log.After(e.key, after)
	if !ok {
		return false
	}
	e.result.Resolution, e.result.Origin, e.result.Revision = found.Resolution(), OriginEmergency, found.Revision
	if e.state != nil && e.result.Pinned != 0 {
		e.state.served(log)
		e.pierced(found.Revision)
	}
	return true
}

// errShortLog says that Snapshots gave less than was asked for.
var errShortLog = errors.New("the emergency log does not reach up to the revision")

// emergenciesAt returns a log that reaches up to a revision, or an error.
func (e *evaluation) emergenciesAt(ctx context.Context, revision int64) (eval.Emergencies, error) {
	e.p.counters.event(EmergenciesFetched)
	ctx, cancel := context.WithTimeout(ctx, fetchBudget)
	defer cancel()
	log, err := e.p.config.Snapshots.EmergenciesAt(ctx, revision)
	if err == nil && log.Revision() < revision {
		err = errShortLog
	}
	return log, err
}

// pierced counts the request, once for each emergency that changed a value of it
// under way.
func (e *evaluation) pierced(revision int64) {
	e.p.counters.flag(EmergencyPierced, e.key)
	s := e.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.pierced, revision) {
		s.pierced = append(s.pierced, revision)
		e.p.counters.pierce(revision)
	}
}
