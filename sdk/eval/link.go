package eval

import (
	"slices"
	"strings"
)

// links are the rows that a flag reads besides its own.
type links struct {
	segments      []*segment // sorted by name, transitively, without those of prerequisites
	prerequisites []*Flag    // in the order of requires

	// dependencies are the names of all rows the flag was compiled from, sorted,
	// and of those that are missing if it is isolated for that.
	dependencies []Name
}

func (l *links) depend(names ...Name) {
	for _, name := range names {
		if i, ok := slices.BinarySearchFunc(l.dependencies, name, Name.compare); !ok {
			l.dependencies = slices.Insert(l.dependencies, i, name)
		}
	}
}

// linker finds the rows that a flag reads. What it has found before an error
// stands, so that the flag is compiled again when that changes.
type linker struct {
	compiler *compiler
	flag     *Flag
	open     []string // segments, outermost first
}

// linkOwn finds the rows that every flag reads, one that cannot be read too: it
// can be killed, and it is part of what its project sees.
func (c *compiler) linkOwn(f *Flag) {
	depend := func(row Row) {
		f.links.depend(row.name())
		f.effectiveFrom = max(f.effectiveFrom, row.From)
	}
	depend(f.row)
	// Also while there is none: its coming changes the flag.
	f.links.depend(Name{KindEmergency, f.key})
	if e := c.snapshot.emergencies[f.key]; e != nil {
		depend(e.row)
	}
	for _, row := range c.newer[f.key] {
		depend(row)
	}
	if s := c.snapshot.settings; s != nil {
		depend(s.row)
	}
}

func (l *linker) link(definition value) error {
	f := l.flag
	if s := l.compiler.snapshot.settings; s != nil && s.err != nil {
		return placed("", "the settings of the environment are not valid: %v", s.err)
	}
	if e := l.compiler.snapshot.emergencies[f.key]; e != nil && e.err != nil {
		return placed("", "the emergency of the flag is not valid: %v", e.err)
	}
	if newer := l.compiler.newer[f.key]; len(newer) > 0 {
		return placed("", "depends on the row %s, of a kind that this version does not know", newer[0].name())
	}
	if err := definition.field("targeting").references(l.segment); err != nil {
		return within(".flag.targeting", err)
	}
	slices.SortFunc(f.links.segments, func(a, b *segment) int { return strings.Compare(a.row.Name, b.row.Name) })
	for i, r := range f.attributes.requires {
		if err := l.prerequisite(r); err != nil {
			return within(pathOf("guidon", "requires", i), err)
		}
	}
	return nil
}

func (l *linker) segment(name string) error {
	f := l.flag
	f.links.depend(Name{KindSegment, name})
	s := l.compiler.snapshot.segments[name]
	switch {
	case s == nil:
		return placed("", "refers to segment %q, which does not exist", name)
	case s.err != nil:
		return placed("", "refers to segment %q, which is not valid: %v", name, s.err)
	case slices.Contains(l.open, name):
		return placed("", "segment %q refers to itself: %s", name, strings.Join(append(l.open, name), " → "))
	case len(l.open) == maxRuleDepth:
		return placed("", "segments refer to one another deeper than %d", maxRuleDepth)
	case slices.Contains(f.links.segments, s):
		return nil
	}
	f.links.segments = append(f.links.segments, s)
	f.effectiveFrom = max(f.effectiveFrom, s.row.From)
	l.open = append(l.open, name)
	err := s.rule.references(l.segment)
	l.open = l.open[:len(l.open)-1]
	return err
}

// circle refuses flags of which each requires the next, and the last the first.
// Whichever of them is changed may open it again.
func (l *linker) circle(keys []string) error {
	s := l.compiler.snapshot
	for _, key := range keys {
		l.flag.links.depend(Name{KindFlag, key}, Name{KindEmergency, key})
		l.flag.effectiveFrom = max(l.flag.effectiveFrom, s.flags.get(key).row.From)
		if e := s.emergencies[key]; e != nil {
			l.flag.effectiveFrom = max(l.flag.effectiveFrom, e.row.From)
		}
	}
	return placed("", "flag %q requires itself: %s → %s", keys[0], strings.Join(keys, " → "), keys[0])
}

func (l *linker) prerequisite(r requirement) error {
	f := l.flag
	// Its emergency also while there is none, as with the flag's own.
	f.links.depend(Name{KindFlag, r.flag}, Name{KindEmergency, r.flag})
	p := l.compiler.asKilled(r.flag)
	if p == nil {
		if i := slices.Index(l.compiler.open, r.flag); i >= 0 {
			return l.circle(l.compiler.open[i:])
		}
		p = l.compiler.flag(r.flag)
	}
	if p == nil {
		return placed("", "requires flag %q, which does not exist", r.flag)
	}
	f.links.depend(p.links.dependencies...)
	f.effectiveFrom = max(f.effectiveFrom, p.effectiveFrom)
	if p.err != nil {
		return placed("", "requires flag %q, which is not valid: %v", r.flag, p.err)
	}
	for _, name := range r.variants {
		if variantIndex(p.variants, name) < 0 {
			return placed("", "requires variant %q of flag %q, which has it not", name, r.flag)
		}
	}
	f.links.prerequisites = append(f.links.prerequisites, p)
	return nil
}
