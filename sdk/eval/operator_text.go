package eval

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText bounds the texts that a rule can build, in bytes.
const maxText = 64 << 10

// cat joins its operands as texts. As in flagd, the space around a text joined
// from several is cut off.
func (r *run) cat(n *node, s scope) value {
	o := r.operands(n, s)
	if o.len() == 1 {
		if v := r.operand(&o, 0, s); v.shape() == shapeText {
			return v
		}
	}
	var joined textBuffer
	if !r.join(&joined, &o, s) {
		return null
	}
	return textValue(string(joined.bytes()))
}

// join writes what cat yields of the operands. It is false where cat yields null.
func (r *run) join(dst *textBuffer, o *operands, s scope) bool {
	for i := range o.len() {
		if !writeText(dst, r.operand(o, i, s)) || dst.len() > maxText {
			return false
		}
	}
	r.spend(dst.len() / 8) // it is copied more than once
	if o.len() > 1 {
		dst.trim()
	}
	return true
}

// writeText writes a value as cat prints it. Null is empty; lists and objects
// have no text.
func writeText(dst *textBuffer, v value) bool {
	switch v.shape() {
	case shapeNull:
	case shapeBoolean:
		dst.write(strconv.FormatBool(v.num != 0))
	case shapeNumber:
		var digits [32]byte
		dst.write(string(strconv.AppendFloat(digits[:0], v.num, 'f', -1, 64)))
	case shapeText:
		dst.write(v.str)
	default:
		return false
	}
	return true
}

// printed is a number as cat and var print it.
func printed(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// substr cuts by characters. A negative start counts from the end; a negative
// length leaves that many off the end; a start outside the text leaves all of it.
func (r *run) substr(n *node, s scope) value {
	o := r.operands(n, s)
	if o.len() < 2 {
		return null
	}
	source, start := r.operand(&o, 0, s), r.operand(&o, 1, s)
	if start.shape() != shapeNumber && start.shape() != shapeText {
		return null
	}
	text := source.str
	if source.shape() != shapeText {
		var printed textBuffer
		if !writeText(&printed, source) {
			return null
		}
		text = string(printed.bytes())
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
		if length.shape() != shapeNumber && length.shape() != shapeText {
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
func (r *run) affix(n *node, s scope) value {
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
	if v.shape() != shapeText || affix.shape() != shapeText {
		return null
	}
	if n.op == opStartsWith || n.op == opWithinPrefix {
		return booleanValue(strings.HasPrefix(v.str, affix.str))
	}
	return booleanValue(strings.HasSuffix(v.str, affix.str))
}
