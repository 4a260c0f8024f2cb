package eval

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Snapshot is all definitions of one environment at one revision, compiled. It
// is immutable and may be read by any number of goroutines.
type Snapshot struct {
	revision int64
	flags    flagTable
	order    []*Flag // by key
	segments map[string]*segment
	settings *settings // nil: the environment has no settings row
	digests  *digests

	emergencies map[string]*emergency // by flag key
	log         *emergencyLog         // of emergencies

	// newer are the rows of kinds that this version does not know; nil for none.
	newer map[Name]Row

	// users lists, for each row that flags read besides their own, the keys of
	// those flags. It tells what a change must compile again.
	users map[Name][]string
}

// segment is a named rule, parsed; flags compile it into their own programs.
type segment struct {
	row  Row
	rule value
	err  error // why it cannot be used
}

// settings is the settings row, parsed. A nil *settings is the zero Settings.
type settings struct {
	row   Row
	value Settings
	err   error // isolates every flag: none can be evaluated as meant
}

// Compile builds the snapshot of a revision. A flag whose definition does not
// compile is isolated: it resolves to PARSE_ERROR and [Flag.Err] says why, while
// its siblings live. The error of Compile itself means rows that no environment
// can have: a name that stands twice, settings of another name; or [ErrUnknownKind].
func Compile(revision int64, rows []Row) (*Snapshot, error) {
	seen := make(map[Name]bool, len(rows))
	for _, row := range rows {
		if seen[row.name()] {
			return nil, fmt.Errorf("%s stands twice in the rows of revision %d", row.name(), revision)
		}
		seen[row.name()] = true
	}
	empty := &Snapshot{segments: map[string]*segment{}, emergencies: map[string]*emergency{}, users: map[Name][]string{}}
	return empty.With(revision, rows, nil)
}

// With returns the snapshot of a later revision, which has upserts in place of
// or besides the rows of s, and lacks deletes. It compiles the touched flags
// and those that read a touched row, and shares all else with s, which stays as
// it was. A name in both lists is put; one in deletes that is not there is
// passed over. The result is what [Compile] makes of the same rows. The error
// is as for Compile.
func (s *Snapshot) With(revision int64, upserts []Row, deletes []Name) (*Snapshot, error) {
	next := &Snapshot{
		revision: revision, flags: s.flags.with(len(s.order) + len(upserts)), order: s.order, segments: maps.Clone(s.segments),
		settings: s.settings, emergencies: s.emergencies, log: s.log, newer: s.newer, users: maps.Clone(s.users),
	}
	changed := make(map[Name]bool, len(upserts)+len(deletes))
	emergencies := slices.ContainsFunc(deletes, Name.isEmergency) || slices.ContainsFunc(upserts, func(r Row) bool { return r.name().isEmergency() })
	if emergencies { // they are rare; otherwise their rows and the log are shared
		next.emergencies = maps.Clone(s.emergencies)
	}
	if slices.ContainsFunc(deletes, Name.isNewer) || slices.ContainsFunc(upserts, func(r Row) bool { return r.name().isNewer() }) {
		next.newer = map[Name]Row{}
		maps.Copy(next.newer, s.newer)
	}
	for _, name := range deletes {
		changed[name] = true
		next.remove(name)
	}
	for _, row := range upserts {
		if err := next.put(row); err != nil {
			return nil, err
		}
		changed[row.name()] = true
	}
	if emergencies {
		next.log = newEmergencyLog(next.emergencies)
	}
	digest := func() { next.digests = s.digests.with(upserts, deletes) }
	var beside sync.WaitGroup
	if len(upserts) < severalFrom {
		digest()
	} else {
		beside.Go(digest)
	}
	next.compile(next.touched(s, changed))
	next.flags.done()
	beside.Wait()
	return next, nil
}

func (s *Snapshot) put(row Row) error {
	switch row.Kind {
	case KindFlag:
		s.flags.put(&Flag{key: row.Name, row: row})
	case KindSegment:
		s.segments[row.Name] = newSegment(row)
	case KindSettings:
		if row.Name != SettingsName {
			return fmt.Errorf("settings are named %q, not %q", SettingsName, row.Name)
		}
		s.settings = newSettings(row)
	case KindEmergency:
		s.emergencies[row.Name] = newEmergency(row)
	default:
		if _, err := ParseKind(row.Kind.String()); err != nil {
			return fmt.Errorf("row %q: %w", row.Name, err)
		}
		s.newer[row.name()] = row
	}
	return nil
}

func (s *Snapshot) remove(name Name) {
	switch name.Kind {
	case KindFlag:
		s.flags.remove(name.Name)
	case KindSegment:
		delete(s.segments, name.Name)
	case KindSettings:
		s.settings = nil
	case KindEmergency:
		delete(s.emergencies, name.Name)
	default:
		delete(s.newer, name)
	}
}

// touched returns the keys of the flags to compile: the changed ones and those
// that read what changed. Keys of flags that are gone are among them.
func (s *Snapshot) touched(before *Snapshot, changed map[Name]bool) map[string]bool {
	keys := make(map[string]bool, len(changed))
	for name := range changed {
		switch {
		case name.Kind.OfFlag():
			keys[name.Name] = true
			if name.isNewer() {
				name.Kind = KindFlag // whoever reads the flag reads this
			}
		case name.Kind == KindSettings:
			for f := range s.flags.all() {
				keys[f.key] = true
			}
		}
		for _, key := range before.users[name] {
			keys[key] = true
		}
	}
	return keys
}

// compile compiles the flags of those keys anew and restores order and users.
func (s *Snapshot) compile(keys map[string]bool) {
	c := compiler{snapshot: s, pending: keys, done: make(map[string]bool, len(keys)), newer: s.newerOfFlags()}
	sorted := slices.Sorted(maps.Keys(keys))
	compiled := make([]*Flag, 0, len(keys))
	// Of what the touched flags read, before or now; nil where nobody does now.
	readers := map[Name][]string{}
	c.ahead(sorted)
	for _, key := range sorted {
		for _, name := range s.readNames(key) {
			readers[name] = nil
		}
		if f := c.flag(key); f != nil {
			compiled = append(compiled, f)
		}
	}
	s.order = merged(s.order, compiled, sorted)
	for _, f := range compiled {
		for _, name := range f.links.dependencies {
			if name == f.row.name() || name.Kind == KindSettings || name == (Name{KindEmergency, f.key}) {
				continue // put or changed, they are compiled anyway
			}
			readers[name] = append(readers[name], f.key)
		}
	}
	for name, now := range readers {
		untouched := slices.DeleteFunc(slices.Clone(s.users[name]), func(key string) bool { return keys[key] })
		if s.users[name] = slices.Concat(untouched, now); len(s.users[name]) == 0 {
			delete(s.users, name)
		}
	}
}

// newerOfFlags lists the rows of kinds that this version does not know by the
// flags that depend on them, in order.
func (s *Snapshot) newerOfFlags() map[string][]Row {
	var of map[string][]Row
	for row := range s.newerRows {
		if row.Kind.OfFlag() {
			if of == nil {
				of = map[string][]Row{}
			}
			of[row.Name] = append(of[row.Name], row)
		}
	}
	return of
}

// newerRows yields the rows of kinds that this version does not know, in order.
func (s *Snapshot) newerRows(yield func(Row) bool) {
	for _, name := range slices.SortedFunc(maps.Keys(s.newer), Name.compare) {
		if !yield(s.newer[name]) {
			return
		}
	}
}

// readNames lists what the flag of that key read before this change.
func (s *Snapshot) readNames(key string) []Name {
	i, ok := slices.BinarySearchFunc(s.order, key, func(f *Flag, key string) int { return strings.Compare(f.key, key) })
	if !ok {
		return nil
	}
	return s.order[i].links.dependencies
}

// merged returns order with the flags of the keys replaced taken out and those
// compiled put in. All three are sorted by key. What stands between two changed
// flags is copied without a look at it.
func merged(order, compiled []*Flag, replaced []string) []*Flag {
	out := make([]*Flag, 0, len(order)+len(compiled))
	for _, key := range replaced {
		i, found := slices.BinarySearchFunc(order, key, func(f *Flag, key string) int { return strings.Compare(f.key, key) })
		out = append(out, order[:i]...)
		if order = order[i:]; found {
			order = order[1:]
		}
		if len(compiled) > 0 && compiled[0].key == key {
			out = append(out, compiled[0])
			compiled = compiled[1:]
		}
	}
	return append(out, order...)
}

func newSegment(row Row) *segment {
	s := &segment{row: row}
	v, err := parseStrict(row.Document)
	if err != nil {
		s.err = err
		return s
	}
	rule, ok := v.member("segment")
	if !ok {
		s.err = placed("", `has no "segment"`)
	}
	s.rule = rule
	return s
}

func newSettings(row Row) *settings {
	s := &settings{row: row}
	v, err := parseStrict(row.Document)
	if err == nil {
		s.value, err = readSettings(v)
	}
	s.err = err
	return s
}

// Revision returns the revision the snapshot is of.
func (s *Snapshot) Revision() int64 { return s.revision }

// Digest identifies the snapshot's rows; see [Digest].
func (s *Snapshot) Digest() Digest { return s.digests.sum }

// Flag returns the flag of that key, nil when there is none.
func (s *Snapshot) Flag(key string) *Flag { return s.flags.get(key) }

// Flags yields all flags, isolated and archived ones too, sorted by key.
func (s *Snapshot) Flags() iter.Seq[*Flag] { return slices.Values(s.order) }

// Unshared yields the flags that s does not share with an earlier snapshot,
// sorted by key: as it was, nil for one that is new, and as it is, nil for one
// that is gone. A flag that [Snapshot.With] did not compile is shared; one that
// it did may be the same all the same.
func (s *Snapshot) Unshared(before *Snapshot) iter.Seq2[*Flag, *Flag] {
	return func(yield func(was, is *Flag) bool) {
		old, now := before.order, s.order
		for len(old) > 0 || len(now) > 0 {
			var was, is *Flag
			switch {
			case len(old) > 0 && len(now) > 0 && old[0] == now[0]: // nearly all, and not looked at
				old, now = old[1:], now[1:]
				continue
			case len(now) == 0 || len(old) > 0 && old[0].key < now[0].key:
				was, old = old[0], old[1:]
			case len(old) == 0 || now[0].key < old[0].key:
				is, now = now[0], now[1:]
			default:
				was, is, old, now = old[0], now[0], old[1:], now[1:]
			}
			if !yield(was, is) {
				return
			}
		}
	}
}

// Len returns the number of flags.
func (s *Snapshot) Len() int { return len(s.order) }

// Settings returns the environment's settings. When there is no settings row
// nothing travels and fractional is v2.
func (s *Snapshot) Settings() Settings { return s.settings.get() }

func (s *settings) get() Settings {
	if s == nil || s.err != nil {
		return Settings{Fractional: FractionalV2}
	}
	return s.value
}

// Row returns the row of that name; false means there is none.
func (s *Snapshot) Row(n Name) (Row, bool) {
	switch n.Kind {
	case KindFlag:
		if f := s.flags.get(n.Name); f != nil {
			return f.row, true
		}
	case KindSegment:
		if g := s.segments[n.Name]; g != nil {
			return g.row, true
		}
	case KindSettings:
		if s.settings != nil && n.Name == SettingsName {
			return s.settings.row, true
		}
	case KindEmergency:
		if e := s.emergencies[n.Name]; e != nil {
			return e.row, true
		}
	default:
		row, ok := s.newer[n]
		return row, ok
	}
	return Row{}, false
}

// Rows yields all rows, sorted by kind and name.
func (s *Snapshot) Rows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, f := range s.order {
			if !yield(f.row) {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(s.segments)) {
			if !yield(s.segments[name].row) {
				return
			}
		}
		if s.settings != nil && !yield(s.settings.row) {
			return
		}
		for row := range s.EmergencyRows() {
			if !yield(row) {
				return
			}
		}
		s.newerRows(yield)
	}
}

// Evaluate resolves the flag of that key as [Flag.Evaluate] does; there is no such
// flag, FLAG_NOT_FOUND.
func (s *Snapshot) Evaluate(key string, c *Context, t int64) Resolution {
	f := s.flags.get(key)
	if f == nil {
		return Resolution{variant: codeDefault, reason: reasonError, code: codeFlagNotFound}
	}
	return f.Evaluate(c, t)
}
