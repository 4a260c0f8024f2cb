package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// output is the flag --output: how results are printed. The zero value is a
// table.
type output struct{ json bool }

func (o *output) String() string {
	if o.json {
		return "json"
	}
	return "table"
}

func (o *output) Set(s string) error {
	switch s {
	case "table", "json":
		o.json = s == "json"
		return nil
	}
	return fmt.Errorf("it is table or json")
}

func (o *output) Type() string { return "format" }

// print writes v as indented JSON, or the rows that fill adds as a table.
func (o *output) print(w io.Writer, v any, fill func(t *table)) error {
	if o.json {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	var t table
	fill(&t)
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := columns.Write(t.text.Bytes()); err != nil {
		return err
	}
	return columns.Flush()
}

// table collects rows, the cells of which will stand in columns.
type table struct{ text bytes.Buffer }

func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			t.text.WriteByte('\t')
		}
		if raw, ok := c.(json.RawMessage); ok {
			c = string(raw)
		}
		t.text.WriteString(cell(fmt.Sprint(c)))
	}
	t.text.WriteByte('\n')
}

// cell keeps text that other people wrote (reasons, names) from moving the
// cursor or breaking a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// when prints a time for people; - for none.
func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.DateTime + "Z")
}

// message prints as its proto JSON (lowerCamelCase, defaults included), except
// that 64-bit integers are numbers: a revision is one, and stays far below 2^53.
type message struct{ m proto.Message }

func (m message) MarshalJSON() ([]byte, error) { return appendMessage(nil, m.m.ProtoReflect()) }

// list prints as {name: [messages…]}.
func list[M proto.Message](name string, items []M) map[string]any {
	messages := make([]message, len(items))
	for i, item := range items {
		messages[i] = message{item}
	}
	return map[string]any{name: messages}
}

func appendMessage(b []byte, m protoreflect.Message) ([]byte, error) {
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		wellKnown, err := protojson.Marshal(m.Interface())
		return append(b, wellKnown...), err
	}
	fields := m.Descriptor().Fields()
	b = append(b, '{')
	first := true
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.HasPresence() && !m.Has(f) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, f.JSONName()...)
		b = append(b, `":`...)
		var err error
		if b, err = appendField(b, f, m.Get(f)); err != nil {
			return nil, fmt.Errorf("%s: %w", f.FullName(), err)
		}
	}
	return append(b, '}'), nil
}

func appendField(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	var err error
	switch {
	case f.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendValue(b, f, v.List().Get(i)); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case f.IsMap():
		var keys []protoreflect.MapKey
		for k := range v.Map().Range {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(x, y protoreflect.MapKey) int { return strings.Compare(x.String(), y.String()) })
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, encoded(k.String())...), ':')
			if b, err = appendValue(b, f.MapValue(), v.Map().Get(k)); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	default:
		return appendValue(b, f, v)
	}
}

func appendValue(b []byte, f protoreflect.FieldDescriptor, v protoreflect.Value) ([]byte, error) {
	if f.Kind() == protoreflect.MessageKind {
		return appendMessage(b, v.Message())
	}
	return append(b, encoded(v.Interface())...), nil
}

// encoded is v, which holds what JSON can hold, on one line.
func encoded(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // v is a scalar or was decoded from JSON
	}
	return bytes.TrimSpace(b.Bytes())
}

// compact prints m, a well-known type, on one line.
func compact(m proto.Message) json.RawMessage {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return json.RawMessage("null") // a Value with nothing in it
	}
	// protojson varies its white space on purpose.
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		panic(err) // it was written as JSON just now
	}
	return b.Bytes()
}

func join(names []string) string { return strings.Join(names, ", ") }
