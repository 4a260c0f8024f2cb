package eval_test

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

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
		if !holds && (len(name) == 1 || !looseEqual(a, b)) {
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
	var joined strings.Builder
	for _, arg := range args {
		s, ok := text(arg)
		if !ok {
			return nil
		}
		joined.WriteString(s)
	}
	if len(args) > 1 {
		return strings.TrimSpace(joined.String())
	}
	return joined.String()
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
