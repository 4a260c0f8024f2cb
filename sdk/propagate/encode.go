package propagate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Encode signs h with key and returns the value of the header, the only legal
// form of that content: Decode refuses every other spelling. Attributes and
// decisions may come in any order; h is not changed and its KeyID not used.
// What the grammar cannot carry is refused with a *HeaderError.
func Encode(h Header, key Key) (string, error) {
	if !validKeyID(key.ID) {
		return "", &HeaderError{Malformed, -1, fmt.Sprintf("key id %q", key.ID)}
	}
	return h.sign(newSigner(key), headerLabel)
}

func (h *Header) sign(k *signer, label string) (string, error) {
	signed := *h
	signed.sort()
	signed.KeyID = k.id
	if err := signed.check(); err != nil {
		return "", err
	}
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.text = signed.appendSigned(append(m.text[:0], label...))
	tag := m.tag()
	m.text = append(append(append(m.text, ";s=:"...), tag[:]...), ':')
	value := m.text[len(label):]
	if len(value) > MaxHeaderLength {
		return "", errOversize
	}
	return string(value), nil
}

// sort brings the lists into their legal order, in copies of their own.
func (h *Header) sort() {
	byName := func(a, b Attribute) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(h.Attributes, byName) {
		h.Attributes = slices.Clone(h.Attributes)
		slices.SortFunc(h.Attributes, byName)
	}
	byFlag := func(a, b Decision) int { return cmp.Compare(a.Flag, b.Flag) }
	if !slices.IsSortedFunc(h.Decisions, byFlag) {
		h.Decisions = slices.Clone(h.Decisions)
		slices.SortFunc(h.Decisions, byFlag)
	}
}

// check refuses what the format cannot say, so that whatever is written can
// be read again.
func (h *Header) check() error {
	switch {
	case !validCorrelation(h.Correlation):
		return unwritable("correlation ID", h.Correlation)
	case !within(h.Root, classHex, rootLength, rootLength):
		return unwritable("root", h.Root)
	case !validEnvironment(h.Environment):
		return unwritable("environment", h.Environment)
	case !validText(h.Subject):
		return unwritable("subject", h.Subject)
	}
	for _, n := range [...]int64{h.Revision, h.Known, h.Time} {
		if n < 0 || n > maxUint {
			return &HeaderError{Malformed, -1, fmt.Sprintf("number %d is not of 1 to 15 digits", n)}
		}
	}
	for i, a := range h.Attributes {
		if !a.valid() {
			return unwritable("attribute", a.Name)
		}
		if i > 0 && h.Attributes[i-1].Name == a.Name {
			return unwritable("second attribute", a.Name)
		}
	}
	for i, d := range h.Decisions {
		if !validFlagKey(d.Flag) || (d.Variant != "" && !validVariant(d.Variant)) || !d.validMark() {
			return unwritable("decision for flag", d.Flag)
		}
		if i > 0 && h.Decisions[i-1].Flag == d.Flag {
			return unwritable("second decision for flag", d.Flag)
		}
	}
	return nil
}

func (d Decision) validMark() bool {
	switch d.Mark {
	case MarkRoot, MarkOverride:
		return d.Emergency == 0
	case MarkEmergency:
		return d.Variant != "" && d.Emergency > 0 && d.Emergency <= maxUint
	}
	return false
}

func unwritable(what, value string) error {
	return &HeaderError{Malformed, -1, fmt.Sprintf("%s %q", what, value)}
}

// appendSigned writes everything the signature covers.
func (h *Header) appendSigned(b []byte) []byte {
	b = append(append(b, `1;c="`...), h.Correlation...)
	b = append(append(b, `";o="`...), h.Root...)
	b = append(append(b, `";e="`...), h.Environment...)
	b = strconv.AppendInt(append(b, `";r=`...), h.Revision, 10)
	if h.Known > 0 {
		b = strconv.AppendInt(append(b, ";k="...), h.Known, 10)
	}
	b = strconv.AppendInt(append(b, ";t="...), h.Time, 10)
	if h.HasSubject {
		b = append(appendEscaped(append(b, `;u="`...), h.Subject), '"')
	}
	for i, a := range h.Attributes {
		b = append(b, or(i == 0, `;a="`, "&")...)
		b = a.append(b)
	}
	if len(h.Attributes) > 0 {
		b = append(b, '"')
	}
	for i, d := range h.Decisions {
		b = append(b, or(i == 0, `;d="`, " ")...)
		b = d.append(b)
	}
	if len(h.Decisions) > 0 {
		b = append(b, '"')
	}
	b = append(append(b, `;i="`...), h.KeyID...)
	return append(b, '"')
}

func or(first bool, yes, no string) string {
	if first {
		return yes
	}
	return no
}

func (a Attribute) append(b []byte) []byte {
	b = append(append(b, a.Name...), '=')
	switch a.kind {
	case booleanAttribute:
		return append(b, or(a.number != 0, "~b1", "~b0")...)
	case numberAttribute:
		var digits [32]byte
		return appendEscaped(append(b, "~n"...), string(appendNumber(digits[:0], a.number)))
	default:
		return appendEscaped(b, a.text)
	}
}

func (d Decision) append(b []byte) []byte {
	b = append(append(b, d.Flag...), ':')
	b = append(append(b, d.Variant...), byte(d.Mark))
	if d.Mark == MarkEmergency {
		b = strconv.AppendInt(b, d.Emergency, 10)
	}
	return b
}

// appendEscaped writes s with every byte outside ALPHA DIGIT - . _ as %XX.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; classes[c]&classKey != 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// escapedLength is how many bytes appendEscaped would write.
func escapedLength(s string) int {
	n := len(s)
	for i := range len(s) {
		if classes[s[i]]&classKey == 0 {
			n += 2
		}
	}
	return n
}

// digits is how many bytes appendNumber would write.
func (a Attribute) digits() int {
	var text [32]byte
	return len(appendNumber(text[:0], a.number))
}

// length is how many bytes append would write.
func (a Attribute) length() int {
	var text [96]byte
	if a.kind == textAttribute {
		return len(a.Name) + len("=") + escapedLength(a.text)
	}
	return len(a.append(text[:0]))
}

// length is how many bytes append would write for a decision that is no
// emergency, and the space before it.
func (d Decision) length() int { return eval.RootDecisionBytes(d.Flag, len(d.Variant)) }

// undecidedLength is how long the value is at most without what its decisions
// say: with the longest numbers, and if the longest key id signs it.
func (h *Header) undecidedLength() int {
	n := len(`1;c="";o="";e="";r=;k=;t=;u="";a="";d="";i="";s=::`) + 3*maxDigits + maxKeyID + tagLength
	n += len(h.Correlation) + len(h.Root) + len(h.Environment) + escapedLength(h.Subject)
	for _, a := range h.Attributes {
		n += len("&") + a.length()
	}
	return n
}

// appendNumber writes f as RFC 8785 does, which is what ECMAScript prints: the
// shortest digits that read back as f, with an exponent only outside
// [1e-6, 1e21).
func appendNumber(b []byte, f float64) []byte {
	if size := math.Abs(f); size == 0 || size >= 1e-6 && size < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // Go pads e-07 to two digits
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}
