package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"
)

// The bounds of an evaluation context. They keep one evaluation short whatever a
// caller sends.
const (
	maxContextDepth  = 32
	maxContextValues = 10_000
)

// targetingKeyName is the attribute that names the subject of an evaluation.
const targetingKeyName = "targetingKey"

// Context is an evaluation context: attributes in the form the evaluator reads.
// It is built once, never changes, and may be read by any number of goroutines.
// A nil *Context is a valid empty one.
//
// "targetingKey" is an ordinary top-level attribute. A "$flagd" attribute is
// ignored: the evaluator puts flag key and time there.
type Context struct {
	attributes *branch
}

// NewContext builds a context from decoded JSON or from Go values: numbers of
// every kind become float64, a [time.Time] becomes RFC 3339 text, slices and
// maps with string keys become lists and objects, U+FFFD replaces what is no
// UTF-8. A value of another type, NaN and the infinities, nesting deeper than 32
// and more than 10,000 values in all are an error that names the attribute's
// path. The map is not kept.
func NewContext(attributes map[string]any) (*Context, error) {
	if len(attributes) == 0 {
		return &Context{}, nil
	}
	r := contextReader{left: maxContextValues}
	v, err := r.value(attributes, maxContextDepth)
	if err != nil {
		return nil, fmt.Errorf("evaluation context: %w", err)
	}
	return &Context{attributes: v.ref}, nil
}

// ContextFromStruct builds a context from a protobuf Struct, which it does not
// keep. Its bounds are those of [NewContext].
func ContextFromStruct(s *structpb.Struct) (*Context, error) {
	r := contextReader{left: maxContextValues}
	v, err := r.structure(s, maxContextDepth)
	if err != nil {
		return nil, fmt.Errorf("evaluation context: %w", err)
	}
	return &Context{attributes: v.ref}, nil
}

// ContextFromJSON builds a context from the text of a JSON object, reading it as
// encoding/json would: of a repeated key the last stands. Empty text and null
// are an empty context. Its bounds are those of [NewContext].
func ContextFromJSON(text []byte) (*Context, error) {
	if len(text) == 0 {
		return &Context{}, nil
	}
	v, err := parseLenient(text)
	if err == nil && v.shape() != shapeObject && v.shape() != shapeNull {
		err = placed("", "must be an object")
	}
	if err == nil && v.count(maxContextValues) < 0 {
		err = placed("", "has more than %d values", maxContextValues)
	}
	if err != nil {
		return nil, fmt.Errorf("evaluation context: %w", err)
	}
	return &Context{attributes: v.ref}, nil
}

// count subtracts the number of values inside v from left.
func (v value) count(left int) int {
	if v.ref == nil || left < 0 {
		return left
	}
	left -= len(v.ref.items) + len(v.ref.fields)
	for i := range v.ref.items {
		left = v.ref.items[i].count(left)
	}
	for i := range v.ref.fields {
		left = v.ref.fields[i].value.count(left)
	}
	return left
}

// TargetingKey returns the targeting key; false means there is none, or one that
// is no string.
func (c *Context) TargetingKey() (string, bool) {
	v := textAt(c.branch(), targetingKeyName)
	return v.str, v.shape() == shapeText
}

// Value returns what {"var": path} would read at the top of a rule, as decoded
// JSON; false means it is absent or null.
func (c *Context) Value(path string) (any, bool) {
	v := newPath(path).in(objectOf(c.branch()))
	return v.toAny(), v.shape() != shapeNull
}

// Map returns the attributes as decoded JSON in a fresh map.
func (c *Context) Map() map[string]any {
	if c.branch() == nil {
		return map[string]any{}
	}
	return value{ref: c.attributes}.toAny().(map[string]any)
}

func (c *Context) branch() *branch {
	if c == nil {
		return nil
	}
	return c.attributes
}

var targetingKeyHash = hashKey(targetingKeyName)

func textAt(b *branch, key string) value {
	v, _ := b.find(hashKey(key), key)
	return v
}

// contextReader converts Go values, within bounds.
type contextReader struct{ left int }

func (r *contextReader) value(x any, depth int) (value, error) {
	switch x := x.(type) {
	case nil:
		return null, nil
	case string:
		return textValue(validText(x)), nil
	case bool:
		return booleanValue(x), nil
	case float64:
		return finite(x)
	case int:
		return numberValue(float64(x)), nil
	case int64:
		return numberValue(float64(x)), nil
	case map[string]any:
		return r.object(len(x), depth, func(yield func(string, any) bool) {
			for key, member := range x {
				if !yield(key, member) {
					return
				}
			}
		})
	case []any:
		return r.list(len(x), depth, func(i int) any { return x[i] })
	case json.Number:
		f, err := x.Float64()
		if err != nil {
			return null, placed("", "%q is not a number within the range of float64", x.String())
		}
		return finite(f)
	case time.Time:
		return textValue(x.Format(time.RFC3339Nano)), nil
	}
	return r.reflected(reflect.ValueOf(x), depth)
}

// reflected takes the named and the rarer types.
func (r *contextReader) reflected(x reflect.Value, depth int) (value, error) {
	switch x.Kind() {
	case reflect.Bool:
		return booleanValue(x.Bool()), nil
	case reflect.String:
		return textValue(validText(x.String())), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return numberValue(float64(x.Int())), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return numberValue(float64(x.Uint())), nil
	case reflect.Float32, reflect.Float64:
		return finite(x.Float())
	case reflect.Pointer:
		if x.IsNil() {
			return null, nil
		}
		if depth == 0 {
			return null, placed("", "nests deeper than %d", maxContextDepth)
		}
		return r.value(x.Elem().Interface(), depth-1)
	case reflect.Slice, reflect.Array:
		return r.list(x.Len(), depth, func(i int) any { return x.Index(i).Interface() })
	case reflect.Map:
		if x.Type().Key().Kind() == reflect.String {
			return r.object(x.Len(), depth, func(yield func(string, any) bool) {
				for it := x.MapRange(); it.Next() && yield(it.Key().String(), it.Value().Interface()); {
				}
			})
		}
	default:
	}
	return null, placed("", "a value of type %s has no place in an evaluation context", x.Type())
}

func (r *contextReader) structure(s *structpb.Struct, depth int) (value, error) {
	fields := s.GetFields()
	return r.object(len(fields), depth, func(yield func(string, any) bool) {
		for key, member := range fields {
			if !yield(key, member) {
				return
			}
		}
	})
}

func (r *contextReader) member(x any, depth int) (value, error) {
	v, ok := x.(*structpb.Value)
	if !ok {
		return r.value(x, depth)
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return textValue(k.StringValue), nil
	case *structpb.Value_BoolValue:
		return booleanValue(k.BoolValue), nil
	case *structpb.Value_NumberValue:
		return finite(k.NumberValue)
	case *structpb.Value_StructValue:
		return r.structure(k.StructValue, depth)
	case *structpb.Value_ListValue:
		items := k.ListValue.GetValues()
		return r.list(len(items), depth, func(i int) any { return items[i] })
	default:
		return null, nil
	}
}

func (r *contextReader) object(n, depth int, each func(func(string, any) bool)) (value, error) {
	if err := r.enter(n, depth); err != nil {
		return null, err
	}
	fields := make([]field, 0, n)
	for key, x := range each {
		v, err := r.member(x, depth-1)
		if err != nil {
			return null, within(pathOf(key), err)
		}
		fields = append(fields, field{validText(key), v})
	}
	v, _, _ := objectValue(fields)
	return v, nil
}

func (r *contextReader) list(n, depth int, item func(int) any) (value, error) {
	if err := r.enter(n, depth); err != nil {
		return null, err
	}
	items := make([]value, n)
	for i := range items {
		v, err := r.member(item(i), depth-1)
		if err != nil {
			return null, within(pathOf(i), err)
		}
		items[i] = v
	}
	return listValue(items), nil
}

func (r *contextReader) enter(n, depth int) error {
	if depth == 0 {
		return placed("", "nests deeper than %d", maxContextDepth)
	}
	if r.left -= n; r.left < 0 {
		return placed("", "has more than %d values", maxContextValues)
	}
	return nil
}

// validText replaces what is no UTF-8 as encoding/json does.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

func finite(f float64) (value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return null, placed("", "%v is not a number that JSON can carry", f)
	}
	return numberValue(f), nil
}
