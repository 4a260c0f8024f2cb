package eval

// outcomes checks that every variant which the rule can name as a literal
// exists, and returns the paths where it computes one instead.
func (c *checker) outcomes(f *Flag, rule value) (computed []string) {
	o := outcomes{checker: c, flag: f}
	o.of(rule, truthyOutcome|falsyOutcome)
	return o.computed
}

// outcomes follows a rule to the places that its outcome comes from.
type outcomes struct {
	*checker
	flag     *Flag
	computed []string
}

// which outcomes of an operand can be the outcome of the whole: those of or end
// at the first truthy one, those of and at the first falsy one.
type which uint8

const (
	truthyOutcome which = 1 << iota
	falsyOutcome
)

func (o *outcomes) of(v value, w which) {
	name, operand, ok := v.rule()
	if !ok {
		o.literal(v, w)
		return
	}
	operator, _ := operatorNamed(name)
	o.in(name, func() {
		switch operator.yields {
		case yieldsOperand:
			o.operands(operator.op, operand, w)
		case yieldsBoolean, yieldsBooleanOrNull:
			if w&truthyOutcome != 0 {
				o.literal(booleanValue(true), w)
			}
			if w&falsyOutcome != 0 {
				o.literal(booleanValue(false), w)
			}
		case yieldsList:
			o.report("yields a list, which names no variant")
		default:
			o.computes()
			if operator.op == opVar && operand.shape() == shapeList && len(operand.ref.items) == 2 {
				o.in(1, func() { o.of(operand.ref.items[1], w) })
			}
		}
	})
}

func (o *outcomes) computes() { o.computed = append(o.computed, "$"+pathOf(o.trail...)) }

func (o *outcomes) literal(v value, w which) {
	if v.truthy() && w&truthyOutcome == 0 || !v.truthy() && w&falsyOutcome == 0 {
		return
	}
	if o.flag.named(v) == unknownVariant {
		o.report("can come to %s, which is not a variant", appendCanonical(nil, v))
	}
}

func (o *outcomes) operands(op opcode, operand value, w which) {
	if operand.shape() != shapeList { // of log
		o.of(operand, w)
		return
	}
	items := operand.ref.items
	last := len(items) - 1
	for i, item := range items {
		w := w
		switch {
		case op == opIf && i%2 == 0 && i < last:
			continue // a condition
		case op == opFractional:
			o.in(i, func() { o.share(i, item, w) })
			continue
		case op == opAnd && i < last:
			w &= falsyOutcome
		case op == opOr && i < last:
			w &= truthyOutcome
		}
		o.in(i, func() { o.of(item, w) })
	}
}

func (o *outcomes) share(i int, v value, w which) {
	if v.shape() == shapeList && len(v.ref.items) > 0 {
		o.in(0, func() { o.of(v.ref.items[0], w) })
		return
	}
	name, _, rule := v.rule()
	if !rule {
		return
	}
	// The first operand is the bucketing value, unless it comes to a list.
	operator, _ := operatorNamed(name)
	if i > 0 || operator.yields == yieldsOperand || operator.yields == yieldsList {
		o.computes()
	}
}
