package propagate

import (
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// The shares of HeaderBudget (propagation.md §4). Beside the longest fixed part
// they leave room for any one decision.
const (
	maxSubjectBytes   = 512
	maxAttributeBytes = 1024
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
	subject, ok := s.full[targetingKey].(string)
	switch {
	case !ok || subject == "":
	case !validText(subject) || escapedLength(subject) > maxSubjectBytes:
		s.p.counters.event(SubjectLeftOut)
	default:
		s.pin.Subject, s.pin.HasSubject = subject, true
		return
	}
	delete(s.full, targetingKey)
}

// settleAttributes puts the travelling attributes into the pin and returns the
// flags that read one which the root has but which cannot travel.
func (s *State) settleAttributes(plan *plan) (stranded []*eval.Flag) {
	size := 0
	for _, t := range plan.travel {
		value, ok := s.full[t.attribute]
		if !ok {
			continue
		}
		a, ok := attributeOf(t.wire, value)
		length := a.length() + len("&")
		if !ok || size+length > maxAttributeBytes {
			s.p.counters.event(AttributeLeftOut)
			stranded = append(stranded, t.readers...)
			continue
		}
		size += length
		s.pin.Attributes = append(s.pin.Attributes, a)
	}
	return stranded
}

// attributeOf makes the attribute of an application's value, which may be of
// any Go type that an evaluation context takes.
func attributeOf(wire string, value any) (Attribute, bool) {
	switch v := value.(type) {
	case string, bool, float64:
		return NewAttribute(wire, v)
	case int:
		return NewAttribute(wire, float64(v))
	}
	c, err := eval.NewContext(map[string]any{"v": value})
	if err != nil {
		return Attribute{}, false
	}
	plain, ok := c.Value("v")
	if !ok {
		return Attribute{}, false
	}
	return NewAttribute(wire, plain)
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
	room := min(maxDecisionBytes, HeaderBudget-s.pin.undecidedLength())
	forced := s.pin.Decisions
	for _, d := range forced {
		room -= d.length()
	}
	decided := slices.Grow(slices.Clone(forced), min(len(wanted), maxRootDecisions))
	for _, f := range wanted {
		if slices.ContainsFunc(forced, func(d Decision) bool { return d.Flag == f.Key() }) {
			continue
		}
		r := f.Evaluate(s.fullContext(), s.pin.Time)
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
	slices.SortFunc(decided, func(a, b Decision) int { return strings.Compare(a.Flag, b.Flag) })
	s.pin.Decisions = decided
}
