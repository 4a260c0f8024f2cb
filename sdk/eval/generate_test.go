package eval_test

import (
	"encoding/json"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// generator turns bytes into rules and contexts, so that a fuzzer's mutations
// become small changes of them. When the bytes run out it makes the simplest choices.
type generator struct {
	bytes []byte
	size  int // rules still to make
	loops int
}

// pick returns a number below n.
func (g *generator) pick(n int) int {
	if len(g.bytes) == 0 {
		return 0
	}
	b := g.bytes[0]
	g.bytes = g.bytes[1:]
	return int(b) % n
}

func choose[T any](g *generator, from ...T) T { return from[g.pick(len(from))] }

// The corners of coercion, and what looks like them.
var (
	scalars = []any{
		nil, true, false, 0.0, 1.0, -1.0, 1.5, 18.0, 1e21, "", " ", "0", "1", "-1", "1.5", " 1", "1 ", "1e1", "abc", "a", "b",
		"on", "off", "true", "false", "null", "NaN", "inf", "-Infinity", "0x10", "1_0", "5abc", "é", "1.2.3", "v1.2", "V2.0.0-rc.1", "1.2.4+b",
		"01.2.3", ".", "+", "--1",
	}
	paths = []any{
		"a", "b", "c", "list", "names", "user.name", "user.roles.1", "list.0", "list.x", "users.0.name", "", ".", "a.", ".a", "targetingKey",
		"$flagd.flagKey", "$flagd.timestamp", "$flagd.other", "$flagd", "name", "user", "current", "accumulator", "current.name", 1.0, 0.0,
	}
	variantNames = []string{"on", "off", "true", "false", "a", "b", "abc", "0", "1", "-1", "1.5", "18", "-0", "flag", "xyz"}
)

func (g *generator) scalar() any { return scalars[g.pick(len(scalars))] }

// data is a value without rules; an object of one member would be one.
func (g *generator) data(depth int) any {
	switch kind := g.pick(8); {
	case kind < 5 || depth == 0:
		return g.scalar()
	case kind < 7:
		list := []any{}
		for range g.pick(4) {
			list = append(list, g.data(depth-1))
		}
		return list
	default:
		return map[string]any{"name": g.data(depth - 1), "b": g.data(depth - 1)}
	}
}

func (g *generator) rule(depth int) any {
	g.size--
	kind := g.pick(16)
	if depth == 0 || g.size <= 0 || kind < 3 {
		if kind%2 == 0 {
			return g.variable(0)
		}
		return g.data(1)
	}
	switch kind {
	case 3, 4:
		return g.variable(depth - 1)
	case 5:
		return g.operation(depth-1, choose(g, "if", "?:", "if"), g.pick(5))
	case 6:
		return g.operation(depth-1, choose(g, "and", "or"), 1+g.pick(3))
	case 7:
		return g.spreadable(depth-1, choose(g, "!", "!!", "log"), 1)
	case 8:
		return g.spreadable(depth-1, choose(g, "==", "===", "!=", "!=="), 2)
	case 9:
		return g.spreadable(depth-1, choose(g, "<", "<=", ">", ">="), 2+g.pick(3))
	case 10:
		return g.spreadable(depth-1, choose(g, "+", "-", "*", "/", "%", "max", "min"), 2+g.pick(2))
	case 11:
		name := choose(g, "cat", "substr", "merge", "starts_with", "ends_with", "sem_ver")
		if name == "sem_ver" && g.pick(3) > 0 {
			op := choose[any](g, "=", "!=", "<", "<=", ">", ">=", "^", "~", "==")
			return map[string]any{name: []any{g.rule(depth - 1), op, g.rule(depth - 1)}}
		}
		return g.spreadable(depth-1, name, 2+g.pick(2))
	case 12:
		return g.in(depth - 1)
	case 13:
		return g.missing(depth - 1)
	case 14:
		return g.fractional(depth - 1)
	default:
		return g.loop(depth - 1)
	}
}

func (g *generator) operation(depth int, name string, operands int) any {
	list := []any{}
	for range operands {
		list = append(list, g.rule(depth))
	}
	return map[string]any{name: list}
}

// spreadable is an operation whose operands are now and then a rule.
func (g *generator) spreadable(depth int, name string, operands int) any {
	if g.pick(12) == 1 {
		return map[string]any{name: choose(g, g.variable(0), any(map[string]any{"merge": []any{g.rule(depth), g.rule(depth)}}))}
	}
	return g.operation(depth, name, operands)
}

func (g *generator) variable(depth int) any {
	path := paths[g.pick(len(paths))]
	_, text := path.(string)
	switch kind := g.pick(8); {
	case kind == 0 && text:
		return map[string]any{"var": []any{path, g.data(1)}}
	case kind == 1 && text && depth > 0:
		return map[string]any{"var": []any{path, g.rule(depth)}}
	case kind == 2 && text:
		return map[string]any{"var": []any{path}}
	case kind == 3 && depth > 0:
		return map[string]any{"var": map[string]any{"cat": []any{path, g.rule(depth - 1)}}}
	case kind == 4:
		return map[string]any{"var": choose[any](g, nil, []any{})}
	}
	return map[string]any{"var": path}
}

func (g *generator) in(depth int) any {
	var within any
	switch g.pick(3) {
	case 0:
		list := []any{}
		for range g.pick(12) {
			list = append(list, choose(g, g.scalar(), any([]any{g.scalar(), g.scalar()})))
		}
		within = list
	case 1:
		within = g.variable(depth)
	default:
		within = g.rule(depth)
	}
	return map[string]any{"in": []any{g.rule(depth), within}}
}

func (g *generator) missing(depth int) any {
	names := []any{}
	for range g.pick(4) {
		names = append(names, paths[g.pick(len(paths))])
	}
	switch g.pick(3) {
	case 0:
		return map[string]any{"missing_some": []any{choose[any](g, 0.0, 1.0, 2.0, "1"), names}}
	case 1:
		return map[string]any{"missing": g.rule(depth)}
	default:
		return map[string]any{"missing": names}
	}
}

func (g *generator) fractional(depth int) any {
	list := []any{}
	switch g.pick(4) {
	case 0:
		list = append(list, g.variable(depth))
	case 1:
		list = append(list, map[string]any{"cat": []any{g.variable(0), g.variable(0)}})
	case 2:
		list = append(list, g.rule(depth))
	}
	for range 1 + g.pick(3) {
		share := []any{choose[any](g, "on", "off", "a", true, 1.0, nil)}
		if g.pick(4) > 0 {
			share = append(share, choose[any](g, 50.0, 1.0, 0.0, -5.0, 2147483647.0, 1.5, nil, "1", g.variable(0)))
		}
		list = append(list, share)
	}
	return map[string]any{"fractional": list}
}

func (g *generator) loop(depth int) any {
	if g.loops == 3 {
		return g.variable(depth)
	}
	subject := any([]any{g.data(1), g.data(1)})
	if g.pick(3) > 0 {
		subject = map[string]any{"var": choose[any](g, "list", "users", "names", "", "a")}
	} else if g.pick(2) > 0 {
		subject = map[string]any{"merge": []any{g.rule(depth), g.rule(depth)}}
	}
	g.loops++
	defer func() { g.loops-- }()
	name := choose(g, "map", "filter", "all", "none", "some", "reduce")
	body := g.rule(depth)
	if _, isRule := body.(map[string]any); !isRule && name != "map" && name != "filter" {
		body = map[string]any{"!!": []any{body}}
	}
	operands := []any{subject, body}
	if name == "reduce" {
		operands = append(operands, choose(g, any(0.0), any(""), any(true), g.variable(0)))
	}
	return map[string]any{name: operands}
}

func (g *generator) context() map[string]any {
	context := map[string]any{}
	for _, name := range []string{"a", "b", "c", "name", "targetingKey", "current"} {
		if kind := g.pick(6); kind < 3 {
			context[name] = g.scalar()
		} else if kind < 4 {
			context[name] = g.data(2)
		}
	}
	if g.pick(4) > 0 {
		context["targetingKey"] = choose[any](g, "bob", "alice", "", "42", "x ")
	}
	for _, name := range []string{"list", "names", "users"} {
		list := []any{}
		for range g.pick(4) {
			list = append(list, g.data(1))
		}
		context[name] = list
	}
	context["user"] = map[string]any{"name": g.scalar(), "roles": []any{g.scalar(), g.scalar()}}
	return context
}

// flag is a flagd definition with a random targeting.
func (g *generator) flag() map[string]any {
	g.size = 60
	variants := map[string]any{}
	for _, name := range variantNames {
		variants[name] = name
	}
	flag := map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": choose[any](g, "off", nil, "xyz")}
	for { // a literal would be no targeting
		if rule, ok := g.rule(4).(map[string]any); ok || len(g.bytes) == 0 {
			flag["targeting"] = rule
			return flag
		}
	}
}

// flagRow is the row of a flagd definition.
func flagRow(t testing.TB, key string, definition any, attributes ...string) eval.Row {
	t.Helper()
	guidon := map[string]any{"project": "default"}
	for _, a := range attributes {
		if err := json.Unmarshal([]byte(a), &guidon); err != nil {
			t.Fatal(err)
		}
	}
	return eval.Row{Kind: eval.KindFlag, Name: key, From: 1, Document: canonical(t, map[string]any{"flag": definition, "guidon": guidon})}
}

func canonical(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	document, err := eval.Canonical(text)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func settingsRow(t testing.TB, settings string) eval.Row {
	t.Helper()
	return eval.Row{Kind: eval.KindSettings, Name: eval.SettingsName, From: 1, Document: canonical(t, json.RawMessage(settings))}
}

func compile(t testing.TB, rows ...eval.Row) *eval.Snapshot {
	t.Helper()
	s, err := eval.Compile(1, rows)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
