package eval

import (
	"fmt"

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

var targetingKeyHash = hashKey(targetingKeyName)

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
	made := &struct { // in one piece: the reader would be one of its own
		Context
		reader contextReader
	}{reader: contextReader{left: maxContextValues}}
	v, err := made.reader.value(attributes, maxContextDepth)
	if err != nil {
		return nil, fmt.Errorf("evaluation context: %w", err)
	}
	made.attributes = v.ref
	return &made.Context, nil
}

// ContextFromStruct builds a context from a protobuf Struct, which it does not
// keep. Its bounds are those of [NewContext].
func ContextFromStruct(s *structpb.Struct) (*Context, error) {
	r := contextReader{left: maxContextValues}
	v, err := readObject(&r, s.GetFields(), maxContextDepth, (*contextReader).protobuf)
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
	v, _ := c.branch().find(targetingKeyHash, targetingKeyName)
	return v.str, v.shape() == shapeText
}

// Text returns the top-level attribute of that name; false means there is none,
// or one that is no string.
func (c *Context) Text(name string) (string, bool) {
	v, _ := c.branch().find(hashKey(name), name)
	return v.str, v.shape() == shapeText
}

// Attribute returns the top-level attribute of that name as decoded JSON; false
// means there is none. One that is null is there.
func (c *Context) Attribute(name string) (any, bool) {
	v, there := c.branch().find(hashKey(name), name)
	return v.toAny(), there
}

// Len returns the number of top-level attributes.
func (c *Context) Len() int {
	if c.branch() == nil {
		return 0
	}
	return len(c.attributes.fields)
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
