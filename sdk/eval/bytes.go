package eval

// What parts of a compiled flag keep in memory, in bytes, measured on 64 bits;
// see TestFlagBytes.
const (
	flagBytes     = 1100 // without what grows with the definition
	nodeBytes     = 112
	variableBytes = 160
	itemBytes     = 40 // of a list that is searched
	// documentTimes is how often a document's texts are kept: in the row, and as
	// what was read of it.
	documentTimes = 2
	// ruleTimes is how much larger a segment is than its document, read and not
	// compiled.
	ruleTimes = 9
)

// Bytes estimates what the flag keeps in memory if nobody shares it: its
// definition, compiled, and the segments and flags that it reads.
func (f *Flag) Bytes() int {
	n := f.bytes()
	if len(f.links.prerequisites) == 0 {
		return n
	}
	seen := map[*Flag]bool{}
	var add func(flags []*Flag)
	add = func(flags []*Flag) {
		for _, p := range flags {
			if !seen[p] {
				seen[p] = true
				n += p.bytes()
				add(p.links.prerequisites)
			}
		}
	}
	add(f.links.prerequisites)
	return n
}

// bytes is Bytes without the flags that f requires.
func (f *Flag) bytes() int {
	n := flagBytes + documentTimes*len(f.row.Document) + f.program.bytes()
	for _, s := range f.links.segments {
		n += ruleTimes * len(s.row.Document)
	}
	return n
}

func (n *node) bytes() int {
	if n == nil {
		return 0
	}
	size := nodeBytes
	if n.variable != nil {
		size += variableBytes
	}
	if n.set != nil {
		size += itemBytes * (len(n.set.texts) + len(n.set.textSet) + len(n.set.numbers) + len(n.set.ranges))
	}
	for i := range n.args {
		size += n.args[i].bytes()
	}
	return size
}
