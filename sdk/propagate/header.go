package propagate

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	// HeaderName is the header, metadata key or message property that carries
	// the pin on every transport. Carriers whose keys are case-sensitive use it
	// exactly so.
	HeaderName = "guidon"

	// MaxHeaderLength is the longest value, in bytes, that a receiver looks at.
	MaxHeaderLength = 4096

	// headerBudget is the longest value, in bytes, that a root emits: a quarter
	// of the smallest header limit found among common proxies and servers.
	headerBudget = 2048

	maxUint   = 999_999_999_999_999 // exact in every language's doubles
	maxDigits = 15                  // of maxUint
)

// Header is the content of one guidon header of format version 1
// (propagation.md §1). It is plain data: Encode writes its only legal form,
// Keyring.Verify reads one that may be trusted and Decode one that may not.
type Header struct {
	Correlation string // correlation ID, 16 to 64 of A-Z a-z 0-9 - _
	Root        string // this root, 16 lower-case hex digits: correlation IDs may be reused by clients
	Environment string
	Revision    int64 // the pin
	Known       int64 // newest revision up to which emergencies are listed; 0 = not said
	Time        int64 // the root's clock, unix seconds: the only "now" of the request

	Subject    string // the targeting key; meaningless unless HasSubject
	HasSubject bool

	Attributes []Attribute // sorted by Name, unique
	Decisions  []Decision  // sorted by Flag, unique
	KeyID      string      // the key that signed it
}

// Attribute is one attribute of the evaluation context that travels: a string,
// a boolean or a finite number under its wire name. Attributes are comparable.
type Attribute struct {
	Name string // 1 to 32 of a-z 0-9 _

	kind   attributeKind
	text   string
	number float64 // the number; 1 or 0 for a boolean
}

type attributeKind uint8

const (
	textAttribute attributeKind = iota
	booleanAttribute
	numberAttribute
)

// NewAttribute makes an attribute of a string, bool or float64. It reports
// false for a value that the header cannot carry (null, lists, objects, text
// that is not UTF-8, numbers that are not finite) and for a name outside the
// grammar.
func NewAttribute(name string, value any) (Attribute, bool) {
	if !validAttributeName(name) {
		return Attribute{}, false
	}
	switch v := value.(type) {
	case string:
		return Attribute{Name: name, text: v}, validText(v)
	case bool:
		a := Attribute{Name: name, kind: booleanAttribute}
		if v {
			a.number = 1
		}
		return a, true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Attribute{}, false
		}
		return Attribute{Name: name, kind: numberAttribute, number: v + 0}, true // + 0 makes -0 a plain zero: RFC 8785 knows only one
	}
	return Attribute{}, false
}

// valid reports whether the header can carry a.
func (a Attribute) valid() bool {
	return validAttributeName(a.Name) && validText(a.text) && !math.IsNaN(a.number) && !math.IsInf(a.number, 0)
}

// Value returns the attribute as an evaluation context holds it: a string, a
// bool or a float64.
func (a Attribute) Value() any {
	switch a.kind {
	case booleanAttribute:
		return a.number != 0
	case numberAttribute:
		return a.number
	default:
		return a.text
	}
}

// Mark says who took a decision that travels.
type Mark byte

// The marks of the format.
const (
	MarkRoot      Mark = '^' // the root evaluated the flag with its full context
	MarkOverride  Mark = '!' // a signed override forces the variant for this request
	MarkEmergency Mark = '*' // a kill switch forces the variant, whatever the pin says
)

// Decision is the variant of one flag that was settled before it reached the
// reader. Values never travel, only variant names.
type Decision struct {
	Flag      string
	Variant   string // empty = the code default; never empty in an emergency
	Mark      Mark
	Emergency int64 // revision of the emergency; 0 with other marks
}

// decision finds the decision on a flag.
func (h *Header) decision(flag string) (Decision, bool) {
	i, found := slices.BinarySearchFunc(h.Decisions, flag, func(d Decision, flag string) int { return strings.Compare(d.Flag, flag) })
	if !found {
		return Decision{}, false
	}
	return h.Decisions[i], true
}

// Outcome is what became of the guidon header of one inbound request or
// message; extractions are counted by it.
type Outcome uint8

// What may become of a header.
const (
	Absent             Outcome = iota // there was none
	Verified                          // read, and its pin is followed
	Duplicate                         // more than one line
	Oversize                          // longer than MaxHeaderLength
	Malformed                         // not of the grammar, or two lines joined
	UnknownVersion                    // of another format version
	UnknownKey                        // signed by a key not in the keyring
	BadTag                            // the signature does not fit the value
	NotCanonical                      // rightly signed, but not the one legal form
	ForeignEnvironment                // pins another environment
	Stripped                          // arrived at an edge, where none is believed
	outcomes
)

var outcomeNames = [outcomes]string{
	"absent", "verified", "duplicate", "oversize", "malformed", "unknown_version",
	"unknown_key", "bad_tag", "not_canonical", "foreign_environment", "stripped",
}

// String returns the outcome in snake case, fit for a metric label.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Forwarded reports whether a header of that outcome, which cannot be used here,
// goes on to services further down as it came.
func (o Outcome) Forwarded() bool { return o.forwardable() }

// forwardable reports whether a header that cannot be used here may still mean
// something to a service further down: its bytes are then passed on as they are.
func (o Outcome) forwardable() bool {
	return o == UnknownVersion || o == UnknownKey || o == ForeignEnvironment
}

// HeaderError says why a header was refused. Match it with errors.AsType.
type HeaderError struct {
	Outcome Outcome
	Offset  int // byte of the value at which reading stopped; -1 if there is no such place
	Detail  string
}

func (e *HeaderError) Error() string {
	text := "guidon header: " + e.Outcome.String()
	if e.Offset >= 0 {
		text += fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Refusals that an attacker can cause without a key are made beforehand, so
// that refusing costs no memory.
var (
	errOversize = &HeaderError{Oversize, -1, "longer than 4096 bytes"}
	errShape    = &HeaderError{Malformed, -1, "does not end in a key id and a signature"}
	errVersion  = &HeaderError{UnknownVersion, 0, "only version 1 is known"}
	errNoFormat = &HeaderError{Malformed, 0, "does not start with a version"}
	errKey      = &HeaderError{UnknownKey, -1, "signed by a key that is not in the keyring"}
	errAlphabet = &HeaderError{Malformed, -1, "has a character outside the format"}
	errTag      = &HeaderError{BadTag, -1, "the signature does not fit"}
)
