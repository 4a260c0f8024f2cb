package eval

// The bounds of what the root of a request decides for all that come after it.
// The decisions travel in a header, which must not grow without end.
const (
	// MaxRootDecisions is how many flags of an environment a root may decide.
	MaxRootDecisions = 24
	// MaxRootDecisionBytes is how long their decisions may be, together and in
	// the worst case.
	MaxRootDecisionBytes = 1024
)

// RootDecided tells whether the root of a request decides the flag, and its
// variant travels: it is of scope request, and reads something that does not
// travel or is to be read by services without an evaluator ([Flag.Attach]).
func (f *Flag) RootDecided() bool {
	return f.attributes.scope == "request" && !f.attributes.archived && f.err == nil && (len(f.notTravelling) > 0 || f.attributes.attach)
}

// RootDecisionBytes is how long the decision on the flag is in the header, with
// its longest variant.
func (f *Flag) RootDecisionBytes() int {
	longest := 0
	for _, v := range f.variants {
		longest = max(longest, len(v.name))
	}
	return RootDecisionBytes(f.key, longest)
}

// RootDecisionBytes is how long a decision is in the header: the flag, a colon,
// the variant, its mark and the space before the next.
func RootDecisionBytes(flag string, variantBytes int) int {
	return len(flag) + len(":") + variantBytes + len("^ ")
}

// RootDecisions returns the flags that a root decides, sorted by key, and how
// long their decisions are in the worst case. [MaxRootDecisions] and
// [MaxRootDecisionBytes] bound them.
func (s *Snapshot) RootDecisions() (flags []*Flag, bytes int) {
	for _, f := range s.order {
		if f.RootDecided() {
			flags = append(flags, f)
			bytes += f.RootDecisionBytes()
		}
	}
	return flags, bytes
}
