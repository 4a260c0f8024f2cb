package propagate

import (
	"maps"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Origin says where the answer to an evaluation came from.
type Origin string

// Where an answer may come from.
const (
	OriginPin       Origin = "pin"       // evaluated at the pinned revision
	OriginRoot      Origin = "root"      // decided at the root and carried in the header
	OriginOverride  Origin = "override"  // forced for this request
	OriginEmergency Origin = "emergency" // forced by a kill switch
	OriginNearest   Origin = "nearest"   // evaluated at the oldest revision kept, as the flag asks for where the pin is not
	OriginNewest    Origin = "newest"    // newest revision: local scope, or no State
	OriginNone      Origin = "none"      // nothing was there to evaluate; see the error code
)

// boxed is o as text, without an allocation for the known ones.
func (o Origin) boxed() any {
	switch o {
	case OriginPin:
		return string(OriginPin)
	case OriginRoot:
		return string(OriginRoot)
	case OriginOverride:
		return string(OriginOverride)
	case OriginEmergency:
		return string(OriginEmergency)
	case OriginNearest:
		return string(OriginNearest)
	case OriginNewest:
		return string(OriginNewest)
	case OriginNone:
		return string(OriginNone)
	}
	return string(o)
}

// The error codes of OpenFeature that arise here rather than in evaluation.
const (
	codeNotReady       eval.ErrorCode = "PROVIDER_NOT_READY"
	codeInvalidContext eval.ErrorCode = "INVALID_CONTEXT"
)

// Result is a resolution together with what propagation had to do with it. Its
// Reason, ErrorCode and Message stand before those of the Resolution inside.
type Result struct {
	eval.Resolution

	// Revision is the one whose definition gave the answer.
	Revision int64

	// Pinned is the revision the request is pinned to; 0 if the answer came
	// from the newest.
	Pinned int64

	Origin Origin

	// Overridden says that an override forces some flag of the request, this one
	// or another: experiments leave such requests out.
	Overridden bool

	// CreatedAfterPin says that the flag exists now but did not at the pin:
	// the answer is the code default.
	CreatedAfterPin bool

	// PinUnavailable says that the definition at the pin could not be had: the
	// answer is the code default and an ERROR, never another revision's value,
	// but for flags that ask for one; see Nearest.
	PinUnavailable bool

	// Nearest is the oldest revision that is still kept, if the flag was taken as
	// of that, which it asks for where the pin is not kept any more; else 0.
	Nearest int64

	// IgnoredAttributes names attributes passed at the call that the answer
	// does not depend on, because the request's context was settled before,
	// sorted.
	IgnoredAttributes []string

	// NotTravelling names the attributes that the flag's targeting reads and
	// that do not travel, sorted, if the answer had to do without them: no
	// decision of the root was there to use. Empty for most flags always.
	NotTravelling []string

	code   eval.ErrorCode
	detail string
}

// Reason says why the result is what it is.
func (r Result) Reason() eval.Reason {
	if r.code != eval.CodeNone {
		return eval.ReasonError
	}
	return r.Resolution.Reason()
}

// ErrorCode says what went wrong; empty unless the reason is ERROR.
func (r Result) ErrorCode() eval.ErrorCode {
	if r.code != eval.CodeNone {
		return r.code
	}
	return r.Resolution.ErrorCode()
}

// Message describes an error for a person; empty if there is none.
func (r Result) Message() string {
	if r.code != eval.CodeNone {
		return r.detail
	}
	return r.Resolution.Message()
}

// Metadata returns the flag's metadata and beside it where the answer came
// from, in a map of its own: "revision", "origin" and, where they apply,
// "pinnedRevision", "override", "createdAfterPin", "PIN_UNAVAILABLE",
// "nearestRevision", "ignoredAttributes" and "notTravelling" (names with commas between). All values are strings,
// booleans or numbers, as OpenFeature wants.
func (r Result) Metadata() map[string]any {
	var m map[string]any
	if f := r.Flag(); f != nil {
		m = maps.Clone(f.Metadata()) // cheaper than to fill one
	}
	if m == nil {
		m = make(map[string]any, 8)
	}
	revision := any(r.Revision)
	m["revision"] = revision
	m["origin"] = r.Origin.boxed()
	switch r.Pinned {
	case 0:
	case r.Revision:
		m["pinnedRevision"] = revision
	default:
		m["pinnedRevision"] = r.Pinned
	}
	if r.Overridden {
		m["override"] = true
	}
	if r.CreatedAfterPin {
		m["createdAfterPin"] = true
	}
	if r.PinUnavailable {
		m["PIN_UNAVAILABLE"] = true
	}
	if r.Nearest > 0 {
		m["nearestRevision"] = r.Nearest
	}
	if len(r.IgnoredAttributes) > 0 {
		m["ignoredAttributes"] = strings.Join(r.IgnoredAttributes, ",")
	}
	if len(r.NotTravelling) > 0 {
		m["notTravelling"] = strings.Join(r.NotTravelling, ",")
	}
	return m
}
