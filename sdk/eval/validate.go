package eval

import (
	"errors"
	"slices"
	"strings"
)

// The bounds of what may be written, besides those of a rule.
const (
	maxDefinition = 512 << 10 // bytes of a document
	maxValueDepth = 32        // of an object that is a variant's value
)

// ErrInvalid is what every [InvalidError] is, for errors.Is.
var ErrInvalid = errors.New("invalid definition")

// Problem is one thing wrong with a row, or to know about it.
type Problem struct {
	Name    Name
	Path    string // a JSON path into the document, such as $.flag.targeting.if[0]
	Message string
}

// String returns the problem as one line.
func (p Problem) String() string { return p.Name.String() + " " + p.Path + ": " + p.Message }

// InvalidError lists all that [Snapshot.Validate] found, in the order of the
// names it was given and, within a row, of its document.
type InvalidError struct {
	Problems []Problem
}

// Error returns one line per problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Is tells that an InvalidError is [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// Validate checks the rows of those names, and the flags that read them, as a
// write must: it returns nil or an [*InvalidError]. The snapshot must hold what
// the rows refer to; a name that it does not hold is passed over, being deleted.
//
// A flag that passes never evaluates to PARSE_ERROR, whatever the context, and
// to GENERAL only if its targeting computes the name of a variant, which
// [Flag.Warnings] tells.
func (s *Snapshot) Validate(names ...Name) error {
	seen := map[Name]bool{}
	var problems []Problem
	check := func(name Name) {
		if !seen[name] {
			seen[name] = true
			problems = append(problems, s.problems(name)...)
		}
	}
	for _, name := range names {
		check(name)
		readers := slices.Sorted(slices.Values(s.users[name]))
		if name.Kind == KindEmergency {
			check(Name{KindFlag, name.Name})
		}
		if name.Kind == KindSettings {
			readers = nil
			for _, f := range s.order {
				readers = append(readers, f.key)
			}
		}
		for _, key := range readers {
			check(Name{KindFlag, key})
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{Problems: problems}
}

func (s *Snapshot) problems(name Name) []Problem {
	row, ok := s.Row(name)
	if !ok {
		return nil
	}
	c := checker{name: name}
	if len(row.Document) > maxDefinition {
		c.report("is %d bytes long; %d are allowed", len(row.Document), maxDefinition)
		return c.problems
	}
	document, err := parseStrict(row.Document)
	if err != nil {
		c.reportError(err)
		return c.problems
	}
	switch name.Kind {
	case KindFlag:
		c.flag(s.flags.get(name.Name), document)
	case KindSegment:
		c.segment(s, s.segments[name.Name])
	case KindSettings:
		c.settings(s.settings)
	case KindEmergency:
		c.emergency(s.emergencies[name.Name], document)
	}
	return c.problems
}

// Warnings tells what is allowed but may surprise: targeting that computes the
// name of a variant, and a request flag that reads attributes which do not
// travel and is therefore decided at the root of a request.
func (f *Flag) Warnings() []Problem {
	c := checker{name: f.row.name()}
	document, err := parseStrict(f.row.Document)
	if err != nil || f.err != nil {
		return nil
	}
	if t, err := f.targeting(document.field("flag")); err == nil {
		c.trail = []any{"flag", "targeting"}
		for _, path := range c.outcomes(f, t.own) {
			c.problems = append(c.problems, Problem{c.name, path, "computes the name of a variant from the evaluation context; one that does not exist is an error"})
		}
	}
	if len(f.notTravelling) > 0 && f.attributes.scope == "request" {
		c.trail = []any{"flag", "targeting"}
		c.report("reads %s, which does not travel: the flag is decided at the root of a request", strings.Join(f.notTravelling, ", "))
	}
	return c.problems
}

// checker collects the problems of one row.
type checker struct {
	name     Name
	trail    []any
	problems []Problem
}

func (c *checker) report(format string, args ...any) {
	c.reportError(placed(pathOf(c.trail...), format, args...))
}

// reportError takes an error of the compiler, unless its place is reported already.
func (c *checker) reportError(err error) {
	p := Problem{Name: c.name, Path: "$", Message: err.Error()}
	if at, ok := err.(*placeError); ok { //nolint:errorlint // as within does
		p.Path, p.Message = "$"+at.path, at.text
	}
	if !slices.ContainsFunc(c.problems, func(q Problem) bool { return q.Path == p.Path }) {
		c.problems = append(c.problems, p)
	}
}

func (c *checker) in(step any, check func()) {
	c.trail = append(c.trail, step)
	check()
	c.trail = c.trail[:len(c.trail)-1]
}

func (c *checker) flag(f *Flag, document value) {
	if !ValidKey(f.key) {
		c.report("%q is no flag key: a letter, then at most 127 letters, digits, dots, dashes and underscores", f.key)
	}
	definition := document.field("flag")
	c.in("guidon", func() { c.attributes(f) })
	c.in("flag", func() {
		c.in("state", func() {
			if state := definition.field("state").str; state != stateEnabled && state != stateDisabled {
				c.report("must be %q or %q", stateEnabled, stateDisabled)
			}
		})
		c.in("variants", func() { c.variants(definition.field("variants")) })
		c.in("targeting", func() {
			switch t := definition.field("targeting"); {
			case t.shape() == shapeNull:
			case t.shape() != shapeObject:
				c.report("must be an object")
			case t.truthy():
				c.rule(t)
			}
		})
	})
	if f.err != nil {
		c.reportError(f.err)
		return
	}
	if t, err := f.targeting(definition); err == nil {
		c.trail = []any{"flag", "targeting"}
		c.outcomes(f.asDefined(definition), t.own)
		c.trail = nil
	}
	if f.excess != nil {
		c.reportError(f.excess)
	}
	// The validator is the interpreter: what it passes is run, too.
	if r := f.Evaluate(nil, 0); r.code == codeParseError {
		c.report("%s", r.Message())
	}
}

func (c *checker) attributes(f *Flag) {
	if f.attributes.project == "" {
		c.in("project", func() { c.report("must name the project that owns the flag") })
	}
	for i, p := range f.links.prerequisites {
		if p.attributes.archived {
			c.requirement(i, "flag %q is archived", p.key)
		}
	}
	if f.attributes.scope == "request" {
		for i, p := range f.links.prerequisites {
			if p.attributes.scope != "request" {
				c.requirement(i, "flag %q is of scope %s; what a request flag requires must be of scope request", p.key, p.attributes.scope)
			}
		}
	}
	if f.attributes.archived && !f.disabled {
		c.in("archived", func() { c.report("an archived flag must be %s", stateDisabled) })
	}
}

func (c *checker) requirement(i int, format string, args ...any) {
	c.in("requires", func() { c.in(i, func() { c.report(format, args...) }) })
}

func (c *checker) variants(v value) {
	if v.shape() != shapeObject {
		c.report("must be an object with at least one variant")
		return
	}
	for _, f := range v.ref.sorted() {
		c.in(f.key, func() {
			if !ValidVariant(f.key) {
				c.report("%q is no variant: 1 to 64 letters, digits, dots, dashes and underscores", f.key)
			}
			c.numbers(f.value, maxValueDepth)
		})
	}
}

// numbers refuses whole numbers that float64 does not hold exactly, and values
// that nest too deep.
func (c *checker) numbers(v value, depth int) {
	switch {
	case v.shape() == shapeNumber:
		c.number(v)
	case v.shape() != shapeList && v.shape() != shapeObject:
	case depth == 0:
		c.report("nests deeper than %d", maxValueDepth)
	default:
		for i, item := range v.ref.items {
			c.in(i, func() { c.numbers(item, depth-1) })
		}
		for _, f := range v.ref.fields {
			c.in(f.key, func() { c.numbers(f.value, depth-1) })
		}
	}
}

func (c *checker) segment(s *Snapshot, g *segment) {
	c.in("segment", func() {
		switch {
		case g.err != nil:
			c.reportError(g.err)
			return
		case len(appendCanonical(nil, g.rule)) < 3:
			c.report("is empty; flagd refuses that")
			return
		}
		c.rule(g.rule)
		if err := s.follow(g); err != nil {
			c.reportError(within(".segment", err))
		}
	})
}

// follow goes along all references of a segment to find dead ends and circles.
func (s *Snapshot) follow(g *segment) error {
	l := linker{compiler: &compiler{snapshot: s}, flag: &Flag{}, open: []string{g.row.Name}}
	return g.rule.references(l.segment)
}

func (c *checker) settings(s *settings) {
	if s.err != nil {
		c.reportError(s.err)
		return
	}
	if bytes := s.value.TravelBytes(); bytes > MaxTravelBytes {
		c.in("travel", func() {
			c.report("may take %d bytes of the header, %d are allowed: shorten what values may be, or aliases: %s", bytes, MaxTravelBytes, s.value.travelSizes())
		})
	}
	aliases := map[string]bool{}
	for i, t := range s.value.Travel {
		alias := t.Wire()
		c.in("travel", func() {
			c.in(i, func() {
				switch {
				case t.Attribute == targetingKeyName || t.Attribute == flagdName:
					c.report("%s always travels", t.Attribute)
				case i > 0 && s.value.Travel[i-1].Attribute >= t.Attribute:
					c.report("%q is not in the order of attributes, each once", t.Attribute)
				case aliases[alias]:
					c.report("%q is the name of another attribute in the header", alias)
				}
			})
		})
		aliases[alias] = true
	}
}
