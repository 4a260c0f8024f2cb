package eval

// Reason says why a resolution is what it is, in OpenFeature's words.
type Reason string

// The reasons of OpenFeature. This package itself answers Static, Default,
// TargetingMatch, Disabled and Error; the others are for [Flag.Decided].
const (
	ReasonStatic         Reason = "STATIC"          // the flag has no targeting
	ReasonDefault        Reason = "DEFAULT"         // targeting matched nothing, or there is no default variant
	ReasonTargetingMatch Reason = "TARGETING_MATCH" // targeting named the variant
	ReasonSplit          Reason = "SPLIT"
	ReasonCached         Reason = "CACHED"
	ReasonDisabled       Reason = "DISABLED" // the flag's state is DISABLED
	ReasonStale          Reason = "STALE"
	ReasonUnknown        Reason = "UNKNOWN"
	ReasonError          Reason = "ERROR" // see the error code
)

// String returns the word itself.
func (r Reason) String() string { return string(r) }

// ErrorCode says what went wrong, in OpenFeature's words; empty means nothing.
type ErrorCode string

// The error codes an evaluation can have.
const (
	CodeNone         ErrorCode = ""
	CodeFlagNotFound ErrorCode = "FLAG_NOT_FOUND" // the snapshot has no such flag
	CodeParseError   ErrorCode = "PARSE_ERROR"    // the flag's definition does not compile; see [Flag.Err]
	CodeTypeMismatch ErrorCode = "TYPE_MISMATCH"  // the variant's value is not of the asked type
	CodeGeneral      ErrorCode = "GENERAL"        // targeting named a variant that does not exist
)

// String returns the word itself.
func (c ErrorCode) String() string { return string(c) }

// A Resolution carries its reason and code as one byte each, so that it stays
// three words; these tables give them their names.
const (
	reasonUnknown uint8 = iota
	reasonStatic
	reasonDefault
	reasonTargetingMatch
	reasonSplit
	reasonCached
	reasonDisabled
	reasonStale
	reasonError
)

var reasons = [...]Reason{
	reasonUnknown: ReasonUnknown, reasonStatic: ReasonStatic, reasonDefault: ReasonDefault,
	reasonTargetingMatch: ReasonTargetingMatch, reasonSplit: ReasonSplit, reasonCached: ReasonCached,
	reasonDisabled: ReasonDisabled, reasonStale: ReasonStale, reasonError: ReasonError,
}

func reasonIndex(r Reason) uint8 {
	for i, known := range reasons {
		if r == known {
			return uint8(i)
		}
	}
	return reasonUnknown
}

const (
	codeNone uint8 = iota
	codeFlagNotFound
	codeParseError
	codeTypeMismatch
	codeGeneral
)

var codes = [...]ErrorCode{
	codeNone: CodeNone, codeFlagNotFound: CodeFlagNotFound, codeParseError: CodeParseError,
	codeTypeMismatch: CodeTypeMismatch, codeGeneral: CodeGeneral,
}
