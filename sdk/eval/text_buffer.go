package eval

import "bytes"

// textBuffer joins texts without allocating while they are short. It is filled
// by methods rather than passed as a slice and returned, because what a
// recursive function returns cannot stay on the stack.
type textBuffer struct {
	short [128]byte
	used  int
	long  []byte // everything, once it does not fit short
}

func (b *textBuffer) write(s string) {
	if b.long == nil && len(s) <= len(b.short)-b.used {
		b.used += copy(b.short[b.used:], s)
		return
	}
	if b.long == nil {
		b.long = append(make([]byte, 0, 2*len(b.short)+len(s)), b.short[:b.used]...)
	}
	b.long = append(b.long, s...)
}

func (b *textBuffer) bytes() []byte {
	if b.long != nil {
		return b.long
	}
	return b.short[:b.used]
}

func (b *textBuffer) len() int { return len(b.bytes()) }

// trim cuts off the space on both sides.
func (b *textBuffer) trim() {
	all := b.bytes()
	n := copy(all, bytes.TrimSpace(all))
	if b.long != nil {
		b.long = b.long[:n]
	} else {
		b.used = n
	}
}
