package eval

// connect yields the operand that settles an and or an or, as JavaScript's && and
// || do: the first falsy one of and, the first truthy one of or, else the last.
func (r *run) connect(n *node, s scope) value {
	last := null
	for i := range n.args {
		if last = r.value(&n.args[i], s); last.truthy() == (n.op == opOr) {
			break
		}
	}
	return last
}

// truthOfFirst is what ! negates: the first operand, or an empty list of them,
// which is false.
func (r *run) truthOfFirst(n *node, s scope) bool {
	if len(n.args) == 1 && !n.spread {
		return r.truth(&n.args[0], s)
	}
	return r.first(n, s).truthy()
}
