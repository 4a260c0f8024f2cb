package eval_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
)

type (
	named   string
	numbers []int
)

func TestNewContext(t *testing.T) {
	t.Parallel()
	pointed := "pointed"
	c, err := eval.NewContext(map[string]any{
		"targetingKey": "bob", "null": nil, "true": true, "int": 1, "int8": int8(-2), "int64": int64(1) << 40, "uint": uint(3), "uint64": uint64(4),
		"float32": float32(0.5), "float64": 1.25, "number": json.Number("1e2"), "time": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"named": named("text"), "numbers": numbers{1, 2}, "strings": []string{"a"}, "array": [2]bool{true, false}, "pointer": &pointed, "nil pointer": (*int)(nil),
		"map": map[named]int{"x": 1}, "any": map[string]any{"list": []any{1, map[string]any{"y": nil}}}, "broken": "a\xffb",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"targetingKey": "bob", "null": nil, "true": true, "int": 1.0, "int8": -2.0, "int64": float64(1 << 40), "uint": 3.0, "uint64": 4.0,
		"float32": 0.5, "float64": 1.25, "number": 100.0, "time": "2026-01-02T03:04:05Z",
		"named": "text", "numbers": []any{1.0, 2.0}, "strings": []any{"a"}, "array": []any{true, false}, "pointer": "pointed", "nil pointer": nil,
		"map": map[string]any{"x": 1.0}, "any": map[string]any{"list": []any{1.0, map[string]any{"y": nil}}}, "broken": "a\ufffdb",
	}
	if diff := cmp.Diff(want, c.Map()); diff != "" {
		t.Errorf("Map() (-want +got):\n%s", diff)
	}
	if key, ok := c.TargetingKey(); key != "bob" || !ok {
		t.Errorf("TargetingKey() = %q, %v", key, ok)
	}
	for path, want := range map[string]any{"any.list.0": 1.0, "any.list.1.y": nil, "map.x": 1.0, "absent": nil, "null": nil, "numbers": []any{1.0, 2.0}} {
		got, ok := c.Value(path)
		if diff := cmp.Diff(want, got); diff != "" || ok != (want != nil) {
			t.Errorf("Value(%q) = %v, %v, want %v", path, got, ok, want)
		}
	}
}

func TestNewContextRefuses(t *testing.T) {
	t.Parallel()
	for want, context := range map[string]map[string]any{
		"$.a: NaN":                                         {"a": math.NaN()},
		"$.a.b[1]: a value of type struct {}":              {"a": map[string]any{"b": []any{1, struct{}{}}}},
		"$.f: a value of type func()":                      {"f": func() {}},
		"$.m: a value of type map[int]int":                 {"m": map[int]int{1: 1}},
		`$["a b"]: +Inf`:                                   {"a b": float32(math.Inf(1))},
		`$.n: "x" is not a number`:                         {"n": json.Number("x")},
		"evaluation context: $" + strings.Repeat(".a", 32): {"a": deepMap(40)},
	} {
		if _, err := eval.NewContext(context); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewContext = %v, want %q", err, want)
		}
	}
}

func deepMap(n int) any {
	v := any(1)
	for range n {
		v = map[string]any{"a": v}
	}
	return v
}

func TestEmptyContexts(t *testing.T) {
	t.Parallel()
	var contexts []*eval.Context
	add := func(c *eval.Context, err error) {
		if err != nil {
			t.Error(err)
		}
		contexts = append(contexts, c)
	}
	add(nil, nil)
	add(eval.NewContext(nil))
	add(eval.ContextFromJSON(nil))
	add(eval.ContextFromJSON([]byte("null")))
	add(eval.ContextFromJSON([]byte(" {} ")))
	add(eval.ContextFromStruct(nil))
	f := compile(t, ruleRow(`{"if":[{"var":"a.b"},"off",{"fractional":[["off",1]]},"off","on"]}`)).Flag("flag")
	for i, c := range contexts {
		if r := f.Evaluate(c, 0); r.Variant() != "on" {
			t.Errorf("%d: %q %s", i, r.Variant(), r.Message())
		}
		if _, ok := c.TargetingKey(); ok || len(c.Map()) != 0 {
			t.Errorf("%d: Map() = %v", i, c.Map())
		}
		if v, ok := c.Value("a"); v != nil || ok {
			t.Errorf("%d: Value = %v", i, v)
		}
	}
}

// TestContextFromJSON holds that contexts are read as encoding/json reads them.
func TestContextFromJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"a":1,"a":2}`, `{"a":"\ud83d\ude80\ud800x\udc00\u0041"}`, "{\"a\":\"\xff\xfe\"}", `{"a":[1,-0,1e3,0.1,"",null,true,false,{}]}`,
		`{"a":{"b":{"c":[[]]}}}`, " \t\r\n{ \"a\" : [ 1 , 2 ] } ", `{"a":"\"\\\/\b\f\n\r\t"}`, `{"":1}`,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13,"n":14,"o":15,"p":16,"q":17,"r":18,"a":19}`,
	} {
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		c, err := eval.ContextFromJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, c.Map()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		for key := range want {
			if v, ok := c.Value(key); key != "" && ok && !cmp.Equal(v, want[key]) {
				t.Errorf("%s: Value(%q) = %v", text, key, v)
			}
		}
	}
	for text, want := range map[string]string{
		`[]`: "must be an object", `1`: "must be an object", `{`: "is expected", `{"a":01}`: "offset 6", `{"a":1.}`: "a digit", `{"a":1e}`: "a digit", `{"a":-}`: "a digit",
		`{"a":tru}`: "a value", `{"a":"x`: "the end of a string", `{"a":"\x"}`: "an escape", `{"a":"\u12g4"}`: "four hexadecimal", `{"a":1}x`: "the end",
		`{"a" 1}`: "':'", `{a:1}`: "a key", `{"a":1,}`: "a key", `{"a":[1,]}`: "a value", "{\"a\":\"\n\"}": "no control character", `{"a":1e999}`: "$.a: the number is beyond",
	} {
		if _, err := eval.ContextFromJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestContextFromStruct(t *testing.T) {
	t.Parallel()
	want := map[string]any{"a": 1.0, "b": []any{"x", nil, true, map[string]any{"c": 2.5}}, "n": nil}
	s, err := structpb.NewStruct(want)
	if err != nil {
		t.Fatal(err)
	}
	s.Fields["unset"] = &structpb.Value{}
	c, err := eval.ContextFromStruct(s)
	if err != nil {
		t.Fatal(err)
	}
	want["unset"] = nil
	if diff := cmp.Diff(want, c.Map()); diff != "" {
		t.Errorf("Map() (-want +got):\n%s", diff)
	}
	s.Fields["bad"] = structpb.NewNumberValue(math.Inf(1))
	if _, err := eval.ContextFromStruct(s); err == nil || !strings.Contains(err.Error(), "$.bad") {
		t.Errorf("ContextFromStruct with an infinity: %v, want an error at $.bad", err)
	}
}

// TestWideObjects holds that objects beyond a cache line of keys find them all.
func TestWideObjects(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 15, 16, 17, 18, 100, 5_000} {
		wide := map[string]any{}
		for i := range n {
			wide["key"+string(rune('A'+i%26))+strings.Repeat("x", i/26)] = i
		}
		c, err := eval.NewContext(wide)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range wide {
			if got, ok := c.Value(key); !ok || got != float64(want.(int)) {
				t.Fatalf("of %d keys %q = %v, want %v", n, key, got, want)
			}
		}
		if v, ok := c.Value("keyless"); ok {
			t.Errorf("of %d keys an absent one = %v", n, v)
		}
	}
}

// TestWholeContext holds that {"var": ""} is all attributes and $flagd, whatever
// their number, and that $flagd is not the caller's.
func TestWholeContext(t *testing.T) {
	t.Parallel()
	f := compile(t, ruleRow(`{"if":[{"and":[
		{"in":["flag",{"map":[{"merge":[{"var":""}]},{"var":"$flagd.flagKey"}]}]},
		{"in":["first",{"map":[{"merge":[{"var":""}]},{"var":"key0"}]}]}]},"on"]}`)).Flag("flag")
	for _, n := range []int{1, 14, 15, 16, 17, 18, 1_000} {
		for _, own := range []bool{false, true} {
			attributes := map[string]any{"key0": "first"}
			for i := 1; i < n; i++ {
				attributes[fmt.Sprint("key", i)] = i
			}
			if own {
				attributes["$flagd"] = map[string]any{"flagKey": "mine"}
			}
			c, err := eval.NewContext(attributes)
			if err != nil {
				t.Fatal(err)
			}
			if r := f.Evaluate(c, 0); r.Variant() != "on" {
				t.Errorf("of %d attributes, with $flagd among them: %v: %q", n, own, r.Variant())
			}
			if diff := cmp.Diff(len(attributes), len(c.Map())); diff != "" {
				t.Errorf("evaluating changed the context of %d attributes", n)
			}
		}
	}
}
