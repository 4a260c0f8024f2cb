package eval

import (
	"errors"
	"runtime"
	"slices"
	"sync"
)

// compiler compiles flags of one snapshot, prerequisites before those that
// require them.
type compiler struct {
	snapshot *Snapshot
	pending  map[string]bool
	done     map[string]bool
	open     []string // being compiled, outermost first
	// newer are the rows of kinds that this version does not know, by flag.
	newer map[string][]Row
	// alone says that no other flag can be had.
	alone bool
}

// severalFrom is the number of flags from which a second processor saves more
// than it costs.
const severalFrom = 256

// errNotAlone is of a flag that requires others, where these cannot be had.
var errNotAlone = errors.New("requires other flags")

// ahead compiles those of the flags that require none, on all processors. What
// panics is left, to panic where the caller can recover.
func (c *compiler) ahead(keys []string) {
	workers := runtime.GOMAXPROCS(0)
	if len(keys) < severalFrom || workers == 1 {
		return
	}
	compiled := make([]*Flag, len(keys))
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			defer func() { _ = recover() }()
			one := compiler{snapshot: c.snapshot, alone: true, newer: c.newer}
			for i := w; i < len(keys); i += workers {
				if f := c.snapshot.flags.get(keys[i]); f != nil {
					compiled[i] = one.compiled(f.row)
				}
			}
		})
	}
	working.Wait()
	for _, f := range compiled {
		if f != nil && !errors.Is(f.err, errNotAlone) {
			c.snapshot.flags.put(f)
			c.done[f.key] = true
		}
	}
}

// flag returns the flag of that key, compiling it first if it is pending; nil
// when there is none.
func (c *compiler) flag(key string) *Flag {
	f := c.snapshot.flags.get(key)
	if f == nil || !c.pending[key] || c.done[key] {
		return f
	}
	c.open = append(c.open, key)
	f = c.compiled(f.row)
	c.open = c.open[:len(c.open)-1]
	c.snapshot.flags.put(f)
	c.done[key] = true
	return f
}

// compiled is the flag of a row.
func (c *compiler) compiled(row Row) *Flag {
	f := &Flag{key: row.Name, row: row, fallback: codeDefault, effectiveFrom: row.From, settings: c.snapshot.settings}
	c.linkOwn(f)
	f.err = c.compile(f)
	if e, ok := c.snapshot.emergencies[row.Name].last(); ok {
		f.kill(e)
	}
	f.fix()
	return f
}

// asKilled is what a flag that requires a killed one reads of it: its emergency,
// and nothing of what its own definition reads, so that it is the same whichever
// of the two is compiled first. It is nil if the flag is not killed.
func (c *compiler) asKilled(key string) *Flag {
	s := c.snapshot
	e, killed := s.emergencies[key].last()
	defined := s.flags.get(key)
	if defined == nil || !killed {
		return nil
	}
	row := defined.row
	f := &Flag{key: key, row: row, fallback: codeDefault, effectiveFrom: max(row.From, s.emergencies[key].row.From), settings: s.settings}
	f.links.depend(row.name(), Name{KindEmergency, key})
	if s.settings != nil {
		f.links.depend(s.settings.row.name())
		f.effectiveFrom = max(f.effectiveFrom, s.settings.row.From)
	}
	if document, err := parseStrict(row.Document); err == nil {
		_, _ = f.read(document) // what of it can be read; the emergency needs none
	}
	f.kill(e)
	f.fix()
	return f
}

func (c *compiler) compile(f *Flag) error {
	document, err := parseStrict(f.row.Document)
	if err != nil {
		return err
	}
	definition, err := f.read(document)
	if err != nil {
		return err
	}
	if c.alone && len(f.attributes.requires) > 0 {
		return errNotAlone
	}
	l := linker{compiler: c, flag: f}
	if err := l.link(definition); err != nil {
		return err
	}
	f.cbor = f.Settings().Fractional == FractionalV3
	t, err := f.targeting(definition)
	if err != nil {
		return err
	}
	rules := ruleCompiler{flag: f, rounds: 1, reads: map[string]bool{}}
	if f.program, err = rules.targeting(t); err != nil {
		return err
	}
	f.reads = rules.paths()
	f.timeDependent = rules.timeDependent
	f.excess = rules.excess
	f.readNames = topNames(f.reads)
	f.notTravelling = notTravelling(f.readNames, f.Settings())
	return nil
}

// read fills the flag from its document, all but the targeting, and returns the
// flagd definition. State and metadata come first: a flag that is disabled or
// isolated has them.
func (f *Flag) read(document value) (definition value, err error) {
	definition = document.field("flag")
	f.disabled = definition.field("state").str == stateDisabled
	f.attributes, err = readAttributes(document.field("guidon"))
	f.metadata = map[string]any{"version": f.row.From}
	if f.attributes.project != "" {
		f.metadata["flagSetId"] = f.attributes.project
	}
	if err != nil {
		return definition, within(".guidon", err)
	}
	if err := document.only("flag", "guidon"); err != nil {
		return definition, err
	}
	if definition.shape() != shapeObject {
		return definition, placed(".flag", "must be an object")
	}
	if !f.disabled && definition.field("state").str != stateEnabled {
		return definition, placed(".flag.state", "must be %q or %q", stateEnabled, stateDisabled)
	}
	own, err := readMetadata(definition.field("metadata"))
	if err != nil {
		return definition, within(".flag.metadata", err)
	}
	for key, v := range own {
		if _, ours := f.metadata[key]; !ours {
			f.metadata[key] = v
		}
	}
	if f.variants, err = readVariants(definition.field("variants")); err != nil {
		return definition, within(".flag", err)
	}
	if f.typ, err = variantsType(f.variants); err != nil {
		return definition, within(".flag", err)
	}
	if as := f.attributes.typ; as != Any && as != f.typ && (as != Float || f.typ != Integer) {
		return definition, placed(".guidon.type", "is %s, but the variants are of type %s", as, f.typ)
	} else if as != Any {
		f.typ = as
	}
	return definition, f.readDefault(definition.field("defaultVariant"))
}

// readDefault reads the default variant; null and "" mean the caller's default.
func (f *Flag) readDefault(v value) error {
	switch {
	case v.shape() == shapeNull, v.shape() == shapeText && v.str == "":
		return nil
	case v.shape() != shapeText:
		return placed(".flag.defaultVariant", "must be a string or null")
	}
	if f.fallback = variantIndex(f.variants, v.str); f.fallback < 0 {
		return placed(".flag.defaultVariant", "is %q, which is not a variant", v.str)
	}
	return nil
}

// targeting compiles a whole targeting, nil when there is none.
func (c *ruleCompiler) targeting(t targeting) (*node, error) {
	var own node
	var err error
	if t.own.shape() == shapeNull {
		own = c.literal(null)
	} else {
		c.trail = []any{"flag", "targeting"}
		if own, err = c.rule(t.own); err != nil {
			return nil, err
		}
	}
	if len(t.conditions) == 0 {
		if t.own.shape() == shapeNull {
			return nil, nil
		}
		return &own, nil
	}
	all := node{op: opAnd, args: make([]node, len(t.conditions))}
	for i, condition := range t.conditions {
		c.trail = []any{"guidon", "requires", i}
		if all.args[i], err = c.rule(condition); err != nil {
			return nil, err
		}
	}
	return &node{op: opIf, args: []node{all, own, c.literal(t.off)}}, nil
}

// fix sets the resolution of a flag that needs no program.
func (f *Flag) fix() {
	f.fixed = Resolution{flag: f, variant: codeDefault}
	switch {
	case f.killed != nil:
		f.fixed.reason, f.fixed.variant = reasonStatic, f.fallback
	case f.disabled:
		f.program, f.fixed.reason = nil, reasonDisabled
	case f.err != nil:
		f.program, f.fixed.reason, f.fixed.code = nil, reasonError, codeParseError
	case f.fallback < 0:
		f.fixed.reason = reasonDefault
	default:
		f.fixed.reason, f.fixed.variant = reasonStatic, f.fallback
	}
}

// topNames returns the top-level names of paths, sorted and each once.
func topNames(paths []string) []string {
	var names []string
	for _, path := range paths {
		name := path
		if parts := newPath(path).parts; len(parts) > 0 {
			name = parts[0].name
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// notTravelling returns those names that the settings do not let travel. The
// targeting key and $flagd are always there.
func notTravelling(names []string, s Settings) []string {
	var missing []string
	for _, name := range names {
		if name != targetingKeyName && name != flagdName && !s.travels(name) {
			missing = append(missing, name)
		}
	}
	return missing
}
