package eval

import "math"

// opcode says what a node does. The zero opcode yields a literal.
type opcode uint8

const (
	opLiteral opcode = iota
	opList           // a list whose items are rules
	opIf
	opAnd
	opOr
	opNot
	opTruth // !!

	opVar
	opComputedVar // the path is a rule
	opMissing
	opMissingSome

	opEqual
	opStrictEqual
	opLess
	opLessOrEqual
	opGreater
	opGreaterOrEqual

	opAdd
	opSubtract
	opMultiply
	opDivide
	opRemainder
	opMax
	opMin

	opCat
	opSubstr
	opStartsWith
	opEndsWith
	opSemVer
	opIn
	opMerge
	opLog

	opMap
	opFilter
	opReduce
	opAll
	opNone
	opSome
	opFractional

	// What the compiler makes of the commonest shapes.
	opVarIsText    // a variable compared with a literal text
	opVarIsNumber  // a variable compared with a literal number
	opVarIsExactly // a variable compared with a literal text by ===
	opInSet        // in with a literal list
	opVersion      // sem_ver with a literal operator and version
	opSplit        // fractional with literal weights
	opWithinPrefix // starts_with of a literal
	opWithinSuffix // ends_with of a literal
)

// node is one operation of a program: a compiled rule. Programs are trees of
// nodes, walked by the methods of run; calls between those are static, which is what
// lets a run live on the stack.
type node struct {
	op opcode

	// spread says that args[0] yields the list of the operands, or one operand.
	spread bool

	// negate inverts the outcome of a comparison: != is == negated.
	negate bool

	// variant is the index that a literal names where it decides the flag.
	variant int32

	// cost is the fuel of one round of a loop: the size of its body.
	cost int32

	// note is an index into the compiler's notes, for Explain; 0 is none.
	note int32

	args     []node
	literal  value
	variable *variable
	set      *set
	split    *split
	version  *version
}

// run is one evaluation of one flag.
type run struct {
	flag       *Flag
	attributes *branch
	time       int64

	// fuel is the work left: roughly the nodes still to visit inside loops, and
	// the texts and lists still to build. A run that is out of fuel matches nothing.
	fuel int

	stack [maxLoops]value
}

// maxWork is the fuel of an evaluation; it bounds one to about a millisecond
// for every definition and context.
const maxWork = 100_000

// spend takes n units of fuel, and is false when there is no more.
func (r *run) spend(n int) bool {
	r.fuel -= n
	return r.fuel >= 0
}

// scope is a place in the bodies of map, filter, reduce, all, none and some: 0
// is outside of them, where var reads the evaluation context; inside the n-th
// it reads stack[n-1].
type scope int

// maxLoops is how deep loops may stand inside one another. It is fixed so that
// the items they are at live inside a run, on the goroutine's stack.
const maxLoops = 4

// decide runs a program to the index of a variant, noMatch or unknownVariant.
func (r *run) decide(n *node) int32 {
	outcome := r.outcome(n)
	if r.fuel < 0 {
		return noMatch
	}
	return outcome
}

func (r *run) outcome(n *node) int32 {
	for {
		switch n.op {
		case opLiteral:
			return n.variant
		case opIf:
			if n = r.branch(n, 0); n == nil {
				return noMatch
			}
		case opSplit:
			if share := r.share(n, 0); share != nil {
				return share.variant
			}
			return noMatch
		default:
			return r.flag.named(r.value(n, 0))
		}
	}
}

// branch returns the branch of an if that its conditions choose, nil for none.
func (r *run) branch(n *node, s scope) *node {
	last := len(n.args) - 1
	for i := 0; i < last; i += 2 {
		if r.truth(&n.args[i], s) {
			return &n.args[i+1]
		}
	}
	if last%2 == 0 {
		return &n.args[last]
	}
	return nil
}

// truth runs a node for its truthiness alone.
func (r *run) truth(n *node, s scope) bool {
	switch n.op {
	case opVarIsText:
		v := r.variable(n, s)
		if v.isText() {
			return (v.str == n.literal.str) != n.negate
		}
		return equal(v, n.literal) != n.negate
	case opVarIsNumber:
		v := r.variable(n, s)
		if v.isNumber() {
			return (v.num == n.literal.num) != n.negate
		}
		return equal(v, n.literal) != n.negate
	case opVarIsExactly:
		v := r.variable(n, s)
		return (v.isText() && v.str == n.literal.str) != n.negate
	case opInSet:
		return n.set.has(r.value(&n.args[0], s))
	case opAnd:
		for i := range n.args {
			if !r.truth(&n.args[i], s) {
				return false
			}
		}
		return len(n.args) > 0
	case opOr:
		for i := range n.args {
			if r.truth(&n.args[i], s) {
				return true
			}
		}
		return false
	case opNot:
		return !r.truthOfFirst(n, s)
	case opTruth:
		return r.truthOfFirst(n, s)
	case opEqual, opStrictEqual, opLess, opLessOrEqual, opGreater, opGreaterOrEqual:
		return r.compare(n, s)
	case opIn:
		return r.in(n, s)
	case opAll, opNone, opSome:
		return r.quantify(n, s)
	default:
		return r.value(n, s).truthy()
	}
}

// value runs a node for its value.
func (r *run) value(n *node, s scope) value {
	switch n.op {
	case opLiteral:
		return n.literal
	case opVar:
		return r.variable(n, s)
	case opComputedVar:
		return r.computedVariable(n, s)
	case opIf:
		if chosen := r.branch(n, s); chosen != nil {
			return r.value(chosen, s)
		}
		return null
	case opAnd, opOr:
		return r.connect(n, s)
	case opVarIsText, opVarIsNumber, opVarIsExactly, opInSet, opNot, opTruth, opEqual, opStrictEqual, opLess, opLessOrEqual,
		opGreater, opGreaterOrEqual, opIn, opAll, opNone, opSome:
		return booleanValue(r.truth(n, s))
	case opAdd, opSubtract, opMultiply, opDivide, opRemainder, opMax, opMin:
		return r.arithmetic(n, s)
	case opCat:
		return r.cat(n, s)
	case opSubstr:
		return r.substr(n, s)
	case opStartsWith, opEndsWith, opWithinPrefix, opWithinSuffix:
		return r.affix(n, s)
	case opSemVer, opVersion:
		return r.semVer(n, s)
	case opFractional, opSplit:
		if share := r.share(n, s); share != nil {
			return share.variantValue
		}
		return null
	case opLog:
		return r.first(n, s)
	default:
		return r.listing(n, s)
	}
}

// listing runs the operators that make lists or go through them.
func (r *run) listing(n *node, s scope) value {
	switch n.op {
	case opList:
		return r.list(n, s)
	case opMerge:
		return r.merge(n, s)
	case opMissing:
		return r.missing(n, s)
	case opMissingSome:
		return r.missingSome(n, s)
	case opMap:
		return r.mapping(n, s)
	case opFilter:
		return r.filter(n, s)
	case opReduce:
		return r.reduce(n, s)
	default:
		return null
	}
}

// operands are the operands of an operator, evaluated as they are asked for.
type operands struct {
	nodes []node
	items []value // instead of nodes, when a rule yields the operands
}

func (r *run) operands(n *node, s scope) operands {
	if !n.spread {
		return operands{nodes: n.args}
	}
	v := r.value(&n.args[0], s)
	if v.shape() == shapeList {
		return operands{items: v.ref.items}
	}
	return operands{items: []value{v}}
}

func (o *operands) len() int { return len(o.nodes) + len(o.items) }

// operand returns the i-th operand; null when there are fewer.
func (r *run) operand(o *operands, i int, s scope) value {
	switch {
	case i < len(o.nodes):
		return r.value(&o.nodes[i], s)
	case i < len(o.items):
		return o.items[i]
	default:
		return null
	}
}

func (r *run) first(n *node, s scope) value {
	o := r.operands(n, s)
	return r.operand(&o, 0, s)
}

// named returns the variant that the outcome of a rule names: a text as it is,
// a boolean or a number as JSON prints it, null as no match. Lists and objects
// name none.
func (f *Flag) named(v value) int32 {
	switch v.shape() {
	case shapeNull:
		return noMatch
	case shapeText:
		return f.variantNamed(v.str)
	case shapeBoolean:
		if v.num != 0 {
			return f.variantNamed("true")
		}
		return f.variantNamed("false")
	case shapeNumber:
		if v.num-v.num != 0 { // NaN and the infinities, null in JSON
			return noMatch
		}
		if v.num == 0 && math.Signbit(v.num) {
			return f.variantNamed("-0") // as flagd prints it, though JSON's canonical form does not
		}
		var printed [32]byte
		return f.variantNamed(string(appendNumber(printed[:0], v.num)))
	default:
		return unknownVariant
	}
}

func (f *Flag) variantNamed(name string) int32 {
	if i := variantIndex(f.variants, name); i >= 0 {
		return i
	}
	return unknownVariant
}
