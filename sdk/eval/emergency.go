package eval

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Emergency is one kill of a flag: from Revision on the flag serves one variant
// with one value, whatever its definition says. It reaches requests that are
// pinned to older revisions too, and those it holds for ever: a flag that is let
// live again does so for new requests only.
//
// Emergencies are rows of [KindEmergency], named after their flags. A row's
// document is the whole log of its flag, ascending by revision, and says whether
// the last entry still holds for new requests:
//
//	{"active":true,"log":[{"revision":41,"value":false,"variant":"off"}],"project":"shop"}
//
// The project is that of the flag, which may be gone; it may be left out.
type Emergency struct {
	Flag     string
	Revision int64
	Variant  string

	flag  *Flag // which resolves to this emergency alone
	value value
}

// Resolution is what the flag resolves to: STATIC, with the value that the
// emergency itself carries. It is as good as one of [Flag.Evaluate].
func (e Emergency) Resolution() Resolution { return e.flag.fixed }

// Value returns the value that the emergency carries; see [Resolution.Value].
func (e Emergency) Value() any { return e.flag.fixed.Value() }

// Emergencies is the emergency log of an environment, or of some of its flags,
// complete up to a revision. It is immutable; the zero value knows nothing.
type Emergencies struct {
	revision int64
	log      *emergencyLog
}

// emergencyLog is shared by the snapshots between two emergencies.
type emergencyLog struct {
	entries []Emergency            // ascending by revision, then by flag
	flags   map[string][]Emergency // each ascending
}

// Revision returns the revision up to which the log is complete: who holds it
// knows of every emergency there was until then, and of none later.
func (l Emergencies) Revision() int64 { return l.revision }

// Newest returns the revision of the newest emergency, 0 if there was none.
func (l Emergencies) Newest() int64 {
	if l.log == nil || len(l.log.entries) == 0 {
		return 0
	}
	return l.log.entries[len(l.log.entries)-1].Revision
}

// After returns the newest emergency of a flag if it is newer than a revision.
// It is what a request pinned to that revision gets.
func (l Emergencies) After(flag string, revision int64) (Emergency, bool) {
	if l.log == nil {
		return Emergency{}, false
	}
	entries := l.log.flags[flag]
	if len(entries) == 0 || entries[len(entries)-1].Revision <= revision {
		return Emergency{}, false
	}
	return entries[len(entries)-1], true
}

// Has tells whether there was an emergency at a revision.
func (l Emergencies) Has(revision int64) bool {
	if l.log == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(l.log.entries, revision, func(e Emergency, revision int64) int { return cmp.Compare(e.Revision, revision) })
	return ok
}

// Between returns, for each flag that had an emergency after one revision and no
// later than another, its newest of these; sorted by flag.
func (l Emergencies) Between(after, until int64) []Emergency {
	if l.Newest() <= after {
		return nil
	}
	newest := map[string]Emergency{}
	for _, e := range slices.Backward(l.log.entries) {
		if e.Revision <= after {
			break
		}
		if _, ok := newest[e.Flag]; !ok && e.Revision <= until {
			newest[e.Flag] = e
		}
	}
	return slices.SortedFunc(maps.Values(newest), func(a, b Emergency) int { return strings.Compare(a.Flag, b.Flag) })
}

// All yields every emergency, ascending by revision, then by flag.
func (l Emergencies) All() iter.Seq[Emergency] {
	if l.log == nil {
		return func(func(Emergency) bool) {}
	}
	return slices.Values(l.log.entries)
}

// emergency is the row of one flag, parsed.
type emergency struct {
	row    Row
	active bool
	log    []Emergency
	// project of the flag; "" if the row does not say.
	project string
	err     error // isolates the flag: it cannot be evaluated as meant
}

// last returns the entry that holds now; false when none does.
func (e *emergency) last() (Emergency, bool) {
	if e == nil || !e.active || len(e.log) == 0 {
		return Emergency{}, false
	}
	return e.log[len(e.log)-1], true
}

func newEmergency(row Row) *emergency {
	e := &emergency{row: row}
	v, err := parseStrict(row.Document)
	if err == nil {
		err = e.read(v)
	}
	e.err = err
	return e
}

func (e *emergency) read(v value) error {
	if v.shape() != shapeObject {
		return placed("", "must be an object")
	}
	active := v.field("active")
	if active.shape() != shapeBoolean {
		return placed(".active", "must be true or false")
	}
	e.active = active.num != 0
	for _, f := range v.ref.fields {
		if f.key != "active" && f.key != "log" && f.key != "project" {
			return placed(pathOf(f.key), "is not known here; known are active, log and project")
		}
	}
	if project := v.field("project"); project.shape() == shapeText {
		e.project = project.str
	} else if project.shape() != shapeNull {
		return placed(".project", "must be a string")
	}
	log := v.field("log")
	if log.shape() != shapeList || len(log.ref.items) == 0 {
		return placed(".log", "must be a list of at least one emergency")
	}
	before := int64(0)
	for i, item := range log.ref.items {
		entry, err := readEmergency(e.row.Name, item)
		if err != nil {
			return within(pathOf("log", i), err)
		}
		entry.flag.attributes.project = e.project
		if entry.Revision <= before {
			return placed(pathOf("log", i, "revision"), "is %d, after %d; revisions ascend", entry.Revision, before)
		}
		before = entry.Revision
		e.log = append(e.log, entry)
	}
	if before > e.row.From {
		return placed(pathOf("log", len(e.log)-1, "revision"), "is %d, but the row is of revision %d", before, e.row.From)
	}
	return nil
}

func readEmergency(flag string, v value) (Emergency, error) {
	if v.shape() != shapeObject {
		return Emergency{}, placed("", "must be {revision, value, variant}")
	}
	for _, f := range v.ref.fields {
		if f.key != "revision" && f.key != "value" && f.key != "variant" {
			return Emergency{}, placed(pathOf(f.key), "is not known here; known are revision, value and variant")
		}
	}
	revision, name := v.field("revision"), v.field("variant")
	switch {
	case revision.shape() != shapeNumber || !whole(revision.num) || revision.num < 1:
		return Emergency{}, placed(".revision", "must be a whole number from 1 on")
	case name.shape() != shapeText || !ValidVariant(name.str):
		return Emergency{}, placed(".variant", "must be 1 to 64 letters, digits, dots, dashes and underscores")
	}
	killed, ok := newVariant(name.str, v.field("value"))
	if !ok {
		return Emergency{}, placed(".value", "is %s; a value is a boolean, a string, a number or an object", v.field("value").shape())
	}
	e := Emergency{Flag: flag, Revision: int64(revision.num), Variant: name.str, value: v.field("value")}
	e.flag = &Flag{
		key: flag, typ: killed.typ, attributes: attributes{kind: defaultKind, scope: defaultScope}, variants: []variant{killed},
		metadata: map[string]any{"version": e.Revision}, effectiveFrom: e.Revision,
	}
	e.flag.fix()
	return e, nil
}

// kill makes the flag serve an emergency, for every context. What the
// definition says stays readable: its state, its other variants, its error.
func (f *Flag) kill(e Emergency) {
	f.killed = &e
	killed := e.flag.variants[0]
	f.variants = slices.Clone(f.variants)
	i, ok := slices.BinarySearchFunc(f.variants, killed.name, func(v variant, name string) int { return strings.Compare(v.name, name) })
	if ok {
		f.variants[i] = killed
	} else {
		f.variants = slices.Insert(f.variants, i, killed)
	}
	if f.typ == Any {
		f.typ = killed.typ
	}
	f.fallback = int32(i)
	f.program, f.reads, f.readNames, f.notTravelling, f.timeDependent = nil, nil, nil, nil, false
}

// asDefined is the flag with the variants of its definition alone.
func (f *Flag) asDefined(definition value) *Flag {
	if f.killed == nil {
		return f
	}
	defined := *f
	defined.variants, _ = readVariants(definition.field("variants"))
	return &defined
}

// Killed returns the emergency that the flag serves as of its snapshot's
// revision: it is then STATIC and reads nothing. False means none.
//
// Emergencies of an older pin's flag are not known to the flag: ask
// [Snapshot.Emergencies].
func (f *Flag) Killed() (Emergency, bool) {
	if f.killed == nil {
		return Emergency{}, false
	}
	return *f.killed, true
}

// Emergencies returns the log of all emergencies up to the snapshot's revision,
// also those of flags that are alive again or gone.
func (s *Snapshot) Emergencies() Emergencies { return Emergencies{revision: s.revision, log: s.log} }

// killedDefinition is the killed flag in flagd's language: enabled, with the variant
// of the emergency beside its own, and without targeting.
func (f *Flag) killedDefinition(own value) []byte {
	variants := []field{{f.killed.Variant, f.killed.value}}
	if given := own.field("variants"); given.shape() == shapeObject {
		for _, v := range given.ref.fields {
			if v.key != f.killed.Variant {
				variants = append(variants, v)
			}
		}
	}
	named, _, _ := objectValue(variants)
	v, _, _ := objectValue([]field{
		{"state", textValue(stateEnabled)}, {"variants", named}, {"metadata", f.metadataValue()}, {"defaultVariant", textValue(f.killed.Variant)},
	})
	return appendCanonical(nil, v)
}

// EmergencyRows yields the rows that [Snapshot.Emergencies] is made of, sorted by
// flag: compiled alone they give the same log.
func (s *Snapshot) EmergencyRows() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.emergencies)) {
			if !yield(s.emergencies[key].row) {
				return
			}
		}
	}
}

func newEmergencyLog(rows map[string]*emergency) *emergencyLog {
	l := &emergencyLog{flags: make(map[string][]Emergency, len(rows))}
	for key, e := range rows {
		if e.err == nil {
			l.flags[key] = e.log
			l.entries = append(l.entries, e.log...)
		}
	}
	slices.SortFunc(l.entries, func(a, b Emergency) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), strings.Compare(a.Flag, b.Flag))
	})
	return l
}

// emergency checks the row of a flag's emergencies.
func (c *checker) emergency(e *emergency, document value) {
	if !ValidKey(e.row.Name) {
		c.report("%q is no flag key", e.row.Name)
	}
	if e.err != nil {
		c.reportError(e.err)
		return
	}
	for i, entry := range document.field("log").ref.items {
		c.trail = append(c.trail, "log", i, "value")
		c.numbers(entry.field("value"), maxValueDepth)
		c.trail = nil
	}
}

func (f *Flag) explainKilled() Step {
	return Step{
		Path: "$", Text: "the flag is killed by the emergency of revision " + strconv.FormatInt(f.killed.Revision, 10),
		Outcome: strconv.Quote(f.killed.Variant),
	}
}
