package eval

import (
	"strconv"
	"strings"
)

// compare runs ==, ===, <, <=, > and >=. Fewer than two operands compare false;
// a third makes the ordering ones a test of what lies between.
func (r *run) compare(n *node, s scope) bool {
	o := r.operands(n, s)
	if o.len() < 2 {
		return n.negate
	}
	a, b := r.operand(&o, 0, s), r.operand(&o, 1, s)
	outcome := false
	switch n.op {
	case opEqual:
		outcome = equal(a, b)
	case opStrictEqual:
		outcome = a.shape() == b.shape() && equal(a, b)
	case opLess, opLessOrEqual:
		outcome = ordered(n.op == opLessOrEqual, a, b)
		if outcome && o.len() == 3 {
			outcome = ordered(n.op == opLessOrEqual, b, r.operand(&o, 2, s))
		}
	case opGreater, opGreaterOrEqual:
		outcome = ordered(n.op == opGreaterOrEqual, b, a)
		if outcome && o.len() == 3 {
			outcome = ordered(n.op == opGreaterOrEqual, r.operand(&o, 2, s), b)
		}
	}
	return outcome != n.negate
}

// equal is ==. Null equals only null; texts compare as texts; all else as the
// numbers that coerced makes of it, so that lists and objects equal nothing.
func equal(a, b value) bool {
	switch {
	case a.shape() == shapeNull || b.shape() == shapeNull:
		return a.shape() == b.shape()
	case a.shape() == shapeText && b.shape() == shapeText:
		return a.str == b.str
	default:
		return coerced(a) == coerced(b)
	}
}

// less is <. Texts compare bytewise, all else as numbers: here null is 0.
func less(a, b value) bool {
	if a.shape() == shapeText && b.shape() == shapeText {
		return a.str < b.str
	}
	return coerced(a) < coerced(b)
}

// ordered is < or, inclusively, <=. Since null equals only null, null <= 0 is
// false although neither is less.
func ordered(inclusive bool, a, b value) bool {
	return less(a, b) || inclusive && equal(a, b)
}

// coerced is JavaScript's idea of a value as a number: what is none is NaN.
func coerced(v value) float64 {
	switch v.shape() {
	case shapeNull:
		return 0
	case shapeBoolean, shapeNumber:
		return v.num
	case shapeText:
		if f, ok := parseNumber(v.str); ok {
			return f
		}
		if strings.TrimSpace(v.str) == "" {
			return 0
		}
	}
	return nan
}

// parseNumber reads a whole text as Go's ParseFloat does, and is false where
// that has an error. It looks before it leaps, because that error is allocated.
func parseNumber(s string) (float64, bool) {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || digits == "" {
		return 0, false
	}
	switch c := digits[0]; {
	case '0' <= c && c <= '9', c == '.':
	case strings.EqualFold(digits, "inf"), strings.EqualFold(digits, "infinity"), strings.EqualFold(s, "nan"):
	default:
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}
