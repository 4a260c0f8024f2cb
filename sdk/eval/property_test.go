package eval_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func drawGenerator(t *rapid.T) *generator {
	return &generator{bytes: rapid.SliceOfN(rapid.Byte(), 20, 300).Draw(t, "bytes")}
}

// tidy makes a generated rule fit to be written: operands in lists, as many as
// there may be, and texts where only texts may stand.
func tidy(rule any) any {
	m, ok := rule.(map[string]any)
	if list, isList := rule.([]any); isList {
		out := []any{}
		for _, item := range list {
			out = append(out, tidy(item))
		}
		return out
	}
	if !ok || len(m) != 1 {
		return rule
	}
	for name, operand := range m {
		list, isList := operand.([]any)
		if name == "var" {
			if !isList || len(list) == 0 {
				return map[string]any{"var": "a"}
			}
			if path, ok := list[0].(string); ok && !strings.HasPrefix(path, "$flagd.o") {
				return map[string]any{"var": []any{path, tidy(list[len(list)-1])}}
			}
			return map[string]any{"var": "b"}
		}
		if !isList {
			list = []any{operand, "on"}
		}
		least := map[string]int{"if": 3, "?:": 3, "sem_ver": 3, "reduce": 3, "!": 1, "!!": 1, "log": 1}[name]
		most := map[string]int{"!": 1, "!!": 1, "log": 1, "sem_ver": 3, "reduce": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "substr": 3}[name]
		if least == 0 {
			least = 2
		}
		if most == 0 && !slices.Contains([]string{"if", "?:", "and", "or", "+", "-", "*", "max", "min", "cat", "merge", "fractional", "missing"}, name) {
			most = 2
		}
		for len(list) < least {
			list = append(list, "on")
		}
		if most > 0 && len(list) > most {
			list = list[:most]
		}
		switch name {
		case "fractional", "missing", "missing_some", "sem_ver":
			return map[string]any{"fractional": []any{[]any{"on", 1.0}, []any{"off", 2.0}}}
		case "starts_with", "ends_with":
			return map[string]any{name: []any{tidy(list[0]), "a"}}
		}
		return map[string]any{name: tidy(list)}
	}
	return rule
}

// TestValidMeansNoError holds that what Validate accepts evaluates without an
// error for any context, but for a computed variant name.
func TestValidMeansNoError(t *testing.T) {
	t.Parallel()
	accepted, named := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := drawGenerator(t)
		flag := g.flag()
		if rapid.Bool().Draw(t, "tidy") {
			flag["targeting"] = tidy(flag["targeting"])
		}
		s := compileRapid(t, flag, "")
		f := s.Flag("flag")
		if s.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"}) != nil {
			return
		}
		accepted++
		computed := slices.ContainsFunc(f.Warnings(), func(p eval.Problem) bool { return strings.Contains(p.Message, "computes the name") })
		if !computed {
			named++
		}
		for range 5 {
			c, err := eval.NewContext(g.context())
			if err != nil {
				t.Fatal(err)
			}
			r := f.Evaluate(c, 1000)
			if r.ErrorCode() == eval.CodeParseError || r.ErrorCode() == eval.CodeGeneral && !computed {
				t.Fatalf("%s is valid, but evaluates to %s: %s", f.Row().Document, r.ErrorCode(), r.Message())
			}
		}
	})
	if accepted == 0 || named == 0 {
		t.Errorf("%d definitions were accepted, %d of them name all their variants: the property was not tested", accepted, named)
	}
}

func compileRapid(t *rapid.T, flag map[string]any, attributes string) *eval.Snapshot {
	guidon := json.RawMessage(`{"project":"default"` + attributes + `}`)
	text, err := json.Marshal(map[string]any{"flag": flag, "guidon": guidon})
	if err == nil {
		text, err = eval.Canonical(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := eval.Compile(1, []eval.Row{{Kind: eval.KindFlag, Name: "flag", From: 1, Document: text}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTurningOffNeverFails holds that disabling, archiving or emptying anything
// of any definition, even a bad one, makes no error.
func TestTurningOffNeverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g := drawGenerator(t)
		flag, attributes := g.flag(), ""
		switch rapid.IntRange(0, 4).Draw(t, "how") {
		case 0:
			flag["state"] = "DISABLED"
		case 1:
			flag["state"], attributes = "DISABLED", `,"archived":true`
		case 2:
			flag["targeting"] = map[string]any{}
		case 3:
			flag["targeting"] = nil
		case 4:
			flag["state"], flag["targeting"] = "DISABLED", map[string]any{"no such": []any{}}
		}
		if rapid.Bool().Draw(t, "no default") {
			delete(flag, "defaultVariant")
		}
		c, err := eval.NewContext(g.context())
		if err != nil {
			t.Fatal(err)
		}
		if r := compileRapid(t, flag, attributes).Evaluate("flag", c, 0); r.ErrorCode() != eval.CodeNone {
			t.Fatalf("%v evaluates to %s: %s", flag, r.ErrorCode(), r.Message())
		}
	})
}

// world is the rows of an environment that changes at random.
type world struct {
	rows     map[eval.Name]eval.Row
	revision int64
}

func (w *world) change(t *rapid.T) (upserts []eval.Row, deletes []eval.Name) {
	w.revision++
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		n := rapid.IntRange(0, 5).Draw(t, "number")
		name := eval.Name{Kind: eval.KindFlag, Name: fmt.Sprint("flag", n)}
		var document string
		switch rapid.IntRange(0, 8).Draw(t, "what") {
		case 0:
			name = eval.Name{Kind: eval.KindSegment, Name: fmt.Sprint("segment", n%3)}
			document = fmt.Sprintf(`{"segment":%s}`, rapid.SampledFrom([]string{
				`{"==":[{"var":"a"},"x"]}`, `{"and":[true,{"$ref":"segment0"}]}`, `{"or":[{"$ref":"segment1"},{"var":"b"}]}`, `{"bad":[]}`,
			}).Draw(t, "rule"))
		case 1:
			name = eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}
			document = rapid.SampledFrom([]string{`{"fractional":"v2"}`, `{"fractional":"v3"}`, `{"travel":[{"attribute":"a"}]}`, `{"nonsense":1}`}).Draw(t, "settings")
		case 2:
			name.Kind = eval.KindEmergency
			document = fmt.Sprintf(rapid.SampledFrom([]string{
				`{"active":true,"log":[{"revision":%d,"value":false,"variant":"off"}]}`, `{"active":true,"log":[{"revision":%d,"value":true,"variant":"x"}]}`,
				`{"active":false,"log":[{"revision":%d,"value":false,"variant":"off"}]}`, `{"active":true,"log":[%d]}`,
			}).Draw(t, "emergency"), w.revision)
		case 3:
			name.Kind = rapid.SampledFrom([]eval.Kind{"flag/novel", "flag/other", "note/novel"}).Draw(t, "newer kind")
			document = `{}`
		default:
			targeting := rapid.SampledFrom([]string{
				`null`, `{"if":[{"$ref":"segment0"},"on"]}`, `{"if":[{"and":[{"$ref":"segment1"},{"$ref":"segment2"}]},"on","off"]}`,
				`{"fractional":[["on",1],["off",1]]}`, `{"if":[{"var":"b"},"on","off"]}`, `{"wrong":1}`,
			}).Draw(t, "targeting")
			requires := rapid.SampledFrom([]string{``, ``, `,"requires":[{"flag":"flag0","variants":["on"]}]`, `,"requires":[{"flag":"flag1","variants":["off","on"]}]`, `,"requires":[{"flag":"flag5","variants":["x"]}]`}).Draw(t, "requires")
			state := rapid.SampledFrom([]string{"ENABLED", "ENABLED", "DISABLED"}).Draw(t, "state")
			document = fmt.Sprintf(`{"flag":{"state":%q,"variants":{"on":true,"off":false},"defaultVariant":"off","targeting":%s},"guidon":{"project":"p"%s}}`, state, targeting, requires)
		}
		if slices.ContainsFunc(upserts, func(r eval.Row) bool { return r.Kind == name.Kind && r.Name == name.Name }) || slices.Contains(deletes, name) {
			continue
		}
		if _, exists := w.rows[name]; exists && rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			delete(w.rows, name)
			deletes = append(deletes, name)
			continue
		}
		row := eval.Row{Kind: name.Kind, Name: name.Name, From: w.revision, Document: []byte(document)}
		w.rows[name] = row
		upserts = append(upserts, row)
	}
	return upserts, deletes
}

// TestWithIsCompile holds that a snapshot changed step by step is the one
// compiled at once, and that the steps leave what they started from alone.
func TestWithIsCompile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := world{rows: map[eval.Name]eval.Row{}}
		stepwise, err := eval.Compile(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			before := describe(stepwise)
			upserts, deletes := w.change(t)
			next, err := stepwise.With(w.revision, upserts, deletes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, describe(stepwise)); diff != "" {
				t.Fatalf("With changed its receiver:\n%s", diff)
			}
			stepwise = next
			atOnce, err := eval.Compile(w.revision, slices.Collect(maps.Values(w.rows)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(describe(atOnce), describe(stepwise)); diff != "" {
				t.Fatalf("after With (-compiled +stepwise):\n%s", diff)
			}
		}
	})
}

// describe is everything that can be told from outside of a snapshot.
func describe(s *eval.Snapshot) map[string]any {
	d := map[string]any{"revision": s.Revision(), "digest": s.Digest().String(), "settings": s.Settings(), "len": s.Len()}
	for row := range s.Rows() {
		d[row.Kind.String()+" "+row.Name] = row
	}
	var log []string
	for e := range s.Emergencies().All() {
		log = append(log, fmt.Sprint(e.Revision, e.Flag, e.Variant, e.Value()))
	}
	d["log"] = append(log, strconv.FormatInt(s.Emergencies().Revision(), 10))
	var keys []string
	for f := range s.Flags() {
		keys = append(keys, f.Key())
		outcomes := []string{}
		for _, context := range []map[string]any{nil, {"a": "x"}, {"b": true, "targetingKey": "bob"}, {"a": "x", "b": 1, "targetingKey": "eve"}} {
			c, _ := eval.NewContext(context)
			r := s.Evaluate(f.Key(), c, 0)
			outcomes = append(outcomes, fmt.Sprint(r.Variant(), r.Reason(), r.ErrorCode()))
		}
		isolated := f.Err() != nil
		d["flag of "+f.Key()] = []any{
			outcomes, isolated, f.Row().From, f.Segments(), f.Settings(), f.Reads(), f.NotTravelling(), f.Static(), f.State(), string(f.Definition()), killed(f),
		}
		if !isolated { // what an isolated flag got as far as depends on the way
			d["links of "+f.Key()] = []any{f.Dependencies(), f.EffectiveFrom()}
		}
	}
	d["keys"] = keys
	return d
}

func killed(f *eval.Flag) string {
	e, ok := f.Killed()
	return fmt.Sprint(ok, e.Revision, e.Variant)
}

// TestBucketsAreFair holds that at 10⁵ keys the shares are within 3σ of the
// weights, under both algorithms.
func TestBucketsAreFair(t *testing.T) {
	t.Parallel()
	const keys = 100_000
	weights := map[string]float64{"a": 1, "b": 9, "c": 40, "d": 50}
	flag := map[string]any{
		"state": "ENABLED", "variants": map[string]any{"a": "a", "b": "b", "c": "c", "d": "d"},
		"targeting": json.RawMessage(`{"fractional":[["a",1],["b",9],["c",40],["d",50]]}`),
	}
	for _, algorithm := range []string{eval.FractionalV2, eval.FractionalV3} {
		s := compile(t, flagRow(t, "fair", flag), settingsRow(t, `{"fractional":"`+algorithm+`"}`))
		got := map[string]float64{}
		for i := range keys {
			got[s.Evaluate("fair", subject(t, fmt.Sprint("key-", i)), 0).Variant()]++
		}
		for name, weight := range weights {
			p := weight / 100
			if mean, sigma := keys*p, math.Sqrt(keys*p*(1-p)); math.Abs(got[name]-mean) > 3*sigma {
				t.Errorf("%s: %q has %.0f of %d keys, want %.0f ± %.0f", algorithm, name, got[name], keys, mean, 3*sigma)
			}
		}
	}
}

func subject(t testing.TB, targetingKey string) *eval.Context {
	t.Helper()
	c, err := eval.NewContext(map[string]any{"targetingKey": targetingKey})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRaisingAWeightKeepsWhoIsIn holds that when a two-way split of a constant
// sum gives one side more, nobody leaves that side.
func TestRaisingAWeightKeepsWhoIsIn(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	split := func(on int) *eval.Flag {
		return compile(t, flagRow(t, "rollout", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false},
			"targeting": json.RawMessage(fmt.Sprintf(`{"fractional":[["on",%d],["off",%d]]}`, on, 100-on)),
		})).Flag("rollout")
	}
	steps := make([]*eval.Flag, 101)
	for on := range steps {
		steps[on] = split(on)
	}
	for range 2_000 {
		c := subject(t, strconv.FormatUint(r.Uint64(), 16))
		in := false
		for on, step := range steps {
			now := step.Evaluate(c, 0).Variant() == "on"
			if in && !now {
				t.Fatalf("%v left when the weight rose to %d", c.Map(), on)
			}
			in = now
		}
		if !in {
			t.Fatalf("%v is not in at 100 %%", c.Map())
		}
	}
}

func TestInvalidErrorIsErrInvalid(t *testing.T) {
	t.Parallel()
	s := compile(t, flagRow(t, "flag", map[string]any{"state": "ON"}))
	err := s.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"})
	if !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("Validate of a flag without variants: %v, want ErrInvalid", err)
	}
}
