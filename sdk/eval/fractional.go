package eval

import (
	"math"

	"github.com/twmb/murmur3"
)

// maxWeight bounds each weight of fractional and their sum.
const maxWeight = math.MaxInt32

// split is a fractional whose shares are literal.
type split struct {
	shares []share
	sum    int64
}

// share is what falls to one variant: the buckets below end that the shares
// before it leave.
type share struct {
	variantValue value
	variant      int32 // variantValue as a variant of the flag
	end          int64
}

// add appends the share that [name, weight] describes. It is false when it is no
// share: fractional then yields null.
func (s *split) add(f *Flag, described value) bool {
	if described.shape() != shapeList || len(described.ref.items) == 0 {
		return false
	}
	name, weight := described.ref.items[0], 1.0
	if name.shape() == shapeList || name.shape() == shapeObject {
		return false
	}
	if len(described.ref.items) > 1 {
		switch w := described.ref.items[1]; w.shape() {
		case shapeNumber:
			weight = w.num
		case shapeNull:
		default:
			return false
		}
	}
	if weight != math.Trunc(weight) || weight > maxWeight {
		return false
	}
	s.sum += int64(max(weight, 0))
	s.shares = append(s.shares, share{name, f.named(name), s.sum})
	return s.sum <= maxWeight
}

// share runs fractional; nil means no match.
func (r *run) share(n *node, s scope) *share {
	var key textBuffer
	sp := r.bucketing(&key, n, s)
	if sp == nil || sp.sum == 0 {
		return nil
	}
	bucket := bucketOfHash(murmur3.Sum32(key.bytes()), sp.sum)
	for i := range sp.shares {
		if bucket < sp.shares[i].end {
			return &sp.shares[i]
		}
	}
	return nil
}

// bucketOfHash scales a hash to [0, sum).
func bucketOfHash(hash uint32, sum int64) int64 {
	return int64(uint64(hash) * uint64(sum) >> 32)
}

// bucketing writes the bytes to hash and returns the shares; nil means null.
func (r *run) bucketing(key *textBuffer, n *node, s scope) *split {
	if s > 0 && r.stack[s-1].shape() != shapeObject {
		return nil // flagd looks for the flag key in what the body sees
	}
	if n.op == opFractional {
		return r.computedSplit(key, n, s)
	}
	if len(n.args) == 0 {
		if !r.writeDefaultKey(key, s) {
			return nil
		}
		return n.split
	}
	if by := &n.args[0]; by.op == opCat && !r.flag.cbor {
		if o := r.operands(by, s); r.join(key, &o, s) {
			return n.split
		}
		*key = textBuffer{}
	}
	first := r.value(&n.args[0], s)
	switch {
	case first.shape() == shapeList && n.args[0].fromContext(), !r.writeKey(key, first, s):
		return nil
	case first.shape() == shapeList:
		return n.split.after(r.flag, first)
	default:
		return n.split
	}
}

// computedSplit is bucketing when a share or the list of them is a rule.
func (r *run) computedSplit(key *textBuffer, n *node, s scope) *split {
	o := r.operands(n, s)
	first := r.operand(&o, 0, s)
	if first.shape() == shapeList && n.args[0].fromContext() || !r.writeKey(key, first, s) {
		return nil
	}
	sp, from := &split{}, 1
	if first.shape() == shapeList {
		from = 0
	}
	for i := from; i < o.len(); i++ {
		if !r.spend(1) || !sp.add(r.flag, r.operand(&o, i, s)) {
			return nil
		}
	}
	return sp
}

// fromContext tells whether a node yields a value of the evaluation context as
// it is. A list from there is not taken for a share: data does not name variants.
func (n *node) fromContext() bool { return n.op == opVar || n.op == opComputedVar }

// after returns the split with one more share before its own, nil if it is none.
func (s *split) after(f *Flag, described value) *split {
	longer := &split{}
	if !longer.add(f, described) || longer.sum+s.sum > maxWeight {
		return nil
	}
	for _, own := range s.shares {
		own.end += longer.sum
		longer.shares = append(longer.shares, own)
	}
	longer.sum += s.sum
	return longer
}

// writeKey writes the bytes that v2 or v3 hash for an explicit first operand, or
// for a first operand that stands for the default: a list, which is a share
// already, and in v2 null. It is false where fractional yields null.
func (r *run) writeKey(key *textBuffer, first value, s scope) bool {
	switch {
	case first.shape() == shapeList, first.shape() == shapeNull && !r.flag.cbor:
		return r.writeDefaultKey(key, s)
	case first.shape() == shapeNull:
		return false
	case r.flag.cbor:
		key.writeCBOR(first)
		return true
	default:
		key.write(first.str)
		return first.shape() == shapeText
	}
}

// writeDefaultKey writes flag key and targeting key; false when there is no
// targeting key.
func (r *run) writeDefaultKey(key *textBuffer, s scope) bool {
	flagKey, from := r.flag.key, r.attributes
	if s > 0 {
		item := r.stack[s-1]
		flagKey, from = item.field(flagdName).field(flagKeyName).str, item.ref
	}
	targetingKey, _ := from.find(targetingKeyHash, targetingKeyName)
	if targetingKey.shape() != shapeText {
		return false
	}
	if r.flag.cbor {
		key.write("\x82") // a list of two
		key.writeCBOR(textValue(flagKey))
		key.writeCBOR(targetingKey)
		return true
	}
	key.write(flagKey)
	key.write(targetingKey.str)
	return targetingKey.str != ""
}
