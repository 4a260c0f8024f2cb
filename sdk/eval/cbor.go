package eval

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// The major types of RFC 8949.
const (
	cborUnsigned byte = iota << 5
	cborNegative
	_
	cborText
	cborList
	cborObject
	_
	cborSimple
)

// writeCBOR writes the core deterministic encoding of RFC 8949 §4.2.1, which
// fractional v3 hashes. Whole numbers of the 64-bit range are integers, others
// the shortest float that is exact.
func (b *textBuffer) writeCBOR(v value) {
	switch v.shape() {
	case shapeNull:
		b.write("\xf6")
	case shapeBoolean:
		if v.num != 0 {
			b.write("\xf5")
		} else {
			b.write("\xf4")
		}
	case shapeNumber:
		b.writeCBORNumber(v.num)
	case shapeText:
		b.writeCBORHead(cborText, uint64(len(v.str)))
		b.write(v.str)
	case shapeList:
		b.writeCBORHead(cborList, uint64(len(v.ref.items)))
		for _, item := range v.ref.items {
			b.writeCBOR(item)
		}
	case shapeObject:
		// Sorted by encoding means by length first, since that leads the encoding.
		fields := slices.Clone(v.ref.fields)
		slices.SortFunc(fields, func(x, y field) int {
			return cmp.Or(cmp.Compare(len(x.key), len(y.key)), cmp.Compare(x.key, y.key))
		})
		b.writeCBORHead(cborObject, uint64(len(fields)))
		for _, f := range fields {
			b.writeCBOR(textValue(f.key))
			b.writeCBOR(f.value)
		}
	}
}

// writeCBORHead writes a major type and its argument in the fewest bytes.
func (b *textBuffer) writeCBORHead(major byte, n uint64) {
	switch {
	case n < 24:
		b.writeUint(major|byte(n), 0, 0)
	case n <= math.MaxUint8:
		b.writeUint(major|24, n, 1)
	case n <= math.MaxUint16:
		b.writeUint(major|25, n, 2)
	case n <= math.MaxUint32:
		b.writeUint(major|26, n, 4)
	default:
		b.writeUint(major|27, n, 8)
	}
}

// writeUint writes a first byte and the last size bytes of n, big-endian.
func (b *textBuffer) writeUint(first byte, n uint64, size int) {
	var bytes [9]byte
	binary.BigEndian.PutUint64(bytes[1:], n)
	bytes[8-size] = first
	b.write(string(bytes[8-size:]))
}

func (b *textBuffer) writeCBORNumber(f float64) {
	const limit = 1 << 63
	switch {
	case f == math.Trunc(f) && f >= 0 && f < 2*limit:
		b.writeCBORHead(cborUnsigned, uint64(f))
		return
	case f == math.Trunc(f) && f < 0 && f >= -limit:
		b.writeCBORHead(cborNegative, uint64(-1-int64(f)))
		return
	}
	f32 := float32(f)
	half, exact := halfFloat(f32)
	switch {
	case math.IsNaN(f) || float64(f32) == f && exact:
		b.writeUint(cborSimple|25, uint64(half), 2)
	case float64(f32) == f:
		b.writeUint(cborSimple|26, uint64(math.Float32bits(f32)), 4)
	default:
		b.writeUint(cborSimple|27, math.Float64bits(f), 8)
	}
}

// halfFloat converts to IEEE 754 binary16; false when that loses anything. Every
// NaN is the canonical one.
func halfFloat(f float32) (half uint16, exact bool) {
	bits := math.Float32bits(f)
	sign, exponent, fraction := uint16(bits>>16&0x8000), int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case exponent == 128 && fraction != 0:
		return 0x7e00, true
	case exponent == 128:
		return sign | 0x7c00, true
	case exponent >= -14 && exponent <= 15 && fraction&0x1fff == 0:
		return sign | uint16(exponent+15)<<10 | uint16(fraction>>13), true
	case exponent >= -24 && exponent < -14: // subnormal in 16 bits
		shift := uint(-exponent - 1) // 14 … 23 bits of the 24-bit significand go
		significand := fraction | 0x800000
		if significand&(1<<shift-1) == 0 {
			return sign | uint16(significand>>shift), true
		}
	}
	return 0, false
}
