package eval_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// nested is a text inside n pairs of brackets.
func nested(open, text, end string, n int) string {
	return strings.Repeat(open, n) + text + strings.Repeat(end, n)
}

func ruleRow(targeting string) eval.Row {
	return eval.Row{Kind: eval.KindFlag, Name: "flag", From: 1, Document: []byte(
		`{"flag":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":` + targeting + `},"guidon":{"project":"default"}}`)}
}

// TestHostileDefinitions holds that definitions made to hurt are isolated and
// refused, with a message that says where and why.
func TestHostileDefinitions(t *testing.T) {
	t.Parallel()
	list := "[" + strings.Repeat("1,", 1_000_000) + "1]"
	for _, test := range []struct{ name, targeting, want string }{
		{"depth bomb", nested(`{"!":[`, "1", `]}`, 100_000), "nests too deep"},
		{"lists in lists", nested(`[`, "1", `]`, 1_000_000), "nests too deep"},
		{"operators", nested(`{"!":[`, "1", `]}`, 40), "nests deeper than 32 operators"},
		{"nodes", `{"or":[` + strings.Repeat(`{"var":"a"},`, 3_000) + `1]}`, "more than 2000 operators and operands"},
		{"million items", `{"in":[1,` + list + `]}`, "a list of 1000001 items is too long"},
		{"million operands", `{"or":` + list + `}`, "more than 2000 operators"},
		{"loops", `{"some":[{"var":"l"},{"some":[{"var":"l"},{"some":[{"var":"l"},{"some":[{"var":"l"},{"some":[{"var":"l"},{"var":""}]}]}]}]}]}`, "loops stand more than 4 deep"},
		{"huge number", `{"==":[1e400,1]}`, "beyond the range of float64"},
		{"key twice", `{"==":[1,1],"==":[2,2]}`, "stands twice"},
		{"half a surrogate", `{"==":["\ud800",1]}`, "half a surrogate pair"},
		{"no UTF-8", "{\"==\":[\"\xff\",1]}", "invalid UTF-8"},
		{"cut off", `{"==":[1,`, "is expected"},
		{"unknown operator", `{"if":[false,{"exec":["rm"]},"on"]}`, `unknown operator "exec"`},
		{"literal operands of and", `{"and":true}`, "operands must be a list"},
		{"missing segment", `{"if":[{"$ref":"nobody"},"on"]}`, `segment "nobody", which does not exist`},
	} {
		s, err := eval.Compile(1, []eval.Row{ruleRow(test.targeting)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Flag("flag").Err(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Err() = %v, want %q", test.name, shortened(err), test.want)
		}
		if r := s.Evaluate("flag", nil, 0); r.ErrorCode() != eval.CodeParseError {
			t.Errorf("%s evaluates to %s, want PARSE_ERROR", test.name, r.ErrorCode())
		}
		if err := s.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"}); err == nil {
			t.Errorf("%s is valid", test.name)
		}
	}
}

func shortened(err error) string {
	s := fmt.Sprint(err)
	return s[:min(len(s), 200)]
}

// TestHostileWrites are definitions that can be evaluated, within bounds, but
// not be written.
func TestHostileWrites(t *testing.T) {
	t.Parallel()
	thousand := strings.Repeat("1,", 1_000) + "1"
	for _, test := range []struct{ name, targeting, path, want string }{
		{"a long loop", `{"if":[{"some":[[` + thousand + `],{"==":[{"var":""},2]}]},"on"]}`, "$.flag.targeting.if[0].some[0]", "too long to go through"},
		{"loops in loops", `{"if":[{"some":[{"var":"a"},{"some":[{"var":"b"},{"var":""}]}]},"on"]}`, "$.flag.targeting.if[0].some[1].some[1]", "go round up to 1000000 times"},
		{"large", `{"if":[{"in":[{"var":"a"},["` + strings.Repeat("x", 600_000) + `"]]},"on"]}`, "$", "bytes long"},
	} {
		s := compile(t, ruleRow(test.targeting))
		problems := problemsOf(t, s, eval.Name{Kind: eval.KindFlag, Name: "flag"})
		if len(problems) != 1 || problems[0].Path != test.path || !strings.Contains(problems[0].Message, test.want) {
			t.Errorf("%s: %v, want %q at %s", test.name, problems, test.want, test.path)
		}
	}
}

// TestSegmentsThatGrow holds that segments which refer to themselves or double
// one another end in an error.
func TestSegmentsThatGrow(t *testing.T) {
	t.Parallel()
	use := ruleRow(`{"if":[{"$ref":"s0"},"on"]}`)
	rows := func(n int, rule func(i int) string) []eval.Row {
		rows := []eval.Row{use}
		for i := range n {
			rows = append(rows, eval.Row{Kind: eval.KindSegment, Name: fmt.Sprint("s", i), From: 1, Document: []byte(`{"segment":` + rule(i) + `}`)})
		}
		return rows
	}
	for _, test := range []struct {
		name, want string
		rows       []eval.Row
	}{
		{"itself", "refers to itself: s0 → s0", rows(1, func(int) string { return `{"!":[{"$ref":"s0"}]}` })},
		{"circle", "refers to itself: s0 → s1 → s2 → s0", rows(3, func(i int) string { return fmt.Sprintf(`{"!":[{"$ref":"s%d"}]}`, (i+1)%3) })},
		{"chain", "deeper than 32", rows(40, func(i int) string { return fmt.Sprintf(`{"!":[{"$ref":"s%d"}]}`, min(i+1, 39-39*(i/39))) })},
		{"doubling", "too large with its segments in place", rows(30, func(i int) string {
			if i == 29 {
				return `{"var":"x"}`
			}
			return fmt.Sprintf(`{"or":[{"$ref":"s%d"},{"$ref":"s%d"}]}`, i+1, i+1)
		})},
		{"broken", "which is not valid", rows(1, func(int) string { return `{` })},
	} {
		s := compile(t, test.rows...)
		if err := s.Flag("flag").Err(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Err() = %v, want %q", test.name, err, test.want)
		}
	}
	circle := compile(t, rows(3, func(i int) string { return fmt.Sprintf(`{"!":[{"$ref":"s%d"}]}`, (i+1)%3) })...)
	if problems := problemsOf(t, circle, eval.Name{Kind: eval.KindSegment, Name: "s1"}); len(problems) != 2 || !strings.Contains(problems[0].Message, "refers to itself") {
		t.Errorf("Validate of a circle of segments: %v, want the segment and the flag that reads it", problems)
	}
}

// TestHostileContexts holds that a context cannot make an evaluation long: one
// that is too large is refused, and what loops over the rest runs out of fuel,
// which matches nothing.
func TestHostileContexts(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	for _, test := range []struct {
		name, want string
		context    map[string]any
	}{
		{"deep", "$.a", map[string]any{"a": deep}},
		{"wide", "more than 10000 values", map[string]any{"a": make([]any, 20_000)}},
		{"infinite", "$.a.b[1]: +Inf is not a number", map[string]any{"a": map[string]any{"b": []any{1, 1 / zero()}}}},
		{"foreign", "a value of type chan int", map[string]any{"a": make(chan int)}},
	} {
		if _, err := eval.NewContext(test.context); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: NewContext = %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := eval.ContextFromJSON([]byte(nested(`{"a":`, "1", "}", 100_000))); err == nil {
		t.Error("a context 100,000 deep is accepted")
	}
	if _, err := eval.ContextFromJSON([]byte(`{"a":[` + strings.Repeat("1,", 1_000_000) + `1]}`)); err == nil {
		t.Error("a context of a million values is accepted")
	}

	c, err := eval.NewContext(map[string]any{"l": make([]any, 5_000), "m": make([]any, 4_000), "s": strings.Repeat("x", 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	for _, targeting := range []string{
		`{"if":[{"none":[{"var":"l"},{"some":[{"var":"m"},{"var":""}]}]},"on"]}`,
		`{"if":[{"none":[{"var":"l"},{"in":["x",{"var":"m"}]}]},"on"]}`,
		`{"if":[{"map":[{"var":"l"},{"merge":[{"var":"l"},{"var":"m"}]}]},"off","on"]}`,
		`{"if":[{"reduce":[{"var":"l"},{"cat":[{"var":"accumulator"},"x"]},"x"]},"off","on"]}`,
		`{"if":[{"none":[{"var":"l"},{"in":["y",{"var":"s"}]}]},"on"]}`,
	} {
		s := compile(t, ruleRow(targeting))
		if r := s.Evaluate("flag", c, 0); r.Reason() == eval.ReasonError {
			t.Errorf("%s: %s %s", targeting, r.ErrorCode(), r.Message())
		}
	}
	s := compile(t, ruleRow(`{"if":[{"none":[{"var":"l"},{"some":[{"var":"m"},{"var":""}]}]},"on"]}`))
	if r := s.Evaluate("flag", c, 0); r.Variant() != "off" || r.Reason() != eval.ReasonDefault {
		t.Errorf("twenty million rounds came to %q, %s; want off, DEFAULT", r.Variant(), r.Reason())
	}
}

func zero() float64 { return 0 }

func problemsOf(t testing.TB, s *eval.Snapshot, names ...eval.Name) []eval.Problem {
	t.Helper()
	err := s.Validate(names...)
	if err == nil {
		return nil
	}
	invalid, ok := err.(*eval.InvalidError) //nolint:errorlint // Validate returns it as it is
	if !ok {
		t.Fatalf("Validate = %T, want *InvalidError", err)
	}
	return invalid.Problems
}

// TestIsolation holds that a bad flag harms no sibling.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := compile(t, ruleRow(`{"nonsense":[]}`), flagRow(t, "good", switchable(`{"if":[true,"on"]}`)),
		eval.Row{Kind: eval.KindFlag, Name: "garbage", From: 1, Document: []byte("\x00")},
		flagRow(t, "later", switchable(`null`), `{"level":2}`))
	if got := s.Evaluate("good", nil, 0).Variant(); got != "on" {
		t.Errorf("beside bad flags the good one is %q, want on", got)
	}
	for _, key := range []string{"flag", "garbage", "later"} {
		r := s.Evaluate(key, nil, 0)
		if r.ErrorCode() != eval.CodeParseError || r.Message() == "" {
			t.Errorf("%s: %s %q, want PARSE_ERROR and a message", key, r.ErrorCode(), r.Message())
		}
	}
	if _, err := eval.Compile(1, []eval.Row{ruleRow(`null`), ruleRow(`null`)}); err == nil {
		t.Error("Compile accepts a name twice")
	}
	if _, err := eval.Compile(1, []eval.Row{{Kind: "novel", Name: "x"}}); !errors.Is(err, eval.ErrUnknownKind) {
		t.Errorf("Compile of a row of a kind that is not known: %v", err)
	}
	if _, err := eval.Compile(1, []eval.Row{{Kind: eval.KindSettings, Name: "x", Document: json.RawMessage(`{}`)}}); err == nil {
		t.Error("Compile accepts settings of another name")
	}
}
