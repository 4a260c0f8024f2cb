package eval

// variable is the compiled operand of var.
type variable struct {
	path *path
	at   place

	// outer lists scopes, as numbers of bodies to go out, that are tried before
	// the current one. flagd resolves the variables of a body against the data
	// around it first: see ruleCompiler.enter.
	outer []uint8
}

// place says where in the evaluation context a path leads.
type place uint8

const (
	placeAttribute place = iota // a single attribute of the caller
	placeNested                 // into an attribute
	placeWhole                  // all of it
	placeFlagd                  // $flagd
	placeFlagKey                // $flagd.flagKey
	placeTimestamp              // $flagd.timestamp
	placeNowhere                // another member of $flagd
)

const flagdName, flagKeyName, timestampName = "$flagd", "flagKey", "timestamp"

func newVariable(text string, outer []uint8) *variable {
	v := &variable{path: newPath(text), at: placeNested, outer: outer}
	switch parts := v.path.parts; {
	case len(parts) == 0:
		v.at = placeWhole
	case parts[0].name != flagdName:
		if len(parts) == 1 {
			v.at = placeAttribute
		}
	case len(parts) == 1:
		v.at = placeFlagd
	case len(parts) == 2 && parts[1].name == flagKeyName:
		v.at = placeFlagKey
	case len(parts) == 2 && parts[1].name == timestampName:
		v.at = placeTimestamp
	default:
		v.at = placeNowhere
	}
	return v
}

// longText is the length in bytes from which an attribute costs fuel whenever it
// is read, for what is then done with it.
const longText = 4 << 10

// variable runs var: the first scope where the path leads to something, or
// where the default (args[0], if any) is something.
func (r *run) variable(n *node, s scope) value {
	v := n.variable
	if s == 0 && v.at == placeAttribute { // nearly all there are
		part := &v.path.parts[0]
		found, _ := r.attributes.find(part.hash, part.name)
		if found.isNull() && len(n.args) > 0 {
			return r.value(&n.args[0], s)
		}
		if len(found.str) > longText && !r.spend(len(found.str)/64) {
			return null
		}
		return found
	}
	for _, bodies := range v.outer {
		items := r.stack // a loop in the default would put its own in their place
		found := r.lookup(n, s-scope(bodies))
		r.stack = items
		if !found.isNull() {
			return found
		}
	}
	return r.lookup(n, s)
}

func (r *run) lookup(n *node, s scope) value {
	found := r.load(n.variable, s)
	if found.isNull() && len(n.args) > 0 {
		return r.value(&n.args[0], s)
	}
	if len(found.str) > longText && !r.spend(len(found.str)/64) {
		return null
	}
	return found
}

func (r *run) load(v *variable, s scope) value {
	if s > 0 {
		return v.path.in(r.stack[s-1])
	}
	switch v.at {
	case placeAttribute:
		found, _ := r.attributes.find(v.path.parts[0].hash, v.path.parts[0].name)
		return found
	case placeNested:
		return v.path.in(objectOf(r.attributes))
	case placeFlagKey:
		return textValue(r.flag.key)
	case placeTimestamp:
		return numberValue(float64(r.time))
	case placeFlagd:
		return r.flagd()
	case placeWhole:
		return r.whole()
	default:
		return null
	}
}

func (r *run) flagd() value {
	v, _, _ := objectValue([]field{{flagKeyName, textValue(r.flag.key)}, {timestampName, numberValue(float64(r.time))}})
	return v
}

// whole is the evaluation context as a rule sees it, with $flagd in it.
func (r *run) whole() value {
	size := 0
	if r.attributes != nil {
		size = len(r.attributes.fields)
	}
	if !r.spend(128 + 8*size) { // building it takes that long
		return null
	}
	return r.attributes.with(field{flagdName, r.flagd()})
}

// data is what a scope reads, the whole context at the top.
func (r *run) data(s scope) value {
	if s == 0 {
		return r.whole()
	}
	return r.stack[s-1]
}

// computedVariable runs a var whose path (args[0]) or list of path and default
// is a rule.
func (r *run) computedVariable(n *node, s scope) value {
	for _, bodies := range n.variable.outer {
		items, outer := r.stack, s-scope(bodies) // as in variable
		found := r.computed(r.operandsOfVar(n, outer), outer)
		r.stack = items
		if !found.isNull() {
			return found
		}
	}
	return r.computed(r.operandsOfVar(n, s), s)
}

// operandsOfVar is the operand of var after evaluation: a path, or a list of a
// path and a default.
func (r *run) operandsOfVar(n *node, s scope) value {
	if n.spread {
		return r.value(&n.args[0], s)
	}
	return r.list(n, s)
}

// computed looks up an operand of var that is only now known.
func (r *run) computed(operand value, s scope) value {
	fallback := null
	switch operand.shape() {
	case shapeNull:
		if data := r.data(s); data.shape() == shapeBoolean || data.shape() == shapeNumber || data.shape() == shapeText {
			return data
		}
		return null
	case shapeList:
		items := operand.ref.items
		if len(items) == 0 {
			return r.data(s)
		}
		if len(items) == 2 {
			fallback = items[1]
		}
		operand = items[0]
	default: // a path, or none
	}
	var text string
	switch operand.shape() {
	case shapeText:
		text = operand.str
	case shapeNumber:
		text = printed(operand.num)
	default:
		return fallback
	}
	r.spend(1 + len(text)/16)
	if found := r.load(newVariable(text, nil), s); found.shape() != shapeNull {
		return found
	}
	return fallback
}

// missing yields those of its operands that name nothing.
func (r *run) missing(n *node, s scope) value {
	o := r.operands(n, s)
	absent := make([]value, 0, o.len())
	for i := range o.len() {
		if name := r.operand(&o, i, s); r.absent(name, s) {
			absent = append(absent, name)
		}
	}
	return listValue(absent)
}

// missingSome yields what missing would of its second operand, or an empty list
// when at least as many as the first operand are there.
func (r *run) missingSome(n *node, s scope) value {
	o := r.operands(n, s)
	need, names := toInt(loose(r.operand(&o, 0, s))), r.operand(&o, 1, s)
	if names.shape() != shapeList {
		return listValue(nil)
	}
	absent := make([]value, 0, len(names.ref.items))
	for _, name := range names.ref.items {
		if r.absent(name, s) {
			absent = append(absent, name)
		}
	}
	if need > len(names.ref.items)-len(absent) {
		return listValue(absent)
	}
	return listValue(nil)
}

func (r *run) absent(name value, s scope) bool {
	return r.spend(1) && r.computed(name, s).shape() == shapeNull
}
