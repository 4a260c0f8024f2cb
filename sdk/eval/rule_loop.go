package eval

// loop compiles map, filter, reduce, all, none and some.
func (c *ruleCompiler) loop(o operator, operand value) (node, error) {
	n := node{op: o.op}
	if operand.shape() != shapeList {
		return n, c.refuse("its operands must be a list")
	}
	items := operand.ref.items
	if len(items) < o.min {
		switch o.op {
		case opMap, opFilter:
			return c.literal(listValue(nil)), nil
		case opReduce:
			return c.literal(numberValue(0)), nil
		default:
			return n, c.refuse("needs %d operands", o.min)
		}
	}
	n.args = make([]node, o.min)
	length := maxLoopItems
	err := c.at(0, func() (err error) {
		switch _, _, rule := items[0].rule(); {
		case rule:
			n.args[0], err = c.rule(items[0])
		case items[0].shape() == shapeList: // its items are data, not rules
			n.args[0] = c.literal(items[0])
			length = len(items[0].ref.items)
		default:
			n.args[0] = c.literal(null)
			length = 0
		}
		if length > maxLoopItems {
			c.exceed("a list of %d items is too long to go through; %d are allowed", length, maxLoopItems)
		}
		return err
	})
	if err != nil {
		return n, err
	}
	if o.op == opReduce {
		if err := c.at(2, func() (err error) { n.args[2], err = c.initial(items[2]); return err }); err != nil {
			return n, err
		}
	}
	return n, c.at(1, func() (err error) {
		if _, _, rule := items[1].rule(); !rule && items[1].shape() != shapeObject && o.op != opMap && o.op != opFilter {
			return c.refuse("must be a rule")
		}
		n.args[1], n.cost, err = c.body(o.op, items[1], length)
		return err
	})
}

// initial compiles what the accumulator of reduce starts with.
func (c *ruleCompiler) initial(v value) (node, error) {
	if _, _, rule := v.rule(); !rule && accumulatorTypes[v.shape()] == "" {
		return node{}, c.refuse("an accumulator cannot start as %s", v.shape())
	}
	return c.rule(v)
}

// body compiles the body of a loop over at most length items and tells what one
// round costs.
func (c *ruleCompiler) body(op opcode, v value, length int) (n node, cost int32, err error) {
	if c.rounds *= max(length, 1); c.rounds > maxLoopRounds {
		c.exceed("loops inside one another go round up to %d times; %d are allowed", c.rounds, maxLoopRounds)
	}
	if c.bodies == maxLoops {
		return node{}, 0, c.refuse("loops stand more than %d deep inside one another", maxLoops)
	}
	rounds, outer, nodes := c.rounds/max(length, 1), c.outer, c.nodes
	c.enter(op)
	n, err = c.rule(v)
	c.bodies--
	c.rounds, c.outer = rounds, outer
	return n, int32(c.nodes - nodes + 1), err
}

// enter goes into the body of a loop. flagd puts values in place of variables
// before it runs a body: filter, none and some do with the data around the
// loop, all and some with each item; variables inside inner bodies are replaced
// as well. What a variable finds therefore depends on all loops around it,
// outermost first, before its own item.
func (c *ruleCompiler) enter(op opcode) {
	c.bodies++
	inner := make([]uint8, len(c.outer), len(c.outer)+2)
	for i, bodies := range c.outer {
		inner[i] = bodies + 1
	}
	switch op {
	case opFilter, opNone:
		inner = append(inner, 1)
	case opAll:
		inner = append(inner, 0)
	case opSome:
		inner = append(inner, 1, 0)
	default: // map and reduce replace nothing
	}
	c.outer = inner
}
