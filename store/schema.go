package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// kindConfig is the kind of the flags that may have a schema.
const kindConfig = "config"

func (o SetSchema) step() (step, error) {
	s := step{action: audit.ActionDescribeFlag, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}, describes: true, size: len(o.Schema)}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	var schema []byte
	if len(o.Schema) > 0 {
		var err error
		if s.schema, err = readSchema(o.Schema); err != nil {
			return s, err
		}
		schema = s.schema.text
	}
	s.key = func(f *flagDraft) error {
		if schema != nil && f.Kind != kindConfig {
			return &FieldError{"key", fmt.Sprintf("is of kind %s: only a flag of kind %s has a schema", f.Kind, kindConfig)}
		}
		f.Schema = schema
		return nil
	}
	return s, nil
}

func readSchema(raw []byte) (*schema, error) {
	text, err := eval.Canonical(raw)
	if err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	if len(text) > MaxSchemaBytes {
		return nil, &FieldError{"schema", fmt.Sprintf("is %d bytes, more than %d", len(text), MaxSchemaBytes)}
	}
	return compileSchema(text)
}

// alone is the loader of schemas that refer to no other document.
type alone struct{}

func (alone) Load(address string) (any, error) {
	return nil, fmt.Errorf("%q is another document; a schema must hold all that it refers to", address)
}

// schema is a JSON Schema that counts its steps. It judges one value at a time.
type schema struct {
	text     []byte // canonical
	compiled *jsonschema.Schema
	steps    *stepCounter
}

// compileSteps is what it costs to compile a schema.
func compileSteps(text []byte) int { return 100 + 2*len(text) }

// maxSubschemas bounds what could be one: the time to compile them grows with the
// square of their number.
const maxSubschemas = 4000

// subschemas counts what could be one in a document.
func subschemas(v any) int {
	n := 0
	switch v := v.(type) {
	case bool:
		n++
	case map[string]any:
		n++
		for _, member := range v {
			n += subschemas(member)
		}
	case []any:
		for _, item := range v {
			n += subschemas(item)
		}
	}
	return n
}

func compileSchema(text []byte) (*schema, error) {
	const address = "guidon:schema"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	if n := subschemas(document); n > maxSubschemas {
		return nil, &FieldError{"schema", fmt.Sprintf("has %d objects and booleans, more than %d", n, maxSubschemas)}
	}
	counter := &stepCounter{patterns: map[string]*pattern{}}
	var all []*jsonschema.Schema
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(alone{})
	c.UseRegexpEngine(counter.compilePattern)
	c.AssertVocabs()
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "guidon:steps", Compile: func(ctx *jsonschema.CompilerContext, _ map[string]any) (jsonschema.SchemaExt, error) {
		all = append(all, ctx.Enqueue(nil)) // the one that is being compiled
		return nil, nil
	}})
	if err := c.AddResource(address, document); err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	compiled, err := c.Compile(address)
	if err != nil {
		return nil, &FieldError{"schema", short(strings.NewReplacer(address, "", "urn:mem:metaschema", "https://json-schema.org").Replace(err.Error()))}
	}
	counter.watch(all)
	return &schema{text, compiled, counter}, nil
}

type failure struct{ path, message string }

const (
	// maxFailures bounds how many failures of one definition are looked for.
	maxFailures = 1000
	// maxFailureBytes bounds the text of one: it may list all that was wanted.
	maxFailureBytes = 500
)

// failures lists where the variants of a flag do not meet the schema, in as many
// steps as are left. An error is that they were not enough.
func (s *schema) failures(document []byte, left *int) ([]failure, error) {
	var d struct {
		Flag struct {
			Variants map[string]json.RawMessage `json:"variants"`
		} `json:"flag"`
	}
	if json.Unmarshal(document, &d) != nil {
		return nil, nil //nolint:nilerr // the evaluator says what is wrong
	}
	var out []failure
	for _, variant := range slices.Sorted(maps.Keys(d.Flag.Variants)) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.Flag.Variants[variant]))
		if err != nil {
			continue
		}
		root := "$.flag.variants[" + strconv.Quote(variant) + "]"
		limit := min(*left, maxValueSteps)
		invalid, taken := s.validate(value, limit)
		if taken > limit && limit < maxValueSteps {
			*left = 0
			return nil, errTooLong
		}
		*left -= min(taken, limit)
		if taken > limit {
			out = append(out, failure{root, errTooLong.Error()})
		} else if invalid != nil {
			collect(invalid, root, &out)
		}
		if len(out) >= maxFailures {
			break
		}
	}
	slices.SortFunc(out, func(a, b failure) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.message, b.message))
	})
	return slices.Compact(out), nil
}

// validate says what is wrong with a value, and how many steps that took: more
// than limit if it did not come to an end.
func (s *schema) validate(value any, limit int) (invalid *jsonschema.ValidationError, taken int) {
	s.steps.left = limit
	defer func() {
		taken = limit - s.steps.left
		if panicked := recover(); panicked != nil && panicked != errTooLong { //nolint:errorlint // not as an error
			panic(panicked)
		}
	}()
	s.steps.take(entry(s.compiled))
	invalid, _ = errors.AsType[*jsonschema.ValidationError](s.compiled.Validate(value))
	return invalid, 0
}

// collect gathers the innermost causes.
func collect(e *jsonschema.ValidationError, root string, out *[]failure) {
	for _, cause := range e.Causes {
		if len(*out) >= maxFailures {
			return
		}
		collect(cause, root, out)
	}
	if len(e.Causes) > 0 {
		return
	}
	var path strings.Builder
	path.WriteString(root)
	for _, member := range e.InstanceLocation {
		if _, err := strconv.Atoi(member); err != nil {
			member = strconv.Quote(member)
		}
		path.WriteString("[" + member + "]")
	}
	text := short(e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
	if _, ok := e.ErrorKind.(*kind.FalseSchema); ok {
		text = "is not allowed by the schema"
	}
	*out = append(*out, failure{path.String(), text})
}

// short cuts a text that lists too much.
func short(text string) string {
	if len(text) > maxFailureBytes {
		text = strings.ToValidUTF8(text[:maxFailureBytes], "") + "…"
	}
	return text
}
