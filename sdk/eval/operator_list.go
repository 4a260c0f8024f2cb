package eval

import (
	"slices"
	"strings"
)

// list yields the operands, in order, as one list.
func (r *run) list(n *node, s scope) value {
	if !r.spend(len(n.args)) {
		return null
	}
	items := make([]value, len(n.args))
	for i := range n.args {
		items[i] = r.value(&n.args[i], s)
	}
	return listValue(items)
}

// merge joins lists into one; an operand that is no list counts as a list of it.
func (r *run) merge(n *node, s scope) value {
	o := r.operands(n, s)
	items := make([]value, 0, o.len())
	for i := range o.len() {
		v := r.operand(&o, i, s)
		if v.shape() != shapeList {
			items = append(items, v)
		} else if r.spend(8 * len(v.ref.items)) { // copying is memory to find, too
			items = append(items, v.ref.items...)
		}
	}
	return listValue(items)
}

// subject returns the list that a loop goes through; false means there is none
// that can be gone through.
func (r *run) subject(n *node, s scope) ([]value, bool) {
	v := r.value(&n.args[0], s)
	if v.shape() != shapeList {
		return nil, false
	}
	return v.ref.items, true
}

// mapping yields the body's value for each item.
func (r *run) mapping(n *node, s scope) value {
	items, _ := r.subject(n, s)
	mapped := make([]value, 0, min(len(items), max(r.fuel, 0)))
	for _, item := range items {
		if !r.spend(int(n.cost)) {
			break
		}
		r.stack[s] = item
		mapped = append(mapped, r.value(&n.args[1], s+1))
	}
	return listValue(mapped)
}

// filter yields the items for which the body is true.
func (r *run) filter(n *node, s scope) value {
	items, _ := r.subject(n, s)
	var kept []value
	for _, item := range items {
		if !r.spend(int(n.cost)) {
			break
		}
		r.stack[s] = item
		if r.truth(&n.args[1], s+1) {
			kept = append(kept, item)
		}
	}
	return listValue(kept)
}

// quantify runs all, none and some. Without items all and some are false, none
// is true.
func (r *run) quantify(n *node, s scope) bool {
	items, _ := r.subject(n, s)
	for _, item := range items {
		if !r.spend(int(n.cost)) {
			return false
		}
		r.stack[s] = item
		if r.truth(&n.args[1], s+1) != (n.op == opAll) {
			return n.op == opSome // the item that settles it
		}
	}
	return n.op == opNone || n.op == opAll && len(items) > 0
}

// reduce folds a list: the body sees the item as current and what it yielded
// last as accumulator, which keeps the type (boolean, number, text) that it
// starts with.
func (r *run) reduce(n *node, s scope) value {
	initial := r.value(&n.args[2], s)
	word, ok := accumulatorTypes[initial.shape()]
	if !ok {
		return null
	}
	items, ok := r.subject(n, s)
	if !ok {
		return numberValue(0)
	}
	data, _, _ := objectValue([]field{
		{"accumulator", initial}, {"current", null}, {"valueType", textValue(word)},
	})
	accumulator, current := &data.ref.fields[0].value, &data.ref.fields[1].value
	for _, item := range items {
		if !r.spend(int(n.cost)) {
			break
		}
		if item.shape() == shapeNull {
			continue
		}
		*current, r.stack[s] = item, data
		*accumulator = accumulated(initial.shape(), r.value(&n.args[1], s+1))
	}
	return *accumulator
}

// accumulatorTypes are the types an accumulator can have, as the body can read
// them in valueType.
var accumulatorTypes = map[shape]string{shapeBoolean: "bool", shapeNumber: "number", shapeText: "string"}

func accumulated(as shape, v value) value {
	switch as {
	case shapeBoolean:
		return booleanValue(v.truthy())
	case shapeNumber:
		return numberValue(loose(v))
	default:
		if v.shape() == shapeText {
			return v
		}
		var text textBuffer
		writeText(&text, v) // a list or an object leaves it empty
		return textValue(string(text.bytes()))
	}
}

// in tests for a part of a text or an item of a list.
func (r *run) in(n *node, s scope) bool {
	o := r.operands(n, s)
	v, within := r.operand(&o, 0, s), r.operand(&o, 1, s)
	switch within.shape() {
	case shapeText:
		return v.isText() && strings.Contains(within.str, v.str)
	case shapeList:
		return r.spend(len(within.ref.items)) && slices.ContainsFunc(within.ref.items, func(item value) bool { return matches(v, item) })
	default:
		return false
	}
}

// matches compares v with one item of a list. An item that is itself a list is
// a range, both ends included. A number matches a text that reads as it; nothing
// else is coerced.
func matches(v, item value) bool {
	switch {
	case item.shape() == shapeList:
		ends := item.ref.items
		return len(ends) >= 2 && loose(v) >= loose(ends[0]) && loose(ends[1]) >= loose(v)
	case v.shape() == shapeNumber:
		return loose(item) == v.num
	case v.shape() != item.shape():
		return false
	case v.shape() == shapeText:
		return v.str == item.str
	case v.shape() == shapeBoolean:
		return v.num == item.num
	default:
		return v.shape() == shapeNull
	}
}
