package eval

import (
	"cmp"
	"fmt"
)

// Kind says what a row of an environment holds.
type Kind uint8

// The kinds of rows. Their order is the order of [Snapshot.Rows].
const (
	KindFlag      Kind = iota + 1 // a flag definition with Guidon's attributes beside it
	KindSegment                   // a named condition, flagd's $evaluators entry
	KindSettings                  // the environment's settings; there is at most one, named SettingsName
	KindEmergency                 // the kills of the flag of the same name; see Emergency
)

// SettingsName is the name of the only row of [KindSettings].
const SettingsName = "environment"

// String returns "flag", "segment", "settings" or "emergency", the words that
// the digest and the wire use.
func (k Kind) String() string {
	switch k {
	case KindFlag:
		return "flag"
	case KindSegment:
		return "segment"
	case KindSettings:
		return "settings"
	case KindEmergency:
		return "emergency"
	default:
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
}

// ParseKind is the inverse of [Kind.String]; it refuses any other word.
func ParseKind(s string) (Kind, error) {
	for _, k := range []Kind{KindFlag, KindSegment, KindSettings, KindEmergency} {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("kind %q is not one of flag, segment, settings, emergency", s)
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
	return cmp.Or(cmp.Compare(n.Kind, other.Kind), cmp.Compare(n.Name, other.Name))
}

func (n Name) isEmergency() bool { return n.Kind == KindEmergency }

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
