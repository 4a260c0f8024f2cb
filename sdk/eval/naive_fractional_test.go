package eval_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// fractional gets the operands evaluated, and as written to tell a list of the
// context, which is no share, from a share.
func (n naive) fractional(args []any, written, data any) any {
	object, ok := data.(map[string]any)
	if !ok || len(args) == 0 {
		return nil
	}
	_, shared := args[0].([]any)
	if list, ok := written.([]any); shared && ok {
		if rule, ok := list[0].(map[string]any); ok && rule["var"] != nil {
			return nil
		}
		if _, ok := list[0].(known); ok {
			return nil
		}
	}
	flagd, _ := object["$flagd"].(map[string]any)
	flagKey, _ := flagd["flagKey"].(string)
	targetingKey, keyed := object["targetingKey"].(string)
	var hashed []byte
	switch first := args[0].(type) {
	case []any:
		if !keyed || targetingKey == "" && !n.v3 {
			return nil
		}
		hashed = []byte(flagKey + targetingKey)
		if n.v3 {
			hashed = cbor([]any{flagKey, targetingKey})
		}
	case nil:
		if n.v3 || !keyed || targetingKey == "" {
			return nil
		}
		hashed, args = []byte(flagKey+targetingKey), args[1:]
	case string:
		hashed, args = []byte(first), args[1:]
		if n.v3 {
			hashed = cbor(first)
		}
	default:
		if !n.v3 {
			return nil
		}
		hashed, args = cbor(first), args[1:]
	}
	return naiveBucket(hashed, args)
}

func naiveBucket(hashed []byte, shares []any) any {
	var sum float64
	weights := make([]float64, len(shares))
	for i, share := range shares {
		pair, ok := share.([]any)
		if !ok || len(pair) == 0 {
			return nil
		}
		switch pair[0].(type) {
		case []any, map[string]any:
			return nil
		}
		weights[i] = 1
		if len(pair) > 1 && pair[1] != nil {
			w, ok := pair[1].(float64)
			if !ok || w != math.Trunc(w) || w > math.MaxInt32 {
				return nil
			}
			weights[i] = math.Max(w, 0)
		}
		sum += weights[i]
	}
	if sum > math.MaxInt32 || sum == 0 {
		return nil
	}
	bucket := float64((uint64(murmur(hashed)) * uint64(sum)) >> 32)
	end := 0.0
	for i, share := range shares {
		if end += weights[i]; bucket < end {
			return share.([]any)[0]
		}
	}
	return nil
}

// murmur is murmur3_x86_32 with seed 0, from the description of the algorithm.
func murmur(data []byte) uint32 {
	rotate := func(x uint32, by int) uint32 { return x<<by | x>>(32-by) }
	scramble := func(k uint32) uint32 { return rotate(k*0xcc9e2d51, 15) * 0x1b873593 }
	h, length := uint32(0), uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		h = rotate(h^scramble(binary.LittleEndian.Uint32(data)), 13)*5 + 0xe6546b64
	}
	tail := [4]byte{}
	copy(tail[:], data)
	h ^= scramble(binary.LittleEndian.Uint32(tail[:]))
	h ^= length
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// cbor is RFC 8949 §4.2.1 by way of trying every width.
func cbor(v any) []byte {
	head := func(major byte, n uint64) []byte {
		switch {
		case n < 24:
			return []byte{major<<5 | byte(n)}
		case n < 1<<8:
			return []byte{major<<5 | 24, byte(n)}
		case n < 1<<16:
			return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
		case n < 1<<32:
			return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
		}
		return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n)
	}
	switch v := v.(type) {
	case bool:
		if v {
			return []byte{0xf5}
		}
		return []byte{0xf4}
	case string:
		return append(head(3, uint64(len(v))), v...)
	case []any:
		out := head(4, uint64(len(v)))
		for _, item := range v {
			out = append(out, cbor(item)...)
		}
		return out
	case map[string]any:
		var members [][]byte
		sizes := map[string]int{}
		for key, member := range v {
			k := cbor(key)
			members = append(members, append(k, cbor(member)...))
			sizes[string(members[len(members)-1])] = len(k)
		}
		slices.SortFunc(members, func(a, b []byte) int { return bytes.Compare(a[:sizes[string(a)]], b[:sizes[string(b)]]) })
		return append(head(5, uint64(len(v))), bytes.Join(members, nil)...)
	case float64:
		switch {
		case v == math.Trunc(v) && v >= 0 && v < math.Exp2(64):
			return head(0, uint64(v))
		case v == math.Trunc(v) && v < 0 && v >= -math.Exp2(63):
			return head(1, uint64(-(int64(v) + 1)))
		case math.IsNaN(v):
			return []byte{0xf9, 0x7e, 0}
		}
		for half := range 1 << 16 { // the only honest way to know
			if fromHalf(uint16(half)) == v {
				return binary.BigEndian.AppendUint16([]byte{0xf9}, uint16(half))
			}
		}
		if float64(float32(v)) == v {
			return binary.BigEndian.AppendUint32([]byte{0xfa}, math.Float32bits(float32(v)))
		}
		return binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(v))
	}
	return []byte{0xf6}
}

func fromHalf(h uint16) float64 {
	sign, exponent, fraction := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}
