package eval

import (
	"maps"
	"slices"
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
			return node{op: opVersion, args: []node{n.args[0]}, version: &version}
		}
	case opStartsWith, opEndsWith:
		if len(n.args) == 2 && n.args[1].op == opLiteral {
			op := opWithinPrefix
			if n.op == opEndsWith {
				op = opWithinSuffix
			}
			return node{op: op, args: []node{n.args[0]}, literal: n.args[1].literal}
		}
	default:
	}
	return n
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
