package eval

// Explanation is a resolution with the way that led to it.
type Explanation struct {
	Resolution Resolution
	Trace      []Step
}

// Step is one thing that an evaluation looked at: a condition of an if, a
// prerequisite, a split, or what decided the flag without targeting.
type Step struct {
	// Path is the JSON path into the flag's document, such as $.flag.targeting.if[0].
	Path string

	// Text is the condition in words or as compact JSON.
	Text string

	// Seen are the context values that the condition reads, by path as written;
	// absent ones are nil.
	Seen map[string]any

	// Outcome says what came of it: "true", "false", or the variant.
	Outcome string

	// Fractional tells how a split was decided; nil for other steps.
	Fractional *Bucketing
}

// Bucketing is how fractional chose: the hash of a value, scaled to a bucket.
type Bucketing struct {
	Value  string // the bytes hashed
	Hash   uint32 // murmur3_x86_32 of them, seed 0
	Bucket int64  // Hash × Sum / 2^32, rounded down: in [0, Sum)
	Sum    int64  // of the weights
	Ranges []Range
}

// Range is the buckets [From, To) that a variant has.
type Range struct {
	Variant  string // empty stands for null: no match
	From, To int64
}

// Explain evaluates like [Flag.Evaluate] and tells how it came to the resolution.
func (f *Flag) Explain(c *Context, t int64) Explanation {
	return Explanation{Resolution: f.Evaluate(c, t)}
}
