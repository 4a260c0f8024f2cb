package eval

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText bounds the texts that a rule can build, in bytes.
const maxText = 64 << 10

// cat joins its operands as texts. As in flagd, the space around a text joined
// from several is cut off.
func (r *run) cat(n *node, s *scope) value {
	o := r.operands(n, s)
	if o.len() == 1 {
		if v := r.operand(&o, 0, s); v.shape == shapeText {
			return v
		}
	}
	var buffer [128]byte
	joined, ok := r.appendJoined(buffer[:0], &o, s)
	if !ok {
		return null
	}
	return textValue(string(joined))
}

// appendJoined appends what cat yields of the operands to dst, so that a
// bucketing value can be joined without allocating. It is false where cat yields null.
func (r *run) appendJoined(dst []byte, o *operands, s *scope) ([]byte, bool) {
	start := len(dst)
	for i := range o.len() {
		ok := false
		if dst, ok = appendText(dst, r.operand(o, i, s)); !ok || len(dst)-start > maxText {
			return dst[:start], false
		}
	}
	r.spend((len(dst) - start) / 64)
	if o.len() > 1 {
		return append(dst[:start], bytes.TrimSpace(dst[start:])...), true
	}
	return dst, true
}

// appendText appends a value as cat prints it. Null is empty; lists and objects
// have no text.
func appendText(dst []byte, v value) ([]byte, bool) {
	switch v.shape {
	case shapeNull:
		return dst, true
	case shapeBoolean:
		return strconv.AppendBool(dst, v.num != 0), true
	case shapeNumber:
		return strconv.AppendFloat(dst, v.num, 'f', -1, 64), true
	case shapeText:
		return append(dst, v.str...), true
	default:
		return dst, false
	}
}

// printed is a number as cat and var print it.
func printed(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// substr cuts by characters. A negative start counts from the end; a negative
// length leaves that many off the end; a start outside the text leaves all of it.
func (r *run) substr(n *node, s *scope) value {
	o := r.operands(n, s)
	if o.len() < 2 {
		return null
	}
	source, start := r.operand(&o, 0, s), r.operand(&o, 1, s)
	if start.shape != shapeNumber && start.shape != shapeText {
		return null
	}
	text := source.str
	if source.shape != shapeText {
		printed, ok := appendText(nil, source)
		if !ok {
			return null
		}
		text = string(printed)
	}
	r.spend(len(text) / 64)
	count := utf8.RuneCountInString(text)
	from, to := toInt(loose(start)), count
	if from < 0 {
		from += count
	}
	if from < 0 || from > count {
		return textValue(text)
	}
	if o.len() == 3 {
		length := r.operand(&o, 2, s)
		if length.shape != shapeNumber && length.shape != shapeText {
			return null
		}
		if to = toInt(loose(length)); to < 0 {
			to += count
		} else {
			to += from
		}
	}
	to = min(to, count)
	if to < from {
		return textValue("")
	}
	start0 := runeOffset(text, 0, from)
	return textValue(text[start0:runeOffset(text, start0, to-from)])
}

// runeOffset returns the offset of the n-th rune after the given offset.
func runeOffset(s string, offset, n int) int {
	for ; n > 0; n-- {
		_, size := utf8.DecodeRuneInString(s[offset:])
		offset += size
	}
	return offset
}

// affix runs starts_with and ends_with: null unless both operands are texts.
func (r *run) affix(n *node, s *scope) value {
	var v, affix value
	switch n.op {
	case opWithinPrefix, opWithinSuffix:
		v, affix = r.value(&n.args[0], s), n.literal
	default:
		o := r.operands(n, s)
		if o.len() != 2 {
			return null
		}
		v, affix = r.operand(&o, 0, s), r.operand(&o, 1, s)
	}
	if v.shape != shapeText || affix.shape != shapeText {
		return null
	}
	if n.op == opStartsWith || n.op == opWithinPrefix {
		return booleanValue(strings.HasPrefix(v.str, affix.str))
	}
	return booleanValue(strings.HasSuffix(v.str, affix.str))
}
