package eval

import (
	"strconv"
	"strings"
)

// compare runs ==, ===, <, <=, > and >=. Fewer than two operands compare false;
// a third makes the ordering ones a test of what lies between.
func (r *run) compare(n *node, s scope) bool {
	if !n.spread && len(n.args) == 2 { // nearly all there are
		return holds(n.op, r.value(&n.args[0], s), r.value(&n.args[1], s)) != n.negate
	}
	o := r.operands(n, s)
	if o.len() < 2 {
		return n.negate
	}
	a, b := r.operand(&o, 0, s), r.operand(&o, 1, s)
	outcome := holds(n.op, a, b)
	if o.len() == 3 && n.op != opEqual && n.op != opStrictEqual {
		outcome = outcome && holds(n.op, b, r.operand(&o, 2, s))
	}
	return outcome != n.negate
}

func holds(op opcode, a, b value) bool {
	switch op {
	case opEqual:
		return equal(a, b)
	case opStrictEqual:
		return a.shape() == b.shape() && equal(a, b)
	case opLess:
		return less(a, b)
	case opLessOrEqual:
		return less(a, b) || equal(a, b)
	case opGreater:
		return less(b, a)
	default:
		return less(b, a) || equal(a, b)
	}
}

// equal is ==. Null equals only null; texts compare as texts; all else as the
// numbers that coerced makes of it, so that lists and objects equal nothing.
func equal(a, b value) bool {
	switch {
	case a.isNumber() && b.isNumber():
		return a.num == b.num
	case a.isNull() || b.isNull():
		return a.isNull() && b.isNull()
	case a.isText() && b.isText():
		return a.str == b.str
	default:
		return coerced(a) == coerced(b)
	}
}

// less is <. Texts compare bytewise, all else as numbers. Null is 0 there, yet
// equals only null: null <= 0 is false although neither is less.
func less(a, b value) bool {
	switch {
	case a.isNumber() && b.isNumber():
		return a.num < b.num
	case a.isText() && b.isText():
		return a.str < b.str
	default:
		return coerced(a) < coerced(b)
	}
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
	default: // a list or an object
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
