package store

import (
	"bytes"
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
		if schema, err = canonicalSchema(o.Schema); err != nil {
			return s, err
		}
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

func canonicalSchema(raw []byte) ([]byte, error) {
	schema, err := eval.Canonical(raw)
	if err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	if len(schema) > MaxSchemaBytes {
		return nil, &FieldError{"schema", fmt.Sprintf("is %d bytes, more than %d", len(schema), MaxSchemaBytes)}
	}
	if _, err := compileSchema(schema); err != nil {
		return nil, err
	}
	return schema, nil
}

// alone is the loader of schemas that refer to no other document.
type alone struct{}

func (alone) Load(address string) (any, error) {
	return nil, fmt.Errorf("%q is another document; a schema must hold all that it refers to", address)
}

func compileSchema(schema []byte) (*jsonschema.Schema, error) {
	const address = "guidon:schema"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(alone{})
	if err := c.AddResource(address, document); err != nil {
		return nil, &FieldError{"schema", err.Error()}
	}
	compiled, err := c.Compile(address)
	if err != nil {
		return nil, &FieldError{"schema", strings.ReplaceAll(err.Error(), address, "")}
	}
	return compiled, nil
}

// conform checks the values of flags that have a schema: of each flag that
// changed, and in all environments where the schema did.
func (d *draft) conform() error {
	for _, key := range slices.Sorted(maps.Keys(d.flags)) {
		f := d.flags[key]
		if f.Schema == nil {
			continue
		}
		fresh := f.stored == nil || !bytes.Equal(f.stored.Schema, f.Schema)
		compiled, err := compileSchema(f.Schema)
		if err != nil {
			return err
		}
		name := eval.Name{Kind: eval.KindFlag, Name: key}
		for _, env := range slices.Sorted(maps.Keys(d.environments)) {
			r := d.environments[env].rows[name]
			if r == nil || r.document == nil || !fresh && !r.changed() {
				continue
			}
			index := f.step
			if r.changed() {
				index = r.step
			}
			for _, p := range failures(compiled, r.document) {
				d.refused.add(&OperationError{Index: index, Environment: env, Name: name, Path: p.path, Err: invalidError(p.message)})
			}
		}
	}
	return nil
}

type failure struct{ path, message string }

// failures lists where the variants of a flag do not meet a schema.
func failures(schema *jsonschema.Schema, document []byte) []failure {
	var d struct {
		Flag struct {
			Variants map[string]json.RawMessage `json:"variants"`
		} `json:"flag"`
	}
	if json.Unmarshal(document, &d) != nil {
		return nil // the evaluator says what is wrong
	}
	var out []failure
	for _, variant := range slices.Sorted(maps.Keys(d.Flag.Variants)) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.Flag.Variants[variant]))
		if err != nil {
			continue
		}
		if invalid, ok := errors.AsType[*jsonschema.ValidationError](schema.Validate(value)); ok {
			collect(invalid, "$.flag.variants["+strconv.Quote(variant)+"]", &out)
		}
	}
	return out
}

// collect gathers the innermost causes.
func collect(e *jsonschema.ValidationError, root string, out *[]failure) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			collect(cause, root, out)
		}
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
	text := e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
	if _, ok := e.ErrorKind.(*kind.FalseSchema); ok {
		text = "is not allowed by the schema"
	}
	*out = append(*out, failure{path.String(), text})
}
