package propagate

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// The shares of headerBudget (propagation.md §4). Beside the longest fixed part
// they leave room for any one decision.
const (
	maxSubjectBytes   = 512
	maxAttributeBytes = eval.MaxTravelBytes
	maxDecisionBytes  = eval.MaxRootDecisionBytes
	maxRootDecisions  = eval.MaxRootDecisions
)

// settle works out, from all the root knows, what travels. It runs once, with
// the lock held, just before s is sealed.
//
// Whatever cannot travel is no reason to disagree: an attribute that stays
// behind is kept from evaluation at the root too, except that the flags which
// read it are decided here, once, with everything the root knows.
func (s *State) settle() {
	plan := s.plan.ready()
	s.settleSubject()
	s.settleOverrides()
	stranded := s.settleAttributes(plan)

	if len(stranded) == 0 {
		s.decide(plan.decided)
		return
	}
	s.decide(unique(slices.Concat(plan.rooted, stranded, plan.attached)))
}

// unique drops repetitions and keeps the order.
func unique(flags []*eval.Flag) []*eval.Flag {
	seen := make(map[*eval.Flag]bool, len(flags))
	return slices.DeleteFunc(flags, func(f *eval.Flag) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
}

func (s *State) settleSubject() {
	subject, ok := s.full.TargetingKey()
	switch {
	case !ok || subject == "":
	case mended(subject) || escapedLength(subject) > maxSubjectBytes:
		s.p.counters.event(SubjectLeftOut)
	default:
		s.pin.Subject, s.pin.HasSubject = subject, true
		return
	}
	if _, there := s.full.Attribute(targetingKey); there {
		rest := s.full.Map()
		delete(rest, targetingKey)
		s.full = s.p.usable(rest)
	}
}

// mended reports whether a text of a context was no UTF-8 when it came. Others
// cannot be told from it any more, so it stays where it is.
func mended(text string) bool { return strings.ContainsRune(text, utf8.RuneError) }

// settleAttributes puts the travelling attributes into the pin and returns the
// flags that read one which the root has but which cannot travel.
func (s *State) settleAttributes(plan *plan) (stranded []*eval.Flag) {
	size := 0
	for _, t := range plan.travel {
		a, there, fits := s.attribute(t)
		if !there {
			continue
		}
		length := a.length() + len("&")
		if !fits || size+length > maxAttributeBytes {
			s.p.counters.event(AttributeLeftOut)
			stranded = append(stranded, t.readers...)
			continue
		}
		size += length
		if s.pin.Attributes == nil {
			s.pin.Attributes = make([]Attribute, 0, len(plan.travel))
		}
		s.pin.Attributes = append(s.pin.Attributes, a)
	}
	return stranded
}

// attribute is what the root has of an attribute that may travel, if anything,
// and whether it can: it is a string, a number or a boolean, and not too long.
func (s *State) attribute(t travel) (a Attribute, there, fits bool) {
	if text, ok := s.full.Text(t.attribute); ok { // most are, and boxing each would cost
		a = Attribute{Name: t.wire, text: text}
		return a, true, validAttributeName(t.wire) && !mended(text) && len(text) <= t.limit
	}
	value, there := s.full.Attribute(t.attribute)
	if !there {
		return a, false, false
	}
	a, fits = NewAttribute(t.wire, value)
	return a, true, fits && (a.kind != numberAttribute || a.digits() <= t.limit)
}

// decide takes the root decisions, those that nobody else could take first.
//
// Beyond the bounds a flag gets none, and then not even the root uses what
// does not travel: everybody evaluates it from the travelling context, the
// root included. That answer may be poorer, but all hops share it, whereas a
// root that kept its richer answer to itself would tear the request.
func (s *State) decide(wanted []*eval.Flag) {
	if len(wanted) == 0 {
		return
	}
	room := min(maxDecisionBytes, headerBudget-s.pin.undecidedLength())
	forced := s.pin.Decisions
	for _, d := range forced {
		room -= d.length()
	}
	decided := append(make([]Decision, 0, len(forced)+min(len(wanted), maxRootDecisions)), forced...)
	for _, f := range wanted {
		if slices.ContainsFunc(forced, func(d Decision) bool { return d.Flag == f.Key() }) {
			continue
		}
		r := f.Evaluate(s.full, s.pin.Time)
		if r.ErrorCode() != eval.CodeNone {
			s.p.counters.flag(RootFailed, f.Key())
		}
		d := Decision{Flag: f.Key(), Mark: MarkRoot, Variant: r.Variant()}
		size := d.length()
		if len(decided) == len(forced)+maxRootDecisions || size > room || !validVariant(d.Variant) && d.Variant != "" || !validFlagKey(d.Flag) {
			s.p.counters.flag(OverBudget, d.Flag)
			continue
		}
		room -= size
		decided = append(decided, d)
	}
	byFlag := func(a, b Decision) int { return strings.Compare(a.Flag, b.Flag) }
	if !slices.IsSortedFunc(decided, byFlag) {
		slices.SortFunc(decided, byFlag)
	}
	s.pin.Decisions = decided
}
