package eval

// operator describes one operator of the language: how many operands it takes,
// as flagd's targeting schema has it, and what it can yield.
type operator struct {
	op       opcode
	min, max int  // operands; max 0 is no limit
	single   bool // flagd's engine takes an operand that stands alone instead of in a list
	negate   bool
	loop     bool // the second operand is a body, which sees the items of the first
	yields   yield
}

// yield says what an operator can yield where its outcome decides the variant.
type yield uint8

const (
	yieldsAnything yield = iota // computed from the context
	yieldsOperand               // one of its operands
	yieldsBoolean
	yieldsBooleanOrNull
	yieldsList // which names no variant
)

// operatorNamed is the table of the language. There is no other way to add to it.
func operatorNamed(name string) (o operator, ok bool) {
	switch name {
	case "var":
		o = operator{op: opVar, max: 2, single: true}
	case "missing":
		o = operator{op: opMissing, single: true, yields: yieldsList}
	case "missing_some":
		o = operator{op: opMissingSome, min: 2, max: 2, yields: yieldsList}
	case "if", "?:":
		o = operator{op: opIf, min: 1, yields: yieldsOperand}
	case "and":
		o = operator{op: opAnd, min: 1, yields: yieldsOperand}
	case "or":
		o = operator{op: opOr, min: 1, yields: yieldsOperand}
	case "!":
		o = operator{op: opNot, min: 1, max: 1, single: true, yields: yieldsBoolean}
	case "!!":
		o = operator{op: opTruth, min: 1, max: 1, single: true, yields: yieldsBoolean}
	case "==":
		o = operator{op: opEqual, min: 2, max: 2, yields: yieldsBoolean}
	case "!=":
		o = operator{op: opEqual, min: 2, max: 2, negate: true, yields: yieldsBoolean}
	case "===":
		o = operator{op: opStrictEqual, min: 2, max: 2, single: true, yields: yieldsBoolean}
	case "!==":
		o = operator{op: opStrictEqual, min: 2, max: 2, negate: true, single: true, yields: yieldsBoolean}
	case "<":
		o = operator{op: opLess, min: 2, max: 3, yields: yieldsBoolean}
	case "<=":
		o = operator{op: opLessOrEqual, min: 2, max: 3, yields: yieldsBoolean}
	case ">":
		o = operator{op: opGreater, min: 2, max: 3, yields: yieldsBoolean}
	case ">=":
		o = operator{op: opGreaterOrEqual, min: 2, max: 3, yields: yieldsBoolean}
	case "+":
		o = operator{op: opAdd, min: 1, single: true}
	case "-":
		o = operator{op: opSubtract, min: 1}
	case "*":
		o = operator{op: opMultiply, min: 2}
	case "/":
		o = operator{op: opDivide, min: 2, max: 2}
	case "%":
		o = operator{op: opRemainder, min: 2, max: 2}
	case "max":
		o = operator{op: opMax, min: 1}
	case "min":
		o = operator{op: opMin, min: 1}
	case "cat":
		o = operator{op: opCat, min: 1, single: true}
	case "substr":
		o = operator{op: opSubstr, min: 2, max: 3}
	case "starts_with":
		o = operator{op: opStartsWith, min: 2, max: 2, single: true, yields: yieldsBooleanOrNull}
	case "ends_with":
		o = operator{op: opEndsWith, min: 2, max: 2, single: true, yields: yieldsBooleanOrNull}
	case "sem_ver":
		o = operator{op: opSemVer, min: 3, max: 3, single: true, yields: yieldsBooleanOrNull}
	case "in":
		o = operator{op: opIn, min: 2, max: 2, yields: yieldsBoolean}
	case "merge":
		o = operator{op: opMerge, min: 1, single: true, yields: yieldsList}
	case "log":
		o = operator{op: opLog, min: 1, max: 1, single: true, yields: yieldsOperand}
	case "map":
		o = operator{op: opMap, min: 2, max: 2, loop: true, yields: yieldsList}
	case "filter":
		o = operator{op: opFilter, min: 2, max: 2, loop: true, yields: yieldsList}
	case "reduce":
		o = operator{op: opReduce, min: 3, max: 3, loop: true}
	case "all":
		o = operator{op: opAll, min: 2, max: 2, loop: true, yields: yieldsBoolean}
	case "none":
		o = operator{op: opNone, min: 2, max: 2, loop: true, yields: yieldsBoolean}
	case "some":
		o = operator{op: opSome, min: 2, max: 2, loop: true, yields: yieldsBoolean}
	case "fractional":
		o = operator{op: opFractional, min: 1, yields: yieldsOperand}
	default:
		return operator{}, false
	}
	return o, true
}

// rule splits an object of one member into operator and operand. Any other value
// is a literal: flagd takes an object of several members for data, and {} too.
func (v value) rule() (name string, operand value, ok bool) {
	if v.shape() != shapeObject || len(v.ref.fields) != 1 {
		return "", null, false
	}
	return v.ref.fields[0].key, v.ref.fields[0].value, true
}

// literal tells whether v holds no rule at any depth that is evaluated.
func (v value) literal() bool {
	if v.shape() == shapeList {
		for _, item := range v.ref.items {
			if !item.literal() {
				return false
			}
		}
		return true
	}
	_, _, rule := v.rule()
	return !rule
}
