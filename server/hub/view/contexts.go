package view

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Contexts is what the operator adds to the evaluation contexts of all
// requests that are not pinned. The zero value adds nothing.
type Contexts struct {
	static  *eval.Context
	headers []mapping
}

// mapping makes an attribute of a request header.
type mapping struct{ header, attribute string }

// NewContexts takes attributes with fixed values, and request headers by the
// attributes that they are to become.
func NewContexts(static, fromHeader map[string]string) (Contexts, error) {
	attributes := make(map[string]any, len(static))
	for name, value := range static {
		if name == "" {
			return Contexts{}, fmt.Errorf("static context: %q has no name", "="+value)
		}
		attributes[name] = value
	}
	var c Contexts
	if len(attributes) > 0 {
		var err error
		if c.static, err = eval.NewContext(attributes); err != nil {
			return Contexts{}, err
		}
	}
	for header, attribute := range fromHeader {
		if header == "" || attribute == "" {
			return Contexts{}, fmt.Errorf("context from header: %q: want Header=attribute", header+"="+attribute)
		}
		c.headers = append(c.headers, mapping{http.CanonicalHeaderKey(header), attribute})
	}
	slices.SortFunc(c.headers, func(a, b mapping) int { return strings.Compare(a.header, b.header) })
	return c, nil
}

// Static is what is added whatever the request; nil is nothing.
func (c Contexts) Static() *eval.Context { return c.static }

// over lays the operator's attributes over those of a request: fixed values,
// and above them headers.
func (c Contexts) over(request *eval.Context, header http.Header) *eval.Context {
	merged := request.Merge(c.static)
	var mapped map[string]any
	for _, m := range c.headers {
		if values := header[m.header]; len(values) > 0 {
			if mapped == nil {
				mapped = make(map[string]any, len(c.headers))
			}
			mapped[m.attribute] = values[0]
		}
	}
	if mapped == nil {
		return merged
	}
	over, _ := eval.NewContext(mapped) // texts are always usable
	return merged.Merge(over)
}
