package eval

import (
	"iter"
	"slices"
)

// Flag is one compiled flag of a [Snapshot]. It is immutable and may be used by
// any number of goroutines, also after its snapshot is gone.
type Flag struct {
	key        string
	row        Row
	attributes attributes
	typ        Type
	disabled   bool
	variants   []variant // sorted by name
	fallback   int32     // the default variant's index, or codeDefault
	metadata   map[string]any

	settings *settings // those the flag was compiled under
	// cbor says that fractional hashes as v3 does.
	cbor bool

	// program is the compiled targeting; nil when the resolution is always fixed.
	program *node
	fixed   Resolution

	killed        *Emergency // what the flag serves instead of its definition
	err           error      // why the flag is isolated
	excess        error      // why it may not be written, though it can be evaluated
	effectiveFrom int64
	links         links
	reads         []string
	readNames     []string // the top-level names of reads
	notTravelling []string
	timeDependent bool
}

// Key returns the flag key.
func (f *Flag) Key() string { return f.key }

// Project returns the project that owns the flag, its flagSetId.
func (f *Flag) Project() string { return f.attributes.project }

// Kind returns "release", "experiment", "ops", "permission" or "config".
func (f *Flag) Kind() string { return f.attributes.kind }

// Scope returns "request" or "local".
func (f *Flag) Scope() string { return f.attributes.scope }

// Type returns the type of the flag's value: the one written beside the
// definition, else the one its variants have. It is Any for a flag that is
// isolated before its type is known.
func (f *Flag) Type() Type { return f.typ }

// State returns "ENABLED" or "DISABLED", as the flag's own definition says.
func (f *Flag) State() string {
	if f.disabled {
		return stateDisabled
	}
	return stateEnabled
}

// DefaultVariant returns the default variant's name; empty means the caller's
// own default. Of a killed flag it is the variant of the emergency.
func (f *Flag) DefaultVariant() string {
	if f.fallback < 0 {
		return ""
	}
	return f.variants[f.fallback].name
}

// Archived tells whether the flag is archived; then it is DISABLED too.
func (f *Flag) Archived() bool { return f.attributes.archived }

// Attach tells whether the flag is always decided at the root of a request and
// carried in the header, for services that have no evaluator.
func (f *Flag) Attach() bool { return f.attributes.attach }

// Overridable tells whether an override may force the flag.
func (f *Flag) Overridable() bool { return f.attributes.overridable }

// ClientVisible tells whether browsers and apps, which hold client keys, may
// see the flag.
func (f *Flag) ClientVisible() bool { return f.attributes.client }

// Pierce returns what an emergency may do to a pinned request; empty means the
// installation's default.
func (f *Flag) Pierce() string { return f.attributes.pierce }

// Nearest tells whether a request whose pinned revision is no longer kept gets
// the flag as of the oldest revision that is, instead of an error. The flag says
// so by "pinUnavailable": "nearest".
func (f *Flag) Nearest() bool { return f.attributes.nearest }

// Row returns the flag's own row.
func (f *Flag) Row() Row { return f.row }

// EffectiveFrom returns the newest revision that changed the flag or anything
// it reads: its emergencies, its segments, its prerequisites and theirs, the
// settings. From that revision up to the snapshot's own the flag is the same.
func (f *Flag) EffectiveFrom() int64 { return f.effectiveFrom }

// Reads returns the context paths that the flag's targeting can read, through
// segments and prerequisites, as written and sorted: "plan", "user.country",
// "targetingKey", "$flagd.timestamp". [ReadsAll] among them means that it can
// read any.
func (f *Flag) Reads() []string { return slices.Clone(f.reads) }

// ReadsAll stands among [Flag.Reads] when targeting computes the name of an
// attribute or takes the whole context.
const ReadsAll = "*"

// NotTravelling returns the top-level attributes that the flag reads and that
// the settings do not let travel, sorted. When it is empty the flag is
// derivable: whoever has the pin computes the same variant.
func (f *Flag) NotTravelling() []string { return slices.Clone(f.notTravelling) }

// ReadNames returns the top-level attributes that [Flag.Reads] begin with, sorted
// and each once. The list is shared: do not change it.
func (f *Flag) ReadNames() []string { return f.readNames }

// Derivable tells whether [Flag.NotTravelling] is empty.
func (f *Flag) Derivable() bool { return len(f.notTravelling) == 0 }

// Segments returns the names of the segments that targeting refers to, directly
// and through other segments, sorted.
func (f *Flag) Segments() []string {
	names := make([]string, len(f.links.segments))
	for i, s := range f.links.segments {
		names[i] = s.row.Name
	}
	return names
}

// Dependencies returns the rows that are needed to compile the flag alone:
// itself, segments and prerequisites with theirs, the settings, emergencies;
// sorted. Emergencies are among them while there are none, and of a flag that is
// isolated because a row is missing the missing row is.
func (f *Flag) Dependencies() []Name { return slices.Clone(f.links.dependencies) }

// Settings returns the environment's settings that the flag was compiled under.
// They hold for every revision that the flag itself holds for.
func (f *Flag) Settings() Settings { return f.settings.get() }

// TimeDependent tells whether targeting reads $flagd.timestamp.
func (f *Flag) TimeDependent() bool { return f.timeDependent }

// Static tells whether the flag resolves alike for every context and time,
// because it has no targeting, is killed, disabled or isolated.
func (f *Flag) Static() bool { return f.program == nil }

// Err tells why the flag is isolated: its definition does not compile, and it
// resolves to PARSE_ERROR unless it is killed or disabled. It is nil for a good
// flag.
func (f *Flag) Err() error { return f.err }

// Metadata returns the definition's metadata with "flagSetId", the project, and
// "version", the flag's own revision as int64. The map is shared: do not change it.
func (f *Flag) Metadata() map[string]any { return f.metadata }

// Variants yields names and values, sorted by name; of a killed flag with that
// of the emergency. A value is a bool, a string,
// a float64 or a map[string]any that must not be changed.
func (f *Flag) Variants() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, v := range f.variants {
			if !yield(v.name, v.value) {
				return
			}
		}
	}
}

// Decided returns the resolution for a variant that was decided elsewhere: at
// the root of a request, by an override or an emergency. The empty variant is
// the caller's default. It is false when the flag has no such variant.
func (f *Flag) Decided(variant string, reason Reason) (Resolution, bool) {
	r := Resolution{flag: f, variant: codeDefault, reason: reasonIndex(reason)}
	if variant == "" {
		return r, true
	}
	r.variant = variantIndex(f.variants, variant)
	return r, r.variant >= 0
}

// Evaluate resolves the flag for a context at time t, in Unix seconds; t is all
// that $flagd.timestamp knows of time. It never panics, never blocks, and
// allocates only what operators that build texts or lists need.
func (f *Flag) Evaluate(c *Context, t int64) Resolution {
	if f.program == nil {
		return f.fixed
	}
	r := run{flag: f, attributes: c.branch(), time: t, fuel: maxWork}
	return f.resolution(r.decide(f.program))
}

// resolution turns the outcome of targeting into a resolution.
func (f *Flag) resolution(outcome int32) Resolution {
	switch {
	case outcome >= 0:
		return Resolution{flag: f, variant: outcome, reason: reasonTargetingMatch}
	case outcome == noMatch:
		return Resolution{flag: f, variant: f.fallback, reason: reasonDefault}
	default:
		return Resolution{flag: f, variant: codeDefault, reason: reasonError, code: codeGeneral}
	}
}

// What targeting can come to besides the index of a variant.
const (
	noMatch        int32 = -1 // null: the default variant
	unknownVariant int32 = -2
)
