package eval

import (
	"slices"
	"strings"
)

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
