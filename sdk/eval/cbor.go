package eval

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// appendCBOR appends the core deterministic encoding of RFC 8949 §4.2.1, which
// fractional v3 hashes. Whole numbers of the 64-bit range are integers, others the shortest
// float that is exact.
func appendCBOR(dst []byte, v value) []byte {
	switch v.shape {
	case shapeBoolean:
		if v.num != 0 {
			return append(dst, 0xf5)
		}
		return append(dst, 0xf4)
	case shapeNumber:
		return appendCBORNumber(dst, v.num)
	case shapeText:
		return append(appendCBORHead(dst, 3, uint64(len(v.str))), v.str...)
	case shapeList:
		dst = appendCBORHead(dst, 4, uint64(len(v.ref.items)))
		for _, item := range v.ref.items {
			dst = appendCBOR(dst, item)
		}
		return dst
	case shapeObject:
		members := make([][2][]byte, len(v.ref.fields))
		for i, f := range v.ref.fields {
			members[i] = [2][]byte{appendCBOR(nil, textValue(f.key)), appendCBOR(nil, f.value)}
		}
		slices.SortFunc(members, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
		dst = appendCBORHead(dst, 5, uint64(len(members)))
		for _, m := range members {
			dst = append(append(dst, m[0]...), m[1]...)
		}
		return dst
	default:
		return append(dst, 0xf6)
	}
}

// appendCBORHead appends a major type and its argument in the fewest bytes.
func appendCBORHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, major|27), n)
	}
}

func appendCBORNumber(dst []byte, f float64) []byte {
	const limit = 1 << 63
	switch {
	case f == math.Trunc(f) && f >= 0 && f < 2*limit:
		return appendCBORHead(dst, 0, uint64(f))
	case f == math.Trunc(f) && f < 0 && f >= -limit:
		return appendCBORHead(dst, 1, uint64(-1-int64(f)))
	}
	if f32 := float32(f); float64(f32) == f || f != f {
		if half, ok := halfFloat(f32); ok {
			return binary.BigEndian.AppendUint16(append(dst, 0xf9), half)
		}
		return binary.BigEndian.AppendUint32(append(dst, 0xfa), math.Float32bits(f32))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xfb), math.Float64bits(f))
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
