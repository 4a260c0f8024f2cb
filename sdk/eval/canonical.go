package eval

import (
	"math"
	"strconv"
	"unicode/utf16"
)

// Canonical returns the one encoding of a JSON document that digests and
// signatures cover: RFC 8785, that is no space, members sorted by UTF-16 code
// units, numbers as ECMAScript prints them. It is idempotent.
//
// It refuses, naming the JSON path, what has no such form: malformed JSON, a key
// that stands twice in one object, bytes that are no UTF-8, half a surrogate
// pair, numbers beyond float64, and nesting deeper than 128.
func Canonical(doc []byte) ([]byte, error) {
	v, err := parseStrict(doc)
	if err != nil {
		return nil, err
	}
	return appendCanonical(make([]byte, 0, len(doc)), v), nil
}

func appendCanonical(dst []byte, v value) []byte {
	switch v.shape() {
	case shapeBoolean:
		return strconv.AppendBool(dst, v.num != 0)
	case shapeNumber:
		return appendNumber(dst, v.num)
	case shapeText:
		return appendString(dst, v.str)
	case shapeList:
		dst = append(dst, '[')
		for i, item := range v.ref.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCanonical(dst, item)
		}
		return append(dst, ']')
	case shapeObject:
		dst = append(dst, '{')
		for i, f := range v.ref.sorted() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, f.key), ':')
			dst = appendCanonical(dst, f.value)
		}
		return append(dst, '}')
	default:
		return append(dst, "null"...)
	}
}

// appendNumber prints as ECMAScript's Number::toString does. What JSON cannot
// say, NaN and the infinities of a division, is null as in JSON.stringify.
func appendNumber(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return append(dst, "null"...)
	case f == 0:
		return append(dst, '0') // also for -0
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') { // e-07 is e-7 there
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, digits[c>>4], digits[c&15])
		}
	}
	return append(append(dst, s[plain:]...), '"')
}

// compareUTF16 orders strings by UTF-16 code units, as RFC 8785 wants. It
// differs from the order of bytes where one string has a rune beyond U+FFFF.
func compareUTF16(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && (n < len(a) && a[n]&0xC0 == 0x80 || n < len(b) && b[n]&0xC0 == 0x80) {
		n-- // back to where a rune starts
	}
	x, y := utf16.Encode(firstRune(a[n:])), utf16.Encode(firstRune(b[n:]))
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return int(x[i]) - int(y[i])
		}
	}
	return len(x) - len(y)
}

func firstRune(s string) []rune {
	for _, r := range s {
		return []rune{r}
	}
	return nil
}
