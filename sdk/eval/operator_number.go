package eval

import (
	"math"
	"strconv"
)

var nan = math.NaN()

// arithmetic runs + - * / % max and min.
func (r *run) arithmetic(n *node, s scope) value {
	o := r.operands(n, s)
	count := o.len()
	switch {
	case count == 0:
		return nothing(n.op)
	case n.op == opRemainder:
		return numberValue(math.Mod(loose(r.operand(&o, 0, s)), loose(r.operand(&o, 1, s))))
	case n.op == opSubtract && count == 1:
		return numberValue(-1 * loose(r.operand(&o, 0, s)))
	}
	total := loose(r.operand(&o, 0, s))
	if count > 1 && n.op == opAdd {
		total += 0 // a sum of several starts at 0, which turns -0 into 0
	}
	for i := 1; i < count; i++ {
		x := loose(r.operand(&o, i, s))
		switch n.op {
		case opAdd:
			total += x
		case opSubtract:
			total -= x
		case opMultiply:
			total *= x
		case opDivide:
			total /= x
		case opMax:
			if x > total {
				total = x
			}
		case opMin:
			if x < total {
				total = x
			}
		default: // the remainder has returned
		}
	}
	return numberValue(total)
}

// nothing is the outcome of an operator without operands.
func nothing(op opcode) value {
	switch op {
	case opMultiply:
		return numberValue(1)
	case opMax, opMin:
		return null
	case opRemainder:
		return numberValue(nan)
	default:
		return numberValue(0)
	}
}

// loose is the number that arithmetic and in make of a value. Unlike coerced it
// takes a text that is no number for 0, as flagd does; what is neither number
// nor text is NaN.
func loose(v value) float64 {
	switch v.shape() {
	case shapeNumber:
		return v.num
	case shapeText:
		if f, ok := parseNumber(v.str); ok {
			return f
		}
		return beyondRange(v.str)
	default:
		return nan
	}
}

// beyondRange is an infinity for a text that is a number too large for float64,
// 0 for one that is no number.
func beyondRange(s string) float64 {
	if s == "" || s[0] != '-' && s[0] != '+' && s[0] != '.' && (s[0] < '0' || s[0] > '9') {
		return 0
	}
	f, _ := strconv.ParseFloat(s, 64)
	return f
}
