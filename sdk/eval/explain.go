package eval

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/murmur3"
)

// Explanation is a resolution with the way that led to it.
type Explanation struct {
	Resolution Resolution
	Trace      []Step
}

// Step is one thing that an evaluation looked at: a condition of an if, a
// prerequisite, a split, or what decided the flag without targeting.
type Step struct {
	// Path is the JSON path into the flag's document, such as $.flag.targeting.if[0].
	// Inside a segment it goes on as if the segment stood there.
	Path string

	// Text is the condition in words or as compact JSON.
	Text string

	// Seen are the context values that the condition reads, by path as written;
	// absent ones are nil.
	Seen map[string]any

	// Outcome is what the step came to, as JSON: true, false, "on", null.
	Outcome string

	// Fractional tells how a split was decided; nil for other steps.
	Fractional *Bucketing
}

// Bucketing is how fractional chose: the hash of a value, scaled to a bucket.
type Bucketing struct {
	Value  string // the bytes hashed; those of v3 are CBOR
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

// Explain evaluates like [Flag.Evaluate] and tells how it came to the
// resolution. It compiles the flag again, with notes of where each part comes
// from, and takes a thousand times as long.
func (f *Flag) Explain(c *Context, t int64) Explanation {
	e := Explanation{Resolution: f.Evaluate(c, t)}
	if f.program == nil {
		e.Trace = []Step{f.explainFixed()}
		return e
	}
	noted := *f
	rules := ruleCompiler{flag: &noted, rounds: 1, reads: map[string]bool{}, notes: []note{{}}}
	document, err := parseStrict(f.row.Document)
	if err != nil {
		return e
	}
	read, err := f.targeting(document.field("flag"))
	if err != nil {
		return e
	}
	program, err := rules.targeting(read)
	if err != nil {
		return e
	}
	x := explainer{
		run:   run{flag: &noted, attributes: c.branch(), time: t, fuel: maxWork},
		notes: rules.notes,
	}
	if len(read.conditions) > 0 {
		program = x.prerequisites(program)
	}
	if program != nil {
		x.follow(program)
	}
	e.Trace = x.trace
	return e
}

func (f *Flag) explainFixed() Step {
	switch {
	case f.killed != nil:
		return f.explainKilled()
	case f.disabled:
		return Step{Path: "$.flag.state", Text: "the flag is disabled", Outcome: "null"}
	case f.err != nil:
		return Step{Path: "$", Text: f.err.Error(), Outcome: "null"}
	case f.fallback < 0:
		return Step{Path: "$.flag.defaultVariant", Text: "there is no targeting and no default variant", Outcome: "null"}
	default:
		return Step{Path: "$.flag.defaultVariant", Text: "there is no targeting", Outcome: strconv.Quote(f.DefaultVariant())}
	}
}

// explainer runs a program with notes and writes down what it does.
type explainer struct {
	run   run
	notes []note
	trace []Step
}

// prerequisites explains the conditions of a flag that requires others, and
// returns what is run next.
func (x *explainer) prerequisites(program *node) *node {
	conditions := program.args[0].args
	for i := range conditions {
		r := x.run.flag.attributes.requires[i]
		met := x.run.truth(&conditions[i], 0)
		x.trace = append(x.trace, Step{
			Path:    "$" + pathOf("guidon", "requires", i),
			Text:    fmt.Sprintf("flag %q resolves to %s", r.flag, strings.Join(r.variants, " or ")),
			Seen:    x.seen(&conditions[i]),
			Outcome: strconv.FormatBool(met),
		})
		x.splits(&conditions[i])
		if !met {
			return &program.args[2]
		}
	}
	return &program.args[1]
}

// follow goes the way of the evaluation, through the conditions of ifs.
func (x *explainer) follow(n *node) {
	for n.op == opIf {
		chosen := (*node)(nil)
		last := len(n.args) - 1
		for i := 0; i < last && chosen == nil; i += 2 {
			holds := x.run.truth(&n.args[i], 0)
			x.step(&n.args[i], booleanValue(holds))
			if holds {
				chosen = &n.args[i+1]
			}
		}
		if chosen == nil && last%2 == 0 {
			chosen = &n.args[last]
		}
		if chosen == nil {
			return
		}
		n = chosen
	}
	if n.op != opLiteral {
		x.step(n, x.run.value(n, 0))
	}
}

func (x *explainer) step(n *node, outcome value) {
	from := x.notes[n.note]
	step := Step{
		Path: "$" + from.path, Text: string(appendCanonical(nil, from.source)),
		Seen: x.seen(n), Outcome: string(appendCanonical(nil, outcome)),
	}
	if n.op == opSplit || n.op == opFractional {
		step.Fractional = x.bucketing(n)
		x.trace = append(x.trace, step)
		return
	}
	x.trace = append(x.trace, step)
	x.splits(n)
}

// splits adds a step for each fractional inside a condition.
func (x *explainer) splits(n *node) {
	for i := range n.args {
		if inner := &n.args[i]; inner.op == opSplit || inner.op == opFractional {
			x.step(inner, x.run.value(inner, 0))
		} else if !inner.loops() {
			x.splits(inner)
		}
	}
}

func (n *node) loops() bool { return n.op >= opMap && n.op <= opSome }

func (x *explainer) bucketing(n *node) *Bucketing {
	var key textBuffer
	sp := x.run.bucketing(&key, n, 0)
	if sp == nil {
		return nil
	}
	b := &Bucketing{Value: string(key.bytes()), Hash: murmur3.Sum32(key.bytes()), Sum: sp.sum}
	b.Bucket = bucketOfHash(b.Hash, b.Sum)
	from := int64(0)
	for _, share := range sp.shares {
		name := ""
		if share.variantValue.shape() == shapeText {
			name = share.variantValue.str
		} else if share.variantValue.shape() != shapeNull {
			name = string(appendCanonical(nil, share.variantValue))
		}
		b.Ranges = append(b.Ranges, Range{Variant: name, From: from, To: share.end})
		from = share.end
	}
	return b
}

// seen looks up every variable of a node that reads the evaluation context.
func (x *explainer) seen(n *node) map[string]any {
	seen := map[string]any{}
	x.look(n, seen)
	if len(seen) == 0 {
		return nil
	}
	return seen
}

func (x *explainer) look(n *node, seen map[string]any) {
	if n.variable != nil && n.variable.path != nil && n.variable.at != placeWhole {
		seen[n.variable.path.text] = x.run.load(n.variable, 0).toAny()
	}
	if n.op == opSplit && len(n.args) == 0 {
		key, _ := x.run.attributes.find(targetingKeyHash, targetingKeyName)
		seen[targetingKeyName] = key.toAny()
	}
	args := n.args
	if n.loops() {
		args = args[:1] // a body reads items
	}
	for i := range args {
		x.look(&args[i], seen)
	}
}
