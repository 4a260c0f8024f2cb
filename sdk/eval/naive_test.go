package eval_test

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
)

// naive evaluates a flag as the specification tells it, over decoded JSON and
// with nothing compiled: slow, allocating, and near enough to the prose to be
// checked by reading. It shares no code with the package.
type naive struct {
	flagKey string
	v3      bool
}

type outcome struct {
	Variant, Reason, Code string
}

// evaluate is §3 of the language, for a flag without references.
func (n naive) evaluate(flag, context map[string]any, t int64) outcome {
	if flag["state"] == "DISABLED" {
		return outcome{Reason: "DISABLED"}
	}
	variants := flag["variants"].(map[string]any)
	byDefault := outcome{Reason: "DEFAULT"}
	if name, _ := flag["defaultVariant"].(string); name != "" {
		byDefault.Variant = name
	}
	targeting := flag["targeting"]
	if m, ok := targeting.(map[string]any); targeting == nil || ok && len(m) == 0 {
		if byDefault.Variant != "" {
			byDefault.Reason = "STATIC"
		}
		return byDefault
	}
	data := map[string]any{}
	maps.Copy(data, context)
	data["$flagd"] = map[string]any{"flagKey": n.flagKey, "timestamp": float64(t)}
	var name string
	switch result := n.eval(targeting, data).(type) {
	case nil:
		return byDefault
	case string:
		name = result
	case bool:
		name = strconv.FormatBool(result)
	case float64:
		if math.IsNaN(result) || math.IsInf(result, 0) {
			return byDefault
		}
		printed, _ := json.Marshal(result)
		name = string(printed)
	default:
		return outcome{Reason: "ERROR", Code: "GENERAL"}
	}
	if _, ok := variants[name]; !ok {
		return outcome{Reason: "ERROR", Code: "GENERAL"}
	}
	return outcome{Variant: name, Reason: "TARGETING_MATCH"}
}

// known is a value that stands in a rule where a variable was; it is data even
// if it looks like a rule.
type known struct{ value any }

func (n naive) eval(rule, data any) any {
	switch rule := rule.(type) {
	case known:
		return rule.value
	case []any:
		items := []any{}
		for _, item := range rule {
			items = append(items, n.eval(item, data))
		}
		return items
	case map[string]any:
		if len(rule) == 1 {
			for name, operand := range rule {
				return n.apply(name, operand, data)
			}
		}
	}
	return rule
}

// apply runs an operator. The first group sees its operands unevaluated.
func (n naive) apply(name string, operand, data any) any {
	switch raw, _ := operand.([]any); name {
	case "if", "?:":
		for len(raw) > 1 {
			if truthy(n.eval(raw[0], data)) {
				return n.eval(raw[1], data)
			}
			raw = raw[2:]
		}
		if len(raw) == 1 {
			return n.eval(raw[0], data)
		}
		return nil
	case "and":
		var last any
		for _, item := range raw {
			if last = n.eval(item, data); !truthy(last) {
				return last
			}
		}
		return last
	case "or":
		var last any
		for _, item := range raw {
			if last = n.eval(item, data); truthy(last) {
				return last
			}
		}
		return last
	case "var":
		return n.variable(n.eval(operand, data), data)
	case "map", "filter", "reduce", "all", "none", "some":
		return n.loop(name, raw, data)
	}
	args, ok := n.eval(operand, data).([]any)
	if !ok {
		args = []any{n.eval(operand, data)}
	}
	arg := func(i int) any {
		if i < len(args) {
			return args[i]
		}
		return nil
	}
	switch name {
	case "!":
		return !truthy(arg(0))
	case "!!":
		return truthy(arg(0))
	case "==":
		return len(args) > 1 && looseEqual(args[0], args[1])
	case "!=":
		return len(args) < 2 || !looseEqual(args[0], args[1])
	case "===":
		return len(args) > 1 && strictEqual(args[0], args[1])
	case "!==":
		return len(args) < 2 || !strictEqual(args[0], args[1])
	case "<", "<=", ">", ">=":
		return ordered(name, args)
	case "+", "-", "*", "/", "%", "max", "min":
		return arithmetic(name, args)
	case "cat":
		return cat(args)
	case "substr":
		return substr(args)
	case "merge":
		joined := []any{}
		for _, item := range args {
			if list, ok := item.([]any); ok {
				joined = append(joined, list...)
			} else {
				joined = append(joined, item)
			}
		}
		return joined
	case "in":
		return in(arg(0), arg(1))
	case "log":
		return arg(0)
	case "missing":
		return n.missing(args, data)
	case "missing_some":
		if len(args) < 2 {
			return nil
		}
		names, _ := args[1].([]any)
		absent := n.missing(names, data)
		if truncated(number(args[0])) > float64(len(names)-len(absent)) {
			return absent
		}
		return []any{}
	case "starts_with", "ends_with":
		s, ok1 := arg(0).(string)
		affix, ok2 := arg(1).(string)
		if len(args) != 2 || !ok1 || !ok2 {
			return nil
		}
		if name == "starts_with" {
			return strings.HasPrefix(s, affix)
		}
		return strings.HasSuffix(s, affix)
	case "sem_ver":
		return semVer(args)
	case "fractional":
		return n.fractional(args, operand, data)
	}
	panic("unknown operator " + name)
}

func (n naive) missing(names []any, data any) []any {
	absent := []any{}
	for _, name := range names {
		if n.variable(name, data) == nil {
			absent = append(absent, name)
		}
	}
	return absent
}

// variable looks up an evaluated operand of var.
func (n naive) variable(operand, data any) any {
	if operand == nil {
		switch data.(type) {
		case bool, float64, string:
			return data
		}
		return nil
	}
	var fallback any
	if list, ok := operand.([]any); ok {
		if len(list) == 0 {
			return data
		}
		if len(list) == 2 {
			fallback = list[1]
		}
		operand = list[0]
	}
	var path string
	switch p := operand.(type) {
	case string:
		path = p
	case float64:
		path = strconv.FormatFloat(p, 'f', -1, 64)
	default:
		return fallback
	}
	at := data
	for name := range strings.SplitSeq(path, ".") {
		if name == "" {
			continue
		}
		switch in := at.(type) {
		case map[string]any:
			at = in[name]
		case []any:
			index := truncated(number(name))
			if index < 0 || index >= float64(len(in)) {
				return fallback
			}
			at = in[int(index)]
		default:
			return fallback
		}
	}
	if at == nil {
		return fallback
	}
	return at
}

// loop runs a body over a list. As in flagd, variables of the body are first
// looked for around the loop (filter, none, some) and in the item (all, some).
func (n naive) loop(name string, raw []any, data any) any {
	if len(raw) < 2 || name == "reduce" && len(raw) < 3 {
		if name == "reduce" {
			return 0.0
		}
		return []any{}
	}
	var items []any
	switch subject := raw[0].(type) {
	case []any:
		items = subject // data, not evaluated
	case map[string]any, known:
		items, _ = n.eval(subject, data).([]any)
	}
	body := raw[1]
	if name == "filter" || name == "none" || name == "some" {
		body = n.solve(body, data)
	}
	if name == "reduce" {
		return n.reduce(raw[0], body, n.eval(raw[2], data), data)
	}
	yielded, kept := []any{}, []any{}
	holds := 0
	for _, item := range items {
		b := body
		if name == "all" || name == "some" {
			b = n.solve(body, item)
		}
		v := n.eval(b, item)
		yielded = append(yielded, v)
		if truthy(v) {
			kept = append(kept, item)
			holds++
		}
	}
	switch name {
	case "map":
		return yielded
	case "filter":
		return kept
	case "all":
		return holds == len(items) && len(items) > 0
	case "some":
		return holds > 0
	default:
		return holds == 0
	}
}

func (n naive) reduce(subject, body, accumulator, data any) any {
	var word string
	switch accumulator.(type) {
	case bool:
		word = "bool"
	case float64:
		word = "number"
	case string:
		word = "string"
	default:
		return nil
	}
	items, ok := subject.([]any)
	if !ok {
		if items, ok = n.eval(subject, data).([]any); !ok {
			return 0.0
		}
	}
	for _, item := range items {
		if item == nil {
			continue
		}
		v := n.eval(body, map[string]any{"current": item, "accumulator": accumulator, "valueType": word})
		switch word {
		case "bool":
			accumulator = truthy(v)
		case "number":
			accumulator = number(v)
		default:
			text, _ := text(v)
			accumulator = text
		}
	}
	return accumulator
}

// solve puts what variables find in data in their place, all through a rule.
func (n naive) solve(rule, data any) any {
	switch rule := rule.(type) {
	case []any:
		solved := []any{}
		for _, item := range rule {
			solved = append(solved, n.solve(item, data))
		}
		return solved
	case map[string]any:
		if len(rule) != 1 {
			return rule
		}
		for name, operand := range rule {
			if name != "var" {
				return map[string]any{name: n.solve(operand, data)}
			}
			if path, ok := operand.(string); ok && (path == "" || strings.HasPrefix(path, ".")) {
				return rule
			}
			if v := n.variable(n.eval(operand, data), data); v != nil {
				return known{v}
			}
		}
	}
	return rule
}
