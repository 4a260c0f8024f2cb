package eval

import (
	"errors"
	"fmt"
)

// ErrNotObject says that a text is not a JSON object.
var ErrNotObject = errors.New("not a JSON object")

// ContextFromMember builds a context from one member of the JSON object that a
// text is, such as the body of a request; without the member, or where it is
// null, and of empty text it is empty. Whatever else the object has is passed
// over. It reads as [ContextFromJSON] does and has its bounds. The error is
// [ErrNotObject], or says what is wrong with the context.
func ContextFromMember(text []byte, member string) (*Context, error) {
	if len(text) == 0 {
		return &Context{}, nil
	}
	p := parser{text: string(text), depth: maxContextDepth + 1}
	whole, err := p.document()
	if err == nil && whole.shape() != shapeObject {
		err = placed("", "is %s", whole.shape())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotObject, err)
	}
	v := whole.field(member)
	switch {
	case v.shape() == shapeNull:
		return &Context{}, nil
	case v.shape() != shapeObject:
		err = placed("", "must be an object")
	case v.count(maxContextValues) < 0:
		err = placed("", "has more than %d values", maxContextValues)
	}
	if err != nil {
		return nil, fmt.Errorf("evaluation context: %w", err)
	}
	return &Context{attributes: v.ref}, nil
}

// Merge returns a context that has the top-level attributes of both; where both
// have one, that of over stands.
func (c *Context) Merge(over *Context) *Context {
	switch {
	case over.branch() == nil || len(over.attributes.fields) == 0:
		return c
	case c.branch() == nil || len(c.attributes.fields) == 0:
		return over
	}
	merged := c.attributes
	for _, f := range over.attributes.fields {
		merged = merged.with(f).ref
	}
	return &Context{attributes: merged}
}

// AppendCanonical appends the attributes to dst in the form of [Canonical]:
// contexts that are alike are the same bytes.
func (c *Context) AppendCanonical(dst []byte) []byte {
	return appendCanonical(dst, objectOf(c.branch()))
}
