package eval_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
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
	for k, v := range context {
		data[k] = v
	}
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
		return !(len(args) > 1 && looseEqual(args[0], args[1]))
	case "===":
		return len(args) > 1 && strictEqual(args[0], args[1])
	case "!==":
		return !(len(args) > 1 && strictEqual(args[0], args[1]))
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

// fractional gets the operands evaluated, and as written to tell a list of the
// context, which is no share, from a share.
func (n naive) fractional(args []any, written, data any) any {
	object, ok := data.(map[string]any)
	if !ok || len(args) == 0 {
		return nil
	}
	_, shared := args[0].([]any)
	if list, ok := written.([]any); shared && ok {
		if rule, ok := list[0].(map[string]any); ok && rule["var"] != nil {
			return nil
		}
		if _, ok := list[0].(known); ok {
			return nil
		}
	}
	flagd, _ := object["$flagd"].(map[string]any)
	flagKey, _ := flagd["flagKey"].(string)
	targetingKey, keyed := object["targetingKey"].(string)
	var hashed []byte
	switch first := args[0].(type) {
	case []any:
		if !keyed || targetingKey == "" && !n.v3 {
			return nil
		}
		hashed = []byte(flagKey + targetingKey)
		if n.v3 {
			hashed = cbor([]any{flagKey, targetingKey})
		}
	case nil:
		if n.v3 || !keyed || targetingKey == "" {
			return nil
		}
		hashed, args = []byte(flagKey+targetingKey), args[1:]
	case string:
		hashed, args = []byte(first), args[1:]
		if n.v3 {
			hashed = cbor(first)
		}
	default:
		if !n.v3 {
			return nil
		}
		hashed, args = cbor(first), args[1:]
	}
	return naiveBucket(hashed, args)
}

func naiveBucket(hashed []byte, shares []any) any {
	var sum float64
	weights := make([]float64, len(shares))
	for i, share := range shares {
		pair, ok := share.([]any)
		if !ok || len(pair) == 0 {
			return nil
		}
		switch pair[0].(type) {
		case []any, map[string]any:
			return nil
		}
		weights[i] = 1
		if len(pair) > 1 && pair[1] != nil {
			w, ok := pair[1].(float64)
			if !ok || w != math.Trunc(w) || w > math.MaxInt32 {
				return nil
			}
			weights[i] = math.Max(w, 0)
		}
		sum += weights[i]
	}
	if sum > math.MaxInt32 || sum == 0 {
		return nil
	}
	bucket := float64((uint64(murmur(hashed)) * uint64(sum)) >> 32)
	end := 0.0
	for i, share := range shares {
		if end += weights[i]; bucket < end {
			return share.([]any)[0]
		}
	}
	return nil
}

// murmur is murmur3_x86_32 with seed 0, from the description of the algorithm.
func murmur(data []byte) uint32 {
	rotate := func(x uint32, by int) uint32 { return x<<by | x>>(32-by) }
	scramble := func(k uint32) uint32 { return rotate(k*0xcc9e2d51, 15) * 0x1b873593 }
	h, length := uint32(0), uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		h = rotate(h^scramble(binary.LittleEndian.Uint32(data)), 13)*5 + 0xe6546b64
	}
	tail := [4]byte{}
	copy(tail[:], data)
	h ^= scramble(binary.LittleEndian.Uint32(tail[:]))
	h ^= length
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// cbor is RFC 8949 §4.2.1 by way of trying every width.
func cbor(v any) []byte {
	head := func(major byte, n uint64) []byte {
		switch {
		case n < 24:
			return []byte{major<<5 | byte(n)}
		case n < 1<<8:
			return []byte{major<<5 | 24, byte(n)}
		case n < 1<<16:
			return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
		case n < 1<<32:
			return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
		}
		return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, n)
	}
	switch v := v.(type) {
	case bool:
		if v {
			return []byte{0xf5}
		}
		return []byte{0xf4}
	case string:
		return append(head(3, uint64(len(v))), v...)
	case []any:
		out := head(4, uint64(len(v)))
		for _, item := range v {
			out = append(out, cbor(item)...)
		}
		return out
	case map[string]any:
		var members [][]byte
		sizes := map[string]int{}
		for key, member := range v {
			k := cbor(key)
			members = append(members, append(k, cbor(member)...))
			sizes[string(members[len(members)-1])] = len(k)
		}
		slices.SortFunc(members, func(a, b []byte) int { return bytes.Compare(a[:sizes[string(a)]], b[:sizes[string(b)]]) })
		return append(head(5, uint64(len(v))), bytes.Join(members, nil)...)
	case float64:
		switch {
		case v == math.Trunc(v) && v >= 0 && v < math.Exp2(64):
			return head(0, uint64(v))
		case v == math.Trunc(v) && v < 0 && v >= -math.Exp2(63):
			return head(1, uint64(-(int64(v) + 1)))
		case math.IsNaN(v):
			return []byte{0xf9, 0x7e, 0}
		}
		for half := range 1 << 16 { // the only honest way to know
			if fromHalf(uint16(half)) == v {
				return binary.BigEndian.AppendUint16([]byte{0xf9}, uint16(half))
			}
		}
		if float64(float32(v)) == v {
			return binary.BigEndian.AppendUint32([]byte{0xfa}, math.Float32bits(float32(v)))
		}
		return binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(v))
	}
	return []byte{0xf6}
}

func fromHalf(h uint16) float64 {
	sign, exponent, fraction := 1-2*float64(h>>15), int(h>>10&31), float64(h&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

func semVer(args []any) any {
	if len(args) != 3 {
		return nil
	}
	read := func(v any) (string, bool) {
		var s string
		switch v := v.(type) {
		case string:
			s = v
		case float64:
			s = strconv.FormatFloat(v, 'g', -1, 64)
		default:
			return "", false
		}
		if !strings.HasPrefix(s, "v") {
			s = "v" + strings.TrimPrefix(s, "V")
		}
		return s, semver.IsValid(s)
	}
	a, ok1 := read(args[0])
	b, ok2 := read(args[2])
	if !ok1 || !ok2 {
		return nil
	}
	order := semver.Compare(a, b)
	switch args[1] {
	case "=":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "^":
		return semver.Major(a) == semver.Major(b)
	case "~":
		return semver.MajorMinor(a) == semver.MajorMinor(b)
	}
	return nil
}

func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

var numeric = regexp.MustCompile(`^[+-]?(\d|\.\d|(?i:inf)|(?i:nan))`)

// read reads a whole text as a number.
func read(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && numeric.MatchString(s)
}

// coerced is JavaScript's number of a value.
func coerced(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		if f, ok := read(v); ok {
			return f
		}
		if strings.TrimSpace(v) == "" {
			return 0
		}
	}
	return math.NaN()
}

// number is the number that arithmetic takes a value for.
func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case string:
		f, _ := strconv.ParseFloat(v, 64)
		return f
	}
	return math.NaN()
}

func truncated(f float64) float64 {
	if math.IsNaN(f) {
		return math.Inf(-1)
	}
	return math.Trunc(f)
}

func looseEqual(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, ok1 := a.(string)
	y, ok2 := b.(string)
	if ok1 && ok2 {
		return x == y
	}
	return coerced(a) == coerced(b)
}

func strictEqual(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	case float64:
		b, ok := b.(float64)
		return ok && a == b
	case string:
		b, ok := b.(string)
		return ok && a == b
	}
	return false
}

func ordered(name string, args []any) bool {
	if len(args) < 2 {
		return false
	}
	if name[0] == '>' {
		args = slices.Clone(args)
		if len(args) > 3 {
			args = args[:2]
		}
		slices.Reverse(args)
	} else if len(args) > 3 {
		args = args[:2]
	}
	for i := 1; i < len(args); i++ {
		a, b := args[i-1], args[i]
		x, ok1 := a.(string)
		y, ok2 := b.(string)
		holds := coerced(a) < coerced(b)
		if ok1 && ok2 {
			holds = x < y
		}
		if !holds && !(len(name) == 2 && looseEqual(a, b)) {
			return false
		}
	}
	return true
}

func arithmetic(name string, args []any) any {
	if len(args) == 0 {
		switch name {
		case "*":
			return 1.0
		case "max", "min":
			return nil
		case "%":
			return math.NaN()
		}
		return 0.0
	}
	xs := make([]float64, len(args))
	for i, arg := range args {
		xs[i] = number(arg)
	}
	if name == "%" {
		if len(xs) < 2 {
			return math.NaN()
		}
		return math.Mod(xs[0], xs[1])
	}
	if name == "-" && len(xs) == 1 {
		return -xs[0]
	}
	result := xs[0]
	for _, x := range xs[1:] {
		switch {
		case name == "+":
			result += x
		case name == "-":
			result -= x
		case name == "*":
			result *= x
		case name == "/":
			result /= x
		case name == "max" && x > result, name == "min" && x < result:
			result = x
		}
	}
	return result
}

// text is what cat makes of a value.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case string:
		return v, true
	}
	return "", false
}

func cat(args []any) any {
	joined := ""
	for _, arg := range args {
		s, ok := text(arg)
		if !ok {
			return nil
		}
		joined += s
	}
	if len(args) > 1 {
		joined = strings.TrimSpace(joined)
	}
	return joined
}

func substr(args []any) any {
	if len(args) < 2 {
		return nil
	}
	s, ok := text(args[0])
	if !ok {
		return nil
	}
	position := func(v any) bool {
		_, isNumber := v.(float64)
		_, isText := v.(string)
		return isNumber || isText
	}
	if !position(args[1]) {
		return nil
	}
	runes := []rune(s)
	count := float64(len(runes))
	from, to := truncated(number(args[1])), count
	if from < 0 {
		from += count
	}
	if from < 0 || from > count {
		return s
	}
	if len(args) == 3 {
		if !position(args[2]) {
			return nil
		}
		if to = truncated(number(args[2])); to < 0 {
			to += count
		} else {
			to += from
		}
	}
	to = math.Min(to, count)
	if to < from {
		return ""
	}
	return string(runes[int(from):int(to)])
}

func in(v, within any) bool {
	switch within := within.(type) {
	case string:
		s, ok := v.(string)
		return ok && strings.Contains(within, s)
	case []any:
		for _, item := range within {
			if ends, ok := item.([]any); ok {
				if len(ends) > 1 && number(v) >= number(ends[0]) && number(ends[1]) >= number(v) {
					return true
				}
				continue
			}
			if x, ok := v.(float64); ok {
				if number(item) == x {
					return true
				}
				continue
			}
			if strictEqual(v, item) {
				return true
			}
		}
	}
	return false
}
