package eval

import "fmt"

// Resolution is the outcome of one evaluation: a variant of a flag, or a reason
// to use the caller's default. It is a small value; copy it freely. It reads
// from the snapshot it came from and allocates nothing but in [Resolution.Message].
type Resolution struct {
	flag    *Flag
	variant int32 // index into flag.variants; codeDefault when there is none
	reason  uint8
	code    uint8
}

// codeDefault is the variant of a resolution that leaves the value to the caller.
const codeDefault int32 = -1

// As asks for a value of type t. A resolution whose value is of another type
// becomes TYPE_MISMATCH with no variant; a number is an Integer only when it is
// whole and within ±(2^53−1). A resolution without a value stays what it is.
func (r Resolution) As(t Type) Resolution {
	if r.variant < 0 || t == Any {
		return r
	}
	if has := r.flag.variants[r.variant].typ; has == t || has == Integer && t == Float {
		return r
	}
	return Resolution{flag: r.flag, variant: codeDefault, reason: reasonError, code: codeTypeMismatch}
}

// Flag returns the flag that was evaluated, nil when it was not found.
func (r Resolution) Flag() *Flag { return r.flag }

// Reason says why the resolution is what it is.
func (r Resolution) Reason() Reason { return reasons[r.reason] }

// ErrorCode says what went wrong; it is empty unless the reason is ERROR.
func (r Resolution) ErrorCode() ErrorCode { return codes[r.code] }

// Variant returns the variant's name; empty means the caller's default.
func (r Resolution) Variant() string {
	if r.variant < 0 {
		return ""
	}
	return r.flag.variants[r.variant].name
}

// VariantIndex returns the variant's place in [Flag.Variants]; -1 means the
// caller's default.
func (r Resolution) VariantIndex() int { return int(r.variant) }

// Message describes an error for a person; it is empty when there is none.
func (r Resolution) Message() string {
	switch r.code {
	case codeFlagNotFound:
		return "the flag is not found"
	case codeParseError:
		return fmt.Sprintf("the definition of flag %q is not valid: %v", r.flag.key, r.flag.err)
	case codeTypeMismatch:
		return fmt.Sprintf("flag %q is of type %s", r.flag.key, r.flag.typ)
	case codeGeneral:
		return fmt.Sprintf("the targeting of flag %q names a variant that it does not have", r.flag.key)
	default:
		return ""
	}
}

// Value returns the value as encoding/json decodes it: bool, string, float64 or
// map[string]any; nil means the caller's default. Do not change a map.
func (r Resolution) Value() any {
	if r.variant < 0 {
		return nil
	}
	return r.flag.variants[r.variant].value
}

// Boolean returns the value of a boolean flag; false means use the default.
func (r Resolution) Boolean() (b, ok bool) {
	v := r.typed(Boolean)
	return v != nil && v.num != 0, v != nil
}

// Text returns the value of a string flag; false means use the default.
func (r Resolution) Text() (s string, ok bool) {
	if v := r.typed(String); v != nil {
		return v.text, true
	}
	return "", false
}

// Integer returns a number that is whole and within ±(2^53−1); false means use
// the default.
func (r Resolution) Integer() (n int64, ok bool) {
	if v := r.typed(Integer); v != nil {
		return int64(v.num), true
	}
	return 0, false
}

// Float returns the value of any numeric flag; false means use the default.
func (r Resolution) Float() (f float64, ok bool) {
	v := r.typed(Integer)
	if v == nil {
		v = r.typed(Float)
	}
	if v == nil {
		return 0, false
	}
	return v.num, true
}

// Object returns the value of an object flag, which the caller must not change;
// false means use the default.
func (r Resolution) Object() (m map[string]any, ok bool) {
	if v := r.typed(Object); v != nil {
		m, ok = v.value.(map[string]any)
	}
	return m, ok
}

func (r Resolution) typed(t Type) *variant {
	if r.variant < 0 || r.flag.variants[r.variant].typ != t {
		return nil
	}
	return &r.flag.variants[r.variant]
}
