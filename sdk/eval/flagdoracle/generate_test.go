package flagdoracle_test

import "math/rand/v2"

// generator makes rules and contexts of the kinds that flagd's engine has an
// answer for more often than not.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func op(name string, operands ...any) any { return map[string]any{name: operands} }

func (g generator) flag() map[string]any {
	variants := map[string]any{}
	for _, name := range []string{"on", "off", "true", "false", "a", "b", "0", "1", "2", "-1", "1.5", "abc", "ab"} {
		variants[name] = name
	}
	flag := map[string]any{"state": "ENABLED", "variants": variants, "targeting": g.branches(3)}
	if g.IntN(3) > 0 {
		flag["defaultVariant"] = "off"
	}
	return flag
}

func (g generator) branches(depth int) any {
	if g.IntN(6) == 0 {
		return g.any(depth)
	}
	operands := []any{g.boolean(depth), g.text(depth - 1)}
	for range g.IntN(3) {
		operands = append(operands, g.any(depth-1))
	}
	return op(pick(g, "if", "?:"), operands...)
}

func (g generator) any(depth int) any {
	if depth <= 0 {
		return pick[any](g, nil, true, false, 0, 1, 1.5, -1, "on", "off", "a", "", "1", "abc", g.variable())
	}
	return pick(g, g.boolean, g.number, g.text, g.branches)(depth)
}

func (g generator) boolean(depth int) any {
	if depth <= 0 {
		return pick[any](g, true, false, g.variable())
	}
	depth--
	switch g.IntN(12) {
	case 0:
		return op(pick(g, "and", "or"), g.any(depth), g.boolean(depth), g.boolean(depth))
	case 1:
		return op(pick(g, "!", "!!"), g.any(depth))
	case 2:
		return map[string]any{pick(g, "!", "!!"): g.any(depth)}
	case 3, 4:
		return op(pick(g, "==", "!=", "===", "!=="), g.any(depth), g.any(depth))
	case 5:
		return op(pick(g, "<", "<=", ">", ">="), g.any(depth), g.any(depth))
	case 6:
		return op(pick(g, "<", "<=", ">", ">="), g.any(depth), g.any(depth), g.any(depth))
	case 7:
		return op("in", g.any(depth), g.list(depth))
	case 8:
		return op("in", g.text(depth), pick[any](g, "abc", "on off", g.variable()))
	case 9:
		return op(pick(g, "all", "none", "some"), g.subject(depth), g.body(depth))
	case 10:
		return op(pick(g, "starts_with", "ends_with"), g.text(depth), pick[any](g, "", "a", "b", "x "))
	default:
		return op("sem_ver", g.version(), pick[any](g, "=", "!=", "<", "<=", ">", ">=", "^", "~", "=="), g.version())
	}
}

func (g generator) version() any {
	return pick[any](g, "1.2.3", "v1.2", "V2", "1.2.4-rc.1", "1.2.4+b", "2.0.0.0", 1.2, 2, "x", map[string]any{"var": "version"})
}

func (g generator) number(depth int) any {
	if depth <= 0 {
		return pick[any](g, 0, 1, 2, -1, 1.5, 18, 1e21, 1e-7, map[string]any{"var": pick(g, "n", "user.age")})
	}
	depth--
	switch g.IntN(4) {
	case 0:
		return op("reduce", g.subject(depth), op(pick(g, "+", "max", "min"), map[string]any{"var": "accumulator"}, map[string]any{"var": "current"}), g.number(0))
	case 1:
		return map[string]any{"+": pick[any](g, "3", "3.5", "x", map[string]any{"var": "n"})}
	default:
		return op(pick(g, "+", "-", "*", "/", "%", "max", "min"), g.number(depth), g.number(depth))
	}
}

func (g generator) text(depth int) any {
	if depth <= 0 {
		return pick[any](g, "on", "off", "a", "b", "abc", " x ", map[string]any{"var": pick(g, "s", "user.name", "targetingKey", "$flagd.flagKey")})
	}
	depth--
	switch g.IntN(5) {
	case 0:
		return op("cat", g.text(depth), g.number(0), g.text(0))
	case 1:
		return op("substr", g.text(depth), pick[any](g, 0, 1, -1, -2, 5, "1"))
	case 2:
		return op("substr", g.text(depth), pick[any](g, 0, 1), pick[any](g, 0, 1, 2, -1, 9))
	case 3:
		return g.fractional(depth)
	default:
		return g.branches(depth)
	}
}

func (g generator) fractional(depth int) any {
	var operands []any
	switch g.IntN(4) {
	case 0:
		operands = append(operands, g.text(depth))
	case 1:
		operands = append(operands, nil)
	case 2:
		operands = append(operands, op("cat", map[string]any{"var": "$flagd.flagKey"}, map[string]any{"var": "user.name"}))
	}
	for range 1 + g.IntN(3) {
		share := []any{pick[any](g, "on", "off", "a", true, 1, nil)}
		if g.IntN(3) > 0 {
			share = append(share, pick[any](g, 1, 50, 0, -3, 1.5, nil, "1", 2147483647, map[string]any{"var": "n"}))
		}
		operands = append(operands, share)
	}
	return op("fractional", operands...)
}

func (g generator) list(depth int) any {
	switch g.IntN(4) {
	case 0:
		return op(pick(g, "map", "filter"), g.subject(depth), g.body(depth))
	case 1:
		return op("merge", g.any(depth), map[string]any{"var": "list"}, []any{1, "a"})
	case 2:
		return pick[any](g, op("missing", "s", "nope", "user.name"), op("missing_some", 1, []any{"n", "nope"}), map[string]any{"var": "list"})
	default:
		return []any{"a", "on", 1, "1", true, nil, []any{2, 5}, "abc"}[g.IntN(8):]
	}
}

func (g generator) subject(depth int) any {
	if g.IntN(4) == 0 {
		return g.list(depth)
	}
	return map[string]any{"var": pick(g, "list", "names", "numbers", "users", "nope")}
}

// body reads items, and names that exist both around a loop and in its items.
func (g generator) body(depth int) any {
	item := map[string]any{"var": pick(g, "", "name", "age", "s", "user.name", "$flagd.flagKey", "accumulator")}
	switch g.IntN(4) {
	case 0:
		return op(pick(g, "==", ">", "<=", "!="), item, pick[any](g, "a", 1, "b", map[string]any{"var": "s"}))
	case 1:
		return op("in", item, pick[any](g, "abc", []any{"a", 1, "x"}, map[string]any{"var": "names"}))
	case 2:
		if depth > 0 {
			return op(pick(g, "some", "none", "all"), map[string]any{"var": pick(g, "roles", "names")}, op("==", map[string]any{"var": pick(g, "", "name", "s")}, "a"))
		}
	}
	return op("!!", item)
}

func (g generator) variable() any {
	path := pick(g, "s", "n", "b", "nope", "user", "user.name", "user.age", "list", "list.1", "list.x", "users.0.name", "zero", "targetingKey", "$flagd.flagKey", "$flagd.other")
	switch g.IntN(5) {
	case 0:
		return map[string]any{"var": []any{path, pick[any](g, "a", 1, nil, true)}}
	case 1:
		return map[string]any{"var": []any{path}}
	default:
		return map[string]any{"var": path}
	}
}

func (g generator) context() map[string]any {
	c := map[string]any{
		"s": pick[any](g, "a", "abc", "", " ", "1", "1.5", "on"), "b": pick[any](g, true, false, nil), "n": pick[any](g, 0, 1, 2, 18, -1, 1.5),
		"zero": 0, "version": pick[any](g, "1.2.3", "1.3.0-beta", "v2", "junk", nil, 1.2),
		"user":    map[string]any{"name": pick[any](g, "a", "bob", nil), "age": pick[any](g, 18, "18", 1)},
		"list":    pick[any](g, []any{}, []any{"a", 1, nil, true}, []any{[]any{1, 3}, "on"}),
		"names":   pick[any](g, []any{"a", "b"}, []any{"abc"}),
		"numbers": []any{1, 2.5, -1, "4"},
		"users": []any{
			map[string]any{"name": "a", "age": 3, "roles": []any{"a", "x"}}, map[string]any{"name": pick[any](g, "b", nil), "s": "q", "roles": []any{}},
		},
	}
	if g.IntN(4) > 0 {
		c["targetingKey"] = pick[any](g, "bob", "alice", "", "x ", 5)
	}
	return c
}
