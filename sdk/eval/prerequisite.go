package eval

import "slices"

// Prerequisites are inlined, so that a provider which knows only flagd's
// language agrees with Guidon: a flag that requires another runs
//
//	{"if": [condition, own targeting, off]}
//
// where condition evaluates the other flag inside this one. What the other flag
// says about itself, $flagd.flagKey and the default bucketing of fractional, is
// written out for that; else a flag at 10 % and one at 10 % that requires it
// would pick different people.

// condition is the rule that is true where p resolves to one of those variants.
func (p *Flag) condition(variants []string) (value, error) {
	if p.disabled && p.killed == nil {
		return booleanValue(false), nil
	}
	isDefault := p.fallback >= 0 && slices.Contains(variants, p.DefaultVariant())
	if p.program == nil {
		return booleanValue(isDefault), nil
	}
	document, err := parseStrict(p.row.Document)
	if err != nil {
		return null, err
	}
	t, err := p.targeting(document.field("flag"))
	if err != nil {
		return null, err
	}
	b := binder{flag: p, atTop: true}
	rule, err := b.bind(t.rule())
	if err != nil {
		return null, placed("", "flag %q cannot be a prerequisite: its targeting %v", p.key, err.Error())
	}
	var names []value
	for _, name := range variants {
		names = append(names, textValue(name))
		if name == "true" || name == "false" { // a rule may name these by a boolean
			names = append(names, booleanValue(name == "true"))
		}
	}
	if isDefault {
		names = append(names, null)
	}
	return ruleOf("in", rule, listValue(names)), nil
}

// off is what a flag comes to when a prerequisite fails: the variant whose value
// is false if it is boolean and has just one, else null, its default variant.
func (p *Flag) off() value {
	off := codeDefault
	for i, v := range p.variants {
		if v.typ != Boolean || v.num != 0 {
			continue
		}
		if off >= 0 {
			return null
		}
		off = int32(i)
	}
	if off < 0 || off == p.fallback {
		return null
	}
	return textValue(p.variants[off].name)
}

// binder rewrites a flag's targeting so that it means the same inside another's.
type binder struct {
	flag *Flag

	// atTop is true outside the bodies of loops, where var reads the evaluation
	// context. through is true in a body whose variables flagd resolves against
	// it first.
	atTop, through bool
}

func (b binder) bind(v value) (value, error) {
	if v.shape() == shapeList {
		items := make([]value, len(v.ref.items))
		for i, item := range v.ref.items {
			bound, err := b.bind(item)
			if err != nil {
				return null, err
			}
			items[i] = bound
		}
		return listValue(items), nil
	}
	name, operand, ok := v.rule()
	if !ok {
		return v, nil
	}
	o, _ := operatorNamed(name)
	switch {
	case o.op == opVar:
		return b.variable(v, operand)
	case o.op == opFractional && b.atTop:
		return b.fractional(operand)
	case o.loop && operand.shape() == shapeList && len(operand.ref.items) >= o.min:
		return b.loop(name, o, operand.ref.items)
	}
	bound, err := b.bind(operand)
	return ruleOfOperand(name, bound), err
}

func (b binder) variable(v, operand value) (value, error) {
	text, rest := operand, []value(nil)
	if operand.shape() == shapeList && len(operand.ref.items) > 0 {
		text, rest = operand.ref.items[0], operand.ref.items[1:]
	}
	if !b.atTop && !b.through {
		return v, nil
	}
	if text.shape() == shapeNumber {
		return v, nil
	}
	if text.shape() != shapeText {
		return null, placed("", "computes the name of an attribute")
	}
	switch newVariable(text.str, nil).at {
	case placeFlagKey:
		return textValue(b.flag.key), nil
	case placeFlagd:
		return null, placed("", "reads the whole of $flagd")
	case placeWhole:
		if b.atTop {
			return null, placed("", "reads the whole evaluation context")
		}
	default: // means the same anywhere
	}
	if len(rest) == 0 {
		return v, nil
	}
	bound, err := b.bind(listValue(rest))
	if err != nil {
		return null, err
	}
	return ruleOf("var", append([]value{text}, bound.ref.items...)...), nil
}

func (b binder) loop(name string, o operator, items []value) (value, error) {
	items = slices.Clone(items)
	body := b
	body.through = b.through || b.atTop && (o.op == opFilter || o.op == opNone || o.op == opSome)
	body.atTop = false
	for i := range items {
		within := b
		if i == 1 {
			within = body
		} else if items[i].shape() == shapeList {
			continue // data
		}
		bound, err := within.bind(items[i])
		if err != nil {
			return null, err
		}
		items[i] = bound
	}
	return ruleOf(name, items...), nil
}

// fractional writes out the bucketing value that flagd takes by default, flag
// key and targeting key, where the rule has none or it comes to null.
func (b binder) fractional(operand value) (value, error) {
	if operand.shape() != shapeList || len(operand.ref.items) == 0 {
		return null, placed("", "computes the operands of fractional")
	}
	bound, err := b.bind(operand)
	if err != nil {
		return null, err
	}
	items := bound.ref.items
	first, shares := items[0], items[1:]
	if first.shape() == shapeList {
		first, shares = null, items
	}
	name, _, _ := first.rule()
	if first.shape() == shapeText || name == "cat" || b.flag.cbor && first.shape() != shapeNull {
		return ruleOf("fractional", items...), nil
	}
	if b.flag.cbor && items[0].shape() == shapeNull {
		return null, nil // v3 takes null for no match
	}
	if b.flag.cbor {
		return null, placed("", "leaves the bucketing value of fractional to the default, which v3 cannot write out")
	}
	key := ruleOf("var", textValue(targetingKeyName))
	byDefault := ruleOf("if",
		ruleOf("and", ruleOf("starts_with", key, textValue("")), ruleOf("!!", key)), // a text, and not empty
		ruleOf("fractional", slices.Insert(slices.Clone(shares), 0, ruleOf("cat", textValue(b.flag.key), key))...),
		null)
	if first.shape() == shapeNull {
		return byDefault, nil
	}
	return ruleOf("if",
		ruleOf("starts_with", first, textValue("")), ruleOf("fractional", items...),
		ruleOf("===", first, null), byDefault,
		null), nil
}

// ruleOf writes {name: [operands]}.
func ruleOf(name string, operands ...value) value {
	return ruleOfOperand(name, listValue(operands))
}

func ruleOfOperand(name string, operand value) value {
	v, _, _ := objectValue([]field{{name, operand}})
	return v
}
