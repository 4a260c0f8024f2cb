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
	if described.shape != shapeList || len(described.ref.items) == 0 {
		return false
	}
	name, weight := described.ref.items[0], 1.0
	if name.shape == shapeList || name.shape == shapeObject {
		return false
	}
	if len(described.ref.items) > 1 {
		switch w := described.ref.items[1]; w.shape {
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

// share runs fractional; false means no match.
func (r *run) share(n *node, s *scope) (share, bool) {
	var buffer [128]byte
	key, sp, ok := r.bucketing(buffer[:0], n, s)
	if !ok || sp.sum == 0 {
		return share{}, false
	}
	bucket := bucketOfHash(murmur3.Sum32(key), sp.sum)
	for i := range sp.shares {
		if bucket < sp.shares[i].end {
			return sp.shares[i], true
		}
	}
	return share{}, false
}

// bucketOfHash scales a hash to [0, sum).
func bucketOfHash(hash uint32, sum int64) int64 {
	return int64(uint64(hash) * uint64(sum) >> 32)
}

// bucketing returns the bytes to hash, appended to dst, and the shares.
func (r *run) bucketing(dst []byte, n *node, s *scope) ([]byte, *split, bool) {
	if s != nil && s.data.shape != shapeObject {
		return dst, nil, false // flagd looks for the flag key in what the body sees
	}
	if n.op == opFractional {
		return r.computedSplit(dst, n, s)
	}
	if len(n.args) == 0 {
		dst, ok := r.appendDefaultKey(dst, s)
		return dst, n.split, ok
	}
	if by := &n.args[0]; by.op == opCat && !r.flag.cbor {
		o := r.operands(by, s)
		if joined, ok := r.appendJoined(dst, &o, s); ok {
			return joined, n.split, true
		}
	}
	first := r.value(&n.args[0], s)
	dst, ok := r.appendKey(dst, first, s)
	if ok && first.shape == shapeList {
		return dst, n.split.after(r.flag, first), true
	}
	return dst, n.split, ok
}

// computedSplit is bucketing when a share or the list of them is a rule.
func (r *run) computedSplit(dst []byte, n *node, s *scope) ([]byte, *split, bool) {
	o := r.operands(n, s)
	first := r.operand(&o, 0, s)
	dst, ok := r.appendKey(dst, first, s)
	if !ok {
		return dst, nil, false
	}
	sp, from := &split{}, 1
	if first.shape == shapeList {
		from = 0
	}
	for i := from; i < o.len(); i++ {
		if !r.spend(1) || !sp.add(r.flag, r.operand(&o, i, s)) {
			return dst, nil, false
		}
	}
	return dst, sp, true
}

// after returns the split with one more share before its own. One that is no
// share makes it empty.
func (s *split) after(f *Flag, described value) *split {
	longer := &split{}
	if !longer.add(f, described) || longer.sum+s.sum > maxWeight {
		return &split{}
	}
	offset := longer.sum
	for _, own := range s.shares {
		own.end += offset
		longer.shares = append(longer.shares, own)
	}
	longer.sum += s.sum
	return longer
}

// appendKey appends the bytes that v2 or v3 hash for an explicit first operand,
// or for a first operand that stands for the default: a list, which is
// a share already, and in v2 null.
func (r *run) appendKey(dst []byte, first value, s *scope) ([]byte, bool) {
	switch {
	case first.shape == shapeList, first.shape == shapeNull && !r.flag.cbor:
		return r.appendDefaultKey(dst, s)
	case first.shape == shapeNull:
		return dst, false
	case r.flag.cbor:
		return appendCBOR(dst, first), true
	case first.shape == shapeText:
		return append(dst, first.str...), true
	default:
		return dst, false
	}
}

// appendDefaultKey appends flag key and targeting key; false when there is no
// targeting key.
func (r *run) appendDefaultKey(dst []byte, s *scope) ([]byte, bool) {
	flagKey, from := r.flag.key, r.attributes
	if s != nil {
		flagKey, from = s.data.field(flagdName).field(flagKeyName).str, s.data.ref
	}
	key, _ := from.find(targetingKeyHash, targetingKeyName)
	if key.shape != shapeText {
		return dst, false
	}
	if r.flag.cbor {
		dst = append(dst, 0x82) // a list of two
		return appendCBOR(appendCBOR(dst, textValue(flagKey)), key), true
	}
	return append(append(dst, flagKey...), key.str...), key.str != ""
}
