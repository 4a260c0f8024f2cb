package eval

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind says what a row of an environment holds. It is the word that the digest
// and the wire use.
//
// # Kinds of newer versions
//
// A word that this version does not know comes from a newer one, and says itself
// whose values depend on rows of the kind:
//
//   - flag/word: those of the flag of the row's name, and of flags that require
//     it. These flags are isolated, as by an operator that is not known; all
//     others live. Like an emergency, such a row stays for as long as its flag.
//   - note/word: nobody's. The row is kept and handed on, and changes nothing.
//   - any other: everybody's. [ParseKind] and [Compile] refuse it, so that
//     whoever reads it stays at the revision before.
//
// Rows of the first two are under the digest like all others, which therefore
// does not depend on what is understood.
type Kind string

// The kinds of rows. Their order is the order of [Snapshot.Rows]; those of newer
// versions follow, ordered by their words.
const (
	KindFlag      Kind = "flag"      // a flag definition with Guidon's attributes beside it
	KindSegment   Kind = "segment"   // a named condition, flagd's $evaluators entry
	KindSettings  Kind = "settings"  // the environment's settings; there is at most one, named SettingsName
	KindEmergency Kind = "emergency" // the kills of the flag of the same name; see Emergency
)

// SettingsName is the name of the only row of [KindSettings].
const SettingsName = "environment"

// ErrUnknownKind says that a row is of a kind that a newer version made, and that
// values may depend on it which this version would get wrong.
var ErrUnknownKind = errors.New("a newer version is needed")

var (
	kinds = []Kind{KindFlag, KindSegment, KindSettings, KindEmergency}
	newer = regexp.MustCompile(`^(flag|note)/[a-z]{1,32}$`)
)

// String returns the word.
func (k Kind) String() string { return string(k) }

// ParseKind returns the kind of a word. The error is [ErrUnknownKind].
func ParseKind(s string) (Kind, error) {
	k := Kind(s)
	if !k.Known() && !k.isNewer() {
		return "", fmt.Errorf("%w: kind %.64q is not one of flag, segment, settings, emergency", ErrUnknownKind, s)
	}
	return k, nil
}

// Known reports whether the kind is one of those that this version knows.
func (k Kind) Known() bool { return slices.Contains(kinds, k) }

// isNewer reports whether the kind is one that this version does not know, and
// may pass over in whole or in part.
func (k Kind) isNewer() bool { return newer.MatchString(string(k)) }

// OfFlag reports whether rows of the kind are part of the flag of the same name.
func (k Kind) OfFlag() bool {
	return k == KindFlag || k == KindEmergency || strings.HasPrefix(string(k), "flag/") && k.isNewer()
}

// rank orders kinds without a slash as they are listed, and then all others by
// their words, known or not: digests are over this order, which must be the same
// in versions that know a kind and in those that do not.
func (k Kind) rank() int {
	if i := slices.Index(kinds, k); i >= 0 && !strings.Contains(string(k), "/") {
		return i
	}
	return len(kinds)
}

// Name identifies a row within its environment. It is comparable.
type Name struct {
	Kind Kind
	Name string
}

// String returns the kind and the name with a slash between, for messages.
func (n Name) String() string { return n.Kind.String() + "/" + n.Name }

// compare orders names by kind, then by name.
func (n Name) compare(other Name) int {
	if n.Kind != other.Kind {
		return cmp.Or(cmp.Compare(n.Kind.rank(), other.Kind.rank()), cmp.Compare(n.Kind, other.Kind))
	}
	return cmp.Compare(n.Name, other.Name)
}

func (n Name) isEmergency() bool { return n.Kind == KindEmergency }

// isNewer is said of all but the known kinds.
func (n Name) isNewer() bool { return !n.Kind.Known() }

// Row is one versioned document of an environment: what a revision is made of.
//
// A flag's document is {"flag": a flagd definition, "guidon": attributes}, a
// segment's is {"segment": a rule, "guidon": attributes}; those of the settings
// and of emergencies are described at [Settings] and [Emergency].
type Row struct {
	Kind Kind
	Name string

	// From is the revision that wrote this document, 1 or more.
	From int64

	// Document is JSON in the canonical form of [Canonical]. Snapshots keep the
	// slice and hash it; nobody may change it afterwards.
	Document []byte
}

func (r Row) name() Name { return Name{r.Kind, r.Name} }
