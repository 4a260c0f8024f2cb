package eval

import (
	"maps"
	"slices"
	"strings"
)

// The bounds of a rule, segments and prerequisites inlined.
const (
	maxRuleDepth  = 32      // operators inside one another
	maxRuleNodes  = 2_000   // operators and operands; a literal list of in counts once
	maxListItems  = 100_000 // of a literal list that in searches
	maxLoopItems  = 1_000   // of a literal list that a loop goes through
	maxLoopRounds = 10_000  // of loops inside one another, each list of the context taken for maxLoopItems long
)

// ruleCompiler compiles the rules of one flag into nodes.
type ruleCompiler struct {
	flag  *Flag
	trail []any // where in the document: members and items, for errors and notes
	depth int
	nodes int

	// A body sees an item of a list; bodies counts how deep we are in them. outer
	// are the scopes tried before the current one, see enter.
	bodies int
	outer  []uint8
	// rescoped says that the default of a variable is being compiled, which runs
	// in each scope the variable tries, the evaluation context among them.
	rescoped bool
	rounds   int // the product of the lengths of the lists we are inside

	reads         map[string]bool
	timeDependent bool
	excess        error

	notes []note // for Explain; nil otherwise
}

// note is where a node comes from.
type note struct {
	path   string
	source value
}

func (c *ruleCompiler) at(step any, compile func() error) error {
	c.trail = append(c.trail, step)
	err := compile()
	c.trail = c.trail[:len(c.trail)-1]
	return err
}

func (c *ruleCompiler) refuse(format string, args ...any) error {
	return placed(pathOf(c.trail...), format, args...)
}

// exceed notes what a write refuses but an evaluation survives, because it runs
// out of fuel first.
func (c *ruleCompiler) exceed(format string, args ...any) {
	if c.excess == nil {
		c.excess = c.refuse(format, args...)
	}
}

// rule compiles a rule or a literal.
func (c *ruleCompiler) rule(v value) (n node, err error) {
	if c.nodes++; c.nodes > maxRuleNodes {
		return node{}, c.refuse("the targeting has more than %d operators and operands", maxRuleNodes)
	}
	switch name, operand, ok := v.rule(); {
	case !ok && v.literal():
		n = c.literal(v)
	case c.depth == maxRuleDepth:
		return node{}, c.refuse("the targeting nests deeper than %d operators", maxRuleDepth)
	case ok:
		c.depth++
		err = c.at(name, func() error {
			o, known := operatorNamed(name)
			if !known {
				return c.refuse("unknown operator %q", name)
			}
			n, err = c.operation(o, operand)
			return err
		})
		c.depth--
	default:
		c.depth++
		n.op = opList
		n.args, err = c.rules(v.ref.items)
		c.depth--
	}
	if c.notes != nil {
		n.note = int32(len(c.notes))
		c.notes = append(c.notes, note{pathOf(c.trail...), v})
	}
	return n, err
}

func (c *ruleCompiler) literal(v value) node {
	return node{op: opLiteral, literal: v, variant: c.flag.named(v)}
}

func (c *ruleCompiler) rules(items []value) ([]node, error) {
	nodes := make([]node, len(items))
	for i, item := range items {
		err := c.at(i, func() (err error) {
			nodes[i], err = c.rule(item)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

func (c *ruleCompiler) operation(o operator, operand value) (node, error) {
	switch {
	case o.loop:
		return c.loop(o, operand)
	case o.op == opVar:
		return c.variable(operand)
	case o.op == opFractional:
		return c.fractional(operand)
	case o.op == opIn:
		return c.in(operand)
	}
	n := node{op: o.op, negate: o.negate}
	if o.op == opMissing || o.op == opMissingSome {
		c.readNames(o.op, operand)
	}
	switch _, _, rule := operand.rule(); {
	case operand.shape() == shapeList:
		if few := needed(o.op); len(operand.ref.items) < few {
			return n, c.refuse("needs at least %d operands", few)
		}
		var err error
		if n.args, err = c.rules(operand.ref.items); err != nil {
			return n, err
		}
	case o.op == opIf, o.op == opAnd, o.op == opOr:
		return n, c.refuse("its operands must be a list")
	case rule:
		n.spread = true
		yielded, err := c.rule(operand)
		if err != nil {
			return n, err
		}
		n.args = []node{yielded}
	case !o.single:
		return n, c.refuse("its operands must be a list")
	default:
		n.args = []node{c.literal(operand)}
	}
	return c.specialize(n), nil
}

// needed is the number of operands without which flagd's engine always fails.
func needed(op opcode) int {
	switch op {
	case opRemainder, opSubstr, opMissingSome:
		return 2
	default:
		return 0
	}
}

// specialize turns the commonest shapes into nodes that take one step.
func (c *ruleCompiler) specialize(n node) node {
	if n.spread {
		return n
	}
	switch n.op {
	case opEqual, opStrictEqual:
		if len(n.args) != 2 {
			return n
		}
		v, literal := &n.args[0], &n.args[1]
		if v.op == opLiteral {
			v, literal = literal, v
		}
		if v.op != opVar || literal.op != opLiteral {
			return n
		}
		op := opVarIsText
		switch shape := literal.literal.shape(); {
		case shape == shapeText && n.op == opStrictEqual:
			op = opVarIsExactly
		case shape == shapeText:
		case shape == shapeNumber && n.op == opEqual:
			op = opVarIsNumber
		default:
			return n
		}
		return node{op: op, negate: n.negate, args: v.args, variable: v.variable, literal: literal.literal}
	case opSemVer:
		if len(n.args) == 3 && n.args[1].op == opLiteral && n.args[2].op == opLiteral {
			version, ok := newVersion(n.args[1].literal, n.args[2].literal)
			if !ok {
				return c.literal(null)
			}
			return node{op: opVersion, args: n.args[:1:1], version: &version}
		}
	case opStartsWith, opEndsWith:
		if len(n.args) == 2 && n.args[1].op == opLiteral {
			op := opWithinPrefix
			if n.op == opEndsWith {
				op = opWithinSuffix
			}
			return node{op: op, args: n.args[:1:1], literal: n.args[1].literal}
		}
	}
	return n
}

// variable compiles var, whose operand is a path, a list of a path and a
// default, or a rule that yields one of these.
func (c *ruleCompiler) variable(operand value) (node, error) {
	text, rest := operand, []value(nil)
	if operand.shape() == shapeList && len(operand.ref.items) > 0 {
		text, rest = operand.ref.items[0], operand.ref.items[1:]
	}
	switch {
	case text.shape() == shapeNumber && operand.shape() == shapeNumber:
		text = textValue(printed(text.num))
	case text.shape() != shapeText:
		return c.computedVariable(operand)
	}
	outer := c.outer
	if operand.shape() == shapeText && (text.str == "" || strings.HasPrefix(text.str, ".")) {
		outer = nil // as in flagd: such a path is about the item alone
	}
	n := node{op: opVar, variable: newVariable(text.str, outer)}
	c.read(n.variable)
	if len(rest) != 1 {
		return n, nil
	}
	defer c.rescope()()
	err := c.at(1, func() (err error) {
		n.args = make([]node, 1)
		n.args[0], err = c.rule(rest[0])
		return err
	})
	return n, err
}

// rescope begins what runs in whichever scope a variable is trying, and returns
// the function that ends it.
func (c *ruleCompiler) rescope() func() {
	outer, rescoped := c.outer, c.rescoped
	c.rescoped = rescoped || slices.Contains(outer, uint8(c.bodies))
	c.outer = nil
	return func() { c.outer, c.rescoped = outer, rescoped }
}

func (c *ruleCompiler) computedVariable(operand value) (node, error) {
	n := node{op: opComputedVar, variable: &variable{outer: c.outer}}
	c.read(newVariable("", c.outer))
	defer c.rescope()()
	var err error
	if operand.shape() == shapeList {
		n.args, err = c.rules(operand.ref.items)
		return n, err
	}
	if operand.shape() == shapeBoolean {
		return n, c.refuse("%s is no path", operand.shape())
	}
	n.spread = true
	n.args = make([]node, 1)
	n.args[0], err = c.rule(operand)
	return n, err
}

// read records what a variable can read of the evaluation context: in a body
// only what outer lets through to it.
func (c *ruleCompiler) read(v *variable) {
	if c.bodies > 0 && !c.rescoped && !slices.Contains(v.outer, uint8(c.bodies)) {
		return
	}
	switch v.at {
	case placeWhole:
		c.reads[ReadsAll] = true
		c.timeDependent = true
	case placeNowhere:
	case placeFlagd, placeTimestamp:
		c.timeDependent = true
		c.reads[v.path.text] = true
	default:
		c.reads[v.path.text] = true
	}
}

func (c *ruleCompiler) readNames(op opcode, operand value) {
	names := operand
	if op == opMissingSome && operand.shape() == shapeList && len(operand.ref.items) == 2 {
		names = operand.ref.items[1]
	}
	if names.shape() != shapeList {
		names = listValue([]value{names})
	}
	for _, name := range names.ref.items {
		path := "" // computed: it can be any
		if name.shape() == shapeText {
			path = name.str
		}
		c.read(newVariable(path, nil))
	}
}

// loop compiles map, filter, reduce, all, none and some.
func (c *ruleCompiler) loop(o operator, operand value) (node, error) {
	n := node{op: o.op}
	if operand.shape() != shapeList {
		return n, c.refuse("its operands must be a list")
	}
	items := operand.ref.items
	if len(items) < o.min {
		switch {
		case o.op == opMap, o.op == opFilter:
			return c.literal(listValue(nil)), nil
		case o.op == opReduce:
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
// before it runs a body: filter, none and some do with the data around the loop, all
// and some with each item; variables inside inner bodies are replaced as well. What a
// variable finds therefore depends on all loops around it, outermost first, before its own item.
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
	}
	c.outer = inner
}

// in compiles in, whose literal list becomes a set.
func (c *ruleCompiler) in(operand value) (node, error) {
	n := node{op: opIn}
	if operand.shape() != shapeList {
		if _, _, rule := operand.rule(); !rule {
			return n, c.refuse("its operands must be a list")
		}
		n.spread = true
		yielded, err := c.rule(operand)
		n.args = []node{yielded}
		return n, err
	}
	items := operand.ref.items
	if len(items) == 0 {
		return n, c.refuse("needs 2 operands")
	}
	if len(items) < 2 || items[1].shape() != shapeList || !items[1].literal() {
		var err error
		n.args, err = c.rules(items)
		return n, err
	}
	if size := len(items[1].ref.items); size > maxListItems {
		return n, c.refuse("a list of %d items is too long; %d are allowed", size, maxListItems)
	}
	c.nodes++
	var err error
	n.op, n.set = opInSet, newSet(items[1].ref.items)
	n.args, err = c.rules(items[:1])
	return n, err
}

// fractional compiles fractional, whose shares are mostly literal.
func (c *ruleCompiler) fractional(operand value) (node, error) {
	if operand.shape() != shapeList {
		if _, _, rule := operand.rule(); !rule {
			return c.literal(null), nil
		}
		n := node{op: opFractional, spread: true, args: make([]node, 1)}
		c.read(newVariable(targetingKeyName, nil))
		var err error
		n.args[0], err = c.rule(operand)
		return n, err
	}
	items := operand.ref.items
	if len(items) == 0 {
		return c.literal(null), nil
	}
	shares := items
	if items[0].shape() != shapeList {
		shares = items[1:]
	}
	if items[0].shape() == shapeList || !c.flag.cbor {
		c.read(newVariable(targetingKeyName, nil))
	}
	sp := &split{}
	for _, item := range shares {
		if !item.literal() {
			args, err := c.rules(items)
			return node{op: opFractional, args: args}, err
		}
		c.nodes++
		if !sp.add(c.flag, item) {
			return c.literal(null), nil
		}
	}
	n := node{op: opSplit, split: sp}
	if items[0].shape() == shapeList || items[0].shape() == shapeNull && !c.flag.cbor {
		return n, nil
	}
	var err error
	n.args, err = c.rules(items[:1])
	return n, err
}

// paths returns what was read, sorted.
func (c *ruleCompiler) paths() []string { return slices.Sorted(maps.Keys(c.reads)) }
