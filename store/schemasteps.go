package store

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What a schema costs is counted in steps: about a microsecond each, and up to
// a kilobyte while the value is being judged. A schema of a few lines can ask for
// any number of them, since each $ref may lead to two others.
const (
	// maxValueSteps bounds what one value may take.
	maxValueSteps = 100_000
	// maxPatternSize bounds the regular expressions of one schema, with what they
	// repeat written out.
	maxPatternSize = 20_000
)

// errTooLong is the panic that ends a validation.
var errTooLong = errors.New("takes more steps than the schema of a flag may: name fewer alternatives, or refer to each of them fewer times")

// stepCounter counts the steps of a schema. The validator knows no limit of its
// own: it is asked at every subschema through what the library has for formats,
// which comes before it goes on to others. What a subschema does before that,
// type, const and enum, is counted with the one above it.
type stepCounter struct {
	left     int
	weight   int // of a subschema: to find a circle the validator looks at those above
	patterns map[string]*pattern
	size     int // of the patterns
	largest  int // of what a subschema costs before it is asked
}

func (c *stepCounter) take(steps int) {
	if c.left -= steps; c.left < 0 {
		panic(errTooLong)
	}
}

// watch has schemas, all those of one document, counted.
func (c *stepCounter) watch(schemas []*jsonschema.Schema) {
	c.weight = 1 + len(schemas)/1000
	for _, s := range schemas {
		c.largest = max(c.largest, entry(s))
	}
	for _, s := range schemas {
		name, check := "", func(any) error { return nil }
		if f := s.Format; f != nil {
			name, check = f.Name, f.Validate
			if name == "regex" {
				check = c.isPattern
			}
		}
		below := c.below(s)
		s.Format = &jsonschema.Format{Name: name, Validate: func(v any) error {
			c.take(below.steps(v))
			return check(v)
		}}
	}
}

// entry is what it costs to begin with a subschema.
func entry(s *jsonschema.Schema) int {
	steps := 1
	if s == nil {
		return steps
	}
	if s.Enum != nil {
		steps += size(s.Enum.Values) / 8
	}
	if s.Const != nil {
		steps += size(*s.Const) / 8
	}
	return steps
}

// size counts the values in a value.
func size(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			n += size(member)
		}
	case []any:
		for _, item := range v {
			n += size(item)
		}
	}
	return n
}

// belowSchema is what a subschema begins with others: once, for each item, for
// each member, and for members by name.
type belowSchema struct {
	c                   *stepCounter
	schema              *jsonschema.Schema
	places              int // how many look at the same value
	once, items, member int
}

func (c *stepCounter) below(s *jsonschema.Schema) belowSchema {
	b := belowSchema{c: c, schema: s}
	here := func(schemas ...*jsonschema.Schema) {
		for _, s := range schemas {
			if s != nil {
				b.places++
				b.once += entry(s)
			}
		}
	}
	here(s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else)
	here(s.AllOf...)
	here(s.AnyOf...)
	here(s.OneOf...)
	for _, dependent := range s.DependentSchemas {
		here(dependent)
	}
	for _, dependent := range s.Dependencies {
		if dependent, ok := dependent.(*jsonschema.Schema); ok {
			here(dependent)
		}
	}
	if s.DynamicRef != nil || s.RecursiveRef != nil {
		b.places++
		b.once += c.largest // whichever it is
	}
	for _, s := range s.PrefixItems {
		b.once += entry(s)
	}
	each := func(sum *int, schemas ...any) {
		for _, s := range schemas {
			switch s := s.(type) {
			case *jsonschema.Schema:
				if s != nil {
					*sum += entry(s)
				}
			case []*jsonschema.Schema:
				for _, s := range s {
					b.once += entry(s)
				}
			}
		}
	}
	each(&b.items, s.Items, s.AdditionalItems, s.Items2020, s.Contains, s.UnevaluatedItems)
	each(&b.member, s.AdditionalProperties, s.UnevaluatedProperties, s.PropertyNames)
	for _, s := range s.PatternProperties {
		b.member += entry(s)
	}
	return b
}

// steps is what it costs to go on from here with a value.
func (b belowSchema) steps(v any) int {
	n := b.once
	switch v := v.(type) {
	case map[string]any:
		n += len(v)*b.member + len(v)*(1+b.places)/8
		for name := range v {
			if s, ok := b.schema.Properties[name]; ok {
				n += entry(s)
			}
		}
	case []any:
		n += len(v)*b.items + len(v)*(1+b.places)/8
		if b.schema.UniqueItems {
			n += size(v)
		}
	case string:
		n += len(v) / 1024
	}
	return n * b.c.weight
}

// pattern is a regular expression that counts.
type pattern struct {
	*regexp.Regexp
	c    *stepCounter
	size int
}

func (p *pattern) MatchString(s string) bool {
	p.c.take(1 + (len(s)+1)*p.size/256)
	return p.Regexp.MatchString(s)
}

// compilePattern is what the validator calls for each pattern of a schema.
func (c *stepCounter) compilePattern(text string) (jsonschema.Regexp, error) {
	if p := c.patterns[text]; p != nil {
		return p, nil
	}
	n, err := patternSize(text)
	if err != nil {
		return nil, err
	}
	if c.size += n; c.size > maxPatternSize {
		return nil, fmt.Errorf("with what they repeat written out, the patterns are longer than %d", maxPatternSize)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	p := &pattern{re, c, n}
	c.patterns[text] = p
	return p, nil
}

// isPattern is the format called regex.
func (c *stepCounter) isPattern(v any) error {
	text, ok := v.(string)
	if !ok {
		return nil
	}
	c.take(len(text))
	n, err := patternSize(text)
	if err == nil && n > maxPatternSize {
		err = fmt.Errorf("with what it repeats written out, it is longer than %d", maxPatternSize)
	}
	return err
}

func patternSize(text string) (int, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return sizeOf(re), nil
}

// sizeOf is the size of a regular expression, with what it repeats written out.
func sizeOf(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += sizeOf(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min+1, re.Max)
	}
	return min(n, 1<<30)
}
