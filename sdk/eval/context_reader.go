package eval

import (
	"encoding/json"
	"math"
	"reflect"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"
)

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
		return readObject(r, x, depth, (*contextReader).value)
	case []any:
		return readList(r, x, depth, (*contextReader).value)
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
		if err := r.enter(0, depth); err != nil {
			return null, err
		}
		return r.value(x.Elem().Interface(), depth-1)
	case reflect.Slice, reflect.Array:
		items := make([]any, x.Len())
		for i := range items {
			items[i] = x.Index(i).Interface()
		}
		return r.value(items, depth)
	case reflect.Map:
		if x.Type().Key().Kind() != reflect.String {
			break
		}
		members := make(map[string]any, x.Len())
		for it := x.MapRange(); it.Next(); {
			members[it.Key().String()] = it.Value().Interface()
		}
		return r.value(members, depth)
	default:
	}
	return null, placed("", "a value of type %s has no place in an evaluation context", x.Type())
}

func (r *contextReader) protobuf(v *structpb.Value, depth int) (value, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return textValue(k.StringValue), nil
	case *structpb.Value_BoolValue:
		return booleanValue(k.BoolValue), nil
	case *structpb.Value_NumberValue:
		return finite(k.NumberValue)
	case *structpb.Value_StructValue:
		return readObject(r, k.StructValue.GetFields(), depth, (*contextReader).protobuf)
	case *structpb.Value_ListValue:
		return readList(r, k.ListValue.GetValues(), depth, (*contextReader).protobuf)
	default:
		return null, nil
	}
}

// enter accounts for n values one level deeper.
func (r *contextReader) enter(n, depth int) error {
	if depth == 0 {
		return placed("", "nests deeper than %d", maxContextDepth)
	}
	if r.left -= n; r.left < 0 {
		return placed("", "has more than %d values", maxContextValues)
	}
	return nil
}

func readObject[V any](r *contextReader, members map[string]V, depth int, read func(*contextReader, V, int) (value, error)) (value, error) {
	if err := r.enter(len(members), depth); err != nil {
		return null, err
	}
	fields := make([]field, 0, len(members))
	for key, member := range members {
		v, err := read(r, member, depth-1)
		if err != nil {
			return null, within(pathOf(key), err)
		}
		fields = append(fields, field{validText(key), v})
	}
	v, _, _ := objectValue(fields)
	return v, nil
}

func readList[V any](r *contextReader, items []V, depth int, read func(*contextReader, V, int) (value, error)) (value, error) {
	if err := r.enter(len(items), depth); err != nil {
		return null, err
	}
	values := make([]value, len(items))
	for i, item := range items {
		v, err := read(r, item, depth-1)
		if err != nil {
			return null, within(pathOf(i), err)
		}
		values[i] = v
	}
	return listValue(values), nil
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
