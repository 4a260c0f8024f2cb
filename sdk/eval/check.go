package eval

import "strconv"

// rule checks that a rule is written as flagd's targeting schema has it, at
// every depth. References are checked where they are linked.
func (c *checker) rule(v value) {
	switch v.shape() {
	case shapeNumber:
		c.number(v)
	case shapeList:
		c.rules(v.ref.items)
	case shapeObject:
		name, operand, ok := v.rule()
		if !ok {
			c.report("must have one member, the operator; it has %d", len(v.ref.fields))
			return
		}
		c.in(name, func() { c.operation(name, operand) })
	default: // another literal
	}
}

func (c *checker) rules(items []value) {
	for i, item := range items {
		c.in(i, func() { c.rule(item) })
	}
}

func (c *checker) number(v value) {
	if v.num > maxSafeInteger || v.num < -maxSafeInteger {
		c.report("%v is beyond ±(2^53−1), where numbers are not exact", v.num)
	}
}

func (c *checker) operation(name string, operand value) {
	if name == refName {
		if operand.shape() != shapeText {
			c.report("must be the name of a segment")
		}
		return
	}
	o, known := operatorNamed(name)
	if !known {
		c.report("unknown operator %q", name)
		return
	}
	if o.op == opVar {
		c.variable(operand)
		return
	}
	if operand.shape() != shapeList {
		if o.op != opNot && o.op != opTruth && o.op != opLog {
			c.report("its operands must be a list")
			return
		}
		c.rule(operand)
		return
	}
	items := operand.ref.items
	if n := len(items); n < o.min || o.max > 0 && n > o.max {
		c.report("takes %s, not %d", o.arity(), n)
		return
	}
	switch {
	case o.loop:
		c.loop(items)
	case o.op == opFractional:
		c.fractional(items)
	case o.op == opMissing:
		c.texts(items)
	case o.op == opMissingSome:
		c.in(0, func() { c.mustBe(items[0], shapeNumber) })
		c.in(1, func() {
			if c.mustBe(items[1], shapeList) {
				c.texts(items[1].ref.items)
			}
		})
	case o.op == opSemVer:
		c.version(items)
	case o.op == opStartsWith, o.op == opEndsWith:
		for i, item := range items {
			if item.shape() != shapeObject {
				c.in(i, func() { c.mustBe(item, shapeText) })
			}
		}
		c.rules(items)
	default:
		c.rules(items)
	}
}

func (o operator) arity() string {
	counts := [...]string{"no operands", "one operand", "two operands", "three operands"}
	switch {
	case o.max == 0:
		return "at least " + counts[o.min]
	case o.min == o.max:
		return counts[o.min]
	default:
		return strconv.Itoa(o.min) + " to " + strconv.Itoa(o.max) + " operands"
	}
}

func (c *checker) mustBe(v value, s shape) bool {
	if v.shape() != s {
		c.report("must be %s", s)
	}
	return v.shape() == s
}

func (c *checker) texts(items []value) {
	for i, item := range items {
		c.in(i, func() { c.mustBe(item, shapeText) })
	}
}

func (c *checker) variable(operand value) {
	path := operand
	if operand.shape() == shapeList {
		items := operand.ref.items
		if len(items) < 1 || len(items) > 2 {
			c.report("takes a path, or a list of a path and a default")
			return
		}
		path = items[0]
		if len(items) == 2 {
			c.in(1, func() { c.rule(items[1]) })
		}
	}
	switch path.shape() {
	case shapeText:
		if v := newVariable(path.str, nil); v.at == placeNowhere {
			c.report("%q is not known; there are $flagd.flagKey and $flagd.timestamp", path.str)
		}
	case shapeObject:
		c.rule(path)
	case shapeNumber: // the index of an item
	default:
		c.report("takes a path, or a list of a path and a default")
	}
}

func (c *checker) loop(items []value) {
	c.in(0, func() {
		switch list := items[0]; {
		case list.shape() == shapeList && !list.literal():
			c.report("the items of a list are data here, but there are rules among them")
		case list.shape() == shapeList:
			c.numbers(list, maxValueDepth)
		case list.shape() == shapeObject:
			c.rule(list)
		default:
			c.report("must be a list or a rule that yields one")
		}
	})
	for i := 1; i < len(items); i++ {
		c.in(i, func() { c.rule(items[i]) })
	}
}

func (c *checker) version(items []value) {
	c.in(1, func() {
		if !versionOperator(items[1].str) {
			c.report(`must be one of "=", "!=", "<", "<=", ">", ">=", "^", "~"`)
		}
	})
	for i := 0; i < 3; i += 2 {
		c.in(i, func() {
			if item := items[i]; item.shape() == shapeObject {
				c.rule(item)
			} else if !validVersion(item) {
				c.report("is no version")
			}
		})
	}
}

func (c *checker) fractional(items []value) {
	from := 0
	if items[0].shape() != shapeList {
		from = 1
		c.in(0, func() { c.rule(items[0]) })
	}
	if from == len(items) {
		c.report("needs at least one [variant, weight]")
	}
	sum := 0.0
	for i := from; i < len(items); i++ {
		c.in(i, func() { sum += c.share(items[i]) })
	}
	if sum > maxWeight {
		c.report("the sum of the weights is %.0f; up to %d is allowed", sum, maxWeight)
	}
}

// share checks one [variant, weight] and returns the weight as far as it is known.
func (c *checker) share(v value) (weight float64) {
	if v.shape() != shapeList || len(v.ref.items) < 1 || len(v.ref.items) > 2 {
		c.report("must be [variant] or [variant, weight]")
		return 0
	}
	c.rules(v.ref.items)
	if name := v.ref.items[0]; name.shape() == shapeList {
		c.in(0, func() { c.report("must be a variant") })
	}
	if len(v.ref.items) < 2 {
		return 1
	}
	c.in(1, func() {
		switch w := v.ref.items[1]; {
		case w.shape() == shapeObject:
		case w.shape() != shapeNumber || !whole(w.num) || w.num > maxWeight:
			c.report("a weight is a whole number up to %d", maxWeight)
		default:
			weight = max(w.num, 0)
		}
	})
	return weight
}
