package eval

import (
	"fmt"
	"slices"
)

// compiler compiles flags of one snapshot, prerequisites before those that
// require them.
type compiler struct {
	snapshot *Snapshot
	pending  map[string]bool // still to compile
	open     []string        // being compiled, outermost first: to find cycles
}

// flag returns the compiled flag of that key, compiling it first if it is
// pending; nil when there is none.
func (c *compiler) flag(key string) *Flag {
	f := c.snapshot.flags[key]
	if f == nil || !c.pending[key] || slices.Contains(c.open, key) {
		return f
	}
	if f.analysis.compiled {
		return f
	}
	f = &Flag{key: key, row: f.row, settings: c.snapshot.settings, fallback: codeDefault, effectiveFrom: f.row.From}
	c.snapshot.flags[key] = f
	f.analysis.compiled = true
	if err := c.read(f); err != nil {
		f.err = err
	}
	f.fix()
	return f
}

// read fills the flag from its row.
func (c *compiler) read(f *Flag) error {
	document, err := parseStrict(f.row.Document)
	if err != nil {
		return err
	}
	if f.attributes, err = readAttributes(document.field("guidon")); err != nil {
		return within(".guidon", err)
	}
	definition := document.field("flag")
	switch state := definition.field("state"); state.str {
	case stateEnabled:
	case stateDisabled:
		f.disabled = true
	default:
		return placed(".flag.state", "must be %q or %q", stateEnabled, stateDisabled)
	}
	f.metadata = map[string]any{"flagSetId": f.attributes.project, "version": f.row.From}
	if f.variants, err = readVariants(definition.field("variants")); err != nil {
		return within(".flag", err)
	}
	if f.typ, err = variantsType(f.variants); err != nil {
		return within(".flag", err)
	}
	if name := definition.field("defaultVariant"); name.str != "" {
		if f.fallback = variantIndex(f.variants, name.str); f.fallback < 0 {
			return placed(".flag.defaultVariant", "is %q, which is not a variant", name.str)
		}
	}
	if t := definition.field("targeting"); t.truthy() {
		return fmt.Errorf("targeting is not compiled yet")
	}
	return nil
}

// fix sets the resolution of a flag that needs no program.
func (f *Flag) fix() {
	f.fixed = Resolution{flag: f, variant: codeDefault}
	switch {
	case f.disabled:
		f.fixed.reason = reasonDisabled
	case f.err != nil:
		f.fixed.reason, f.fixed.code = reasonError, codeParseError
	case f.fallback < 0:
		f.fixed.reason = reasonDefault
	default:
		f.fixed.reason, f.fixed.variant = reasonStatic, f.fallback
	}
}

// analysis is what is known of a flag's targeting without running it.
type analysis struct {
	compiled      bool
	reads         []string
	notTravelling []string
	timeDependent bool
}

type node struct{}

type run struct {
	flag       *Flag
	attributes *branch
	time       int64
	fuel       int
}

const maxWork = 100_000

func (r *run) decide(*node) int32 { return noMatch }
