package eval

import "slices"

// refName is the operator that stands for a segment.
const refName = "$ref"

// maxInlined bounds the JSON values that segments bring into a targeting, so that
// segments which double one another end before memory does.
const maxInlined = 1 << 19

// targeting is a flag's own rule and what its prerequisites add, with segments
// in place.
type targeting struct {
	own        value   // null: none
	conditions []value // one for each prerequisite, in order
	off        value   // the outcome when a condition fails: the name of a variant, or null
}

// targeting reads the targeting of a flag whose links are known.
func (f *Flag) targeting(definition value) (t targeting, err error) {
	in := inliner{segments: f.links.segments, left: maxInlined}
	if t.own, err = in.inline(definition.field("targeting")); err != nil {
		return t, within(".flag.targeting", err)
	}
	if t.own.shape() == shapeObject && !t.own.truthy() {
		t.own = null // {} is no targeting
	}
	for i, p := range f.links.prerequisites {
		condition, err := p.condition(f.attributes.requires[i].variants)
		if err != nil {
			return t, within(pathOf("guidon", "requires", i), err)
		}
		t.conditions = append(t.conditions, condition)
	}
	t.off = f.off()
	return t, nil
}

// rule is the targeting as one rule, null for none.
func (t *targeting) rule() value {
	switch len(t.conditions) {
	case 0:
		return t.own
	case 1:
		return ruleOf("if", t.conditions[0], t.own, t.off)
	default:
		return ruleOf("if", ruleOf("and", t.conditions...), t.own, t.off)
	}
}

// Definition returns the flagd definition that says in that language alone what
// f does here: segments and prerequisites are inlined, and the metadata is that
// of [Flag.Metadata]. It is canonical JSON, for providers that evaluate by
// themselves. A killed flag has one that says so: enabled, its default is the
// variant of the emergency, there is no targeting. A flag that is isolated for more than its targeting has the
// definition it was given.
func (f *Flag) Definition() []byte {
	document, err := parseStrict(f.row.Document)
	definition := document.field("flag")
	switch {
	case f.killed != nil:
		return f.killedDefinition(definition)
	case err != nil:
		return slices.Clone(f.row.Document)
	}
	members := []field{
		{"state", textValue(f.State())}, {"variants", definition.field("variants")}, {"metadata", f.metadataValue()},
	}
	if name := definition.field("defaultVariant"); name.truthy() {
		members = append(members, field{"defaultVariant", name})
	}
	own := definition.field("targeting")
	if f.err == nil {
		if t, err := f.targeting(definition); err == nil {
			own = t.rule()
		}
	}
	if own.shape() != shapeNull {
		members = append(members, field{"targeting", own})
	}
	v, _, _ := objectValue(members)
	return appendCanonical(nil, v)
}

// inliner puts segments in the place of their references.
type inliner struct {
	segments []*segment
	inside   bool // a segment
	left     int  // values of segments that may still be put in place
}

func (in *inliner) inline(v value) (value, error) {
	if in.inside {
		if in.left--; in.left < 0 {
			return null, placed("", "is too large with its segments in place")
		}
	}
	if name, ok := v.reference(); ok {
		for _, s := range in.segments {
			if s.row.Name == name {
				within := inliner{segments: in.segments, inside: true, left: in.left}
				rule, err := within.inline(s.rule)
				in.left = within.left
				return rule, err
			}
		}
		return null, placed("", "refers to segment %q, which does not exist", name)
	}
	switch v.shape() {
	case shapeList:
		var inlined []value
		for i, item := range v.ref.items {
			changed, err := in.inline(item)
			if err != nil {
				return null, within(pathOf(i), err)
			}
			if inlined == nil && changed.ref != item.ref {
				inlined = slices.Clone(v.ref.items)
			}
			if inlined != nil {
				inlined[i] = changed
			}
		}
		if inlined != nil {
			return listValue(inlined), nil
		}
	case shapeObject:
		name, operand, ok := v.rule()
		if !ok {
			return v, nil
		}
		changed, err := in.inline(operand)
		if err != nil {
			return null, within(pathOf(name), err)
		}
		if changed.ref != operand.ref {
			return ruleOfOperand(name, changed), nil
		}
	default: // a scalar
	}
	return v, nil
}

// reference tells whether v is {"$ref": name}.
func (v value) reference() (name string, ok bool) {
	operator, operand, rule := v.rule()
	return operand.str, rule && operator == refName && operand.shape() == shapeText
}

// references calls visit with the name of each reference in v, and gives its
// errors their place.
func (v value) references(visit func(name string) error) error {
	if name, ok := v.reference(); ok {
		return visit(name)
	}
	if v.ref == nil {
		return nil
	}
	for i, item := range v.ref.items {
		if err := item.references(visit); err != nil {
			return within(pathOf(i), err)
		}
	}
	for _, f := range v.ref.fields {
		if err := f.value.references(visit); err != nil {
			return within(pathOf(f.key), err)
		}
	}
	return nil
}

func (f *Flag) metadataValue() value {
	members := make([]field, 0, len(f.metadata))
	for key, v := range f.metadata {
		switch v := v.(type) {
		case string:
			members = append(members, field{key, textValue(v)})
		case bool:
			members = append(members, field{key, booleanValue(v)})
		case float64:
			members = append(members, field{key, numberValue(v)})
		case int64:
			members = append(members, field{key, numberValue(float64(v))})
		}
	}
	m, _, _ := objectValue(members)
	return m
}
