package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// maxImport is the largest document, in bytes, that a server takes.
const maxImport = 32 << 20

// target is where a document goes.
type target struct {
	environment, project, reason string
	// createOnly leaves flags and segments that exist as they are.
	createOnly bool
}

// importSet is a flagd document as the operations of one change set. Each keeps
// its place in the file, because that is where its author will look.
type importSet struct {
	file    string
	into    target
	items   []*importItem
	refused []refusal
	// isolated is what was refused until it was sent as flags to isolate.
	isolated []refusal
	warnings []string
}

// importItem is one flag or segment of the document.
type importItem struct {
	kind, name string
	place      string // JSON path into the file
	operation  *guidonv1.Operation
}

// refusal says what is wrong with a place in the file.
type refusal struct {
	Path    string `json:"path"`
	Message string `json:"message"`

	item *importItem
}

// refusedError says why nothing of a file was imported.
type refusedError struct{ refused []refusal }

func (e *refusedError) Error() string {
	var b strings.Builder
	b.WriteString("refused, nothing was changed")
	for _, r := range e.refused {
		fmt.Fprintf(&b, "\n  %s: %s", cell(r.Path), cell(r.Message))
	}
	return b.String()
}

// readImportSet reads a flagd document from a file, or from stdin if that is
// called -. Errors name the file.
func readImportSet(file string, stdin io.Reader, into target) (*importSet, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was read only
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxImport+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxImport {
		return nil, fmt.Errorf("%s: more than %d MiB", file, maxImport>>20)
	}
	set, err := newImportSet(data, into)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	set.file = file
	return set, nil
}

// newImportSet takes a flagd document apart. Segments come first, so that
// flags find them.
func newImportSet(data []byte, into target) (*importSet, error) {
	doc, err := eval.ParseDocument(data)
	if err != nil {
		return nil, err
	}
	s := &importSet{into: into, warnings: []string{}, refused: []refusal{}}
	for _, name := range slices.Sorted(maps.Keys(doc.Evaluators)) {
		s.addSegment(name, doc.Evaluators[name])
	}
	shared, err := structpb.NewStruct(doc.Metadata)
	if err != nil {
		return nil, fmt.Errorf("$.metadata: %w", err)
	}
	s.dropFlagSet(shared, "$.metadata")
	for _, f := range doc.Flags {
		s.addFlag(f.Key, f.Definition, shared)
	}
	return s, nil
}

func (s *importSet) addSegment(name string, condition json.RawMessage) {
	put := &guidonv1.PutSegment{
		Environment: s.into.environment, Name: name, Project: s.into.project,
		Condition: &structpb.Value{}, CreateOnly: s.into.createOnly,
	}
	s.add(&importItem{
		kind: "segment", name: name, place: "$.$evaluators[" + strconv.Quote(name) + "]",
		operation: &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: put}},
	}, condition, put.Condition)
}

func (s *importSet) addFlag(key string, definition json.RawMessage, shared *structpb.Struct) {
	put := &guidonv1.PutFlag{
		Environment: s.into.environment, Key: key, Project: s.into.project,
		Definition: &structpb.Struct{}, CreateOnly: s.into.createOnly,
	}
	item := &importItem{
		kind: "flag", name: key, place: "$.flags[" + strconv.Quote(key) + "]",
		operation: &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{PutFlag: put}},
	}
	if s.add(item, definition, put.Definition) {
		s.mergeMetadata(put.GetDefinition(), shared, item.place+".metadata")
	}
}

// add parses raw into m, and notes a refusal if that fails.
func (s *importSet) add(item *importItem, raw json.RawMessage, m proto.Message) bool {
	if err := protojson.Unmarshal(raw, m); err != nil {
		s.refused = append(s.refused, refusal{Path: item.place, Message: err.Error(), item: item})
		return false
	}
	s.items = append(s.items, item)
	return true
}

// mergeMetadata gives a flag the document's metadata; its own goes first.
func (s *importSet) mergeMetadata(definition, shared *structpb.Struct, place string) {
	const field = "metadata"
	own := definition.GetFields()[field].GetStructValue()
	if own == nil && definition.GetFields()[field] != nil {
		return // not an object: the server says so
	}
	s.dropFlagSet(own, place)
	if len(shared.GetFields()) == 0 {
		return
	}
	merged := maps.Clone(shared.GetFields())
	maps.Copy(merged, own.GetFields())
	definition.Fields[field] = structpb.NewStructValue(&structpb.Struct{Fields: merged})
}

// dropFlagSet takes flagSetId out of metadata: Guidon serves the project as it.
func (s *importSet) dropFlagSet(metadata *structpb.Struct, place string) {
	const field = "flagSetId"
	id, ok := metadata.GetFields()[field]
	if !ok {
		return
	}
	delete(metadata.GetFields(), field)
	if id.GetStringValue() != s.into.project {
		s.warnings = append(s.warnings,
			fmt.Sprintf("%s.%s: left out; the flag set of a flag is its project", place, field))
	}
}

func (s *importSet) operations() []*guidonv1.Operation {
	operations := make([]*guidonv1.Operation, len(s.items))
	for i, item := range s.items {
		operations[i] = item.operation
	}
	return operations
}

// at turns a path into the row's document, $.flag.targeting, or the name of a
// field into a place in the file.
func (i *importItem) at(path string) string {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return strings.TrimSpace(i.place + " " + path)
	}
	return i.place + strings.TrimPrefix(rest, "."+i.kind)
}

// before is what a row's document holds of this item.
func (i *importItem) before(document json.RawMessage) any {
	var row map[string]any
	if err := json.Unmarshal(document, &row); err != nil {
		return nil // there was none
	}
	return row[i.kind]
}

// after is what the operation puts there.
func (i *importItem) after() any {
	if put := i.operation.GetPutSegment(); put != nil {
		return put.GetCondition().AsInterface()
	}
	return i.operation.GetPutFlag().GetDefinition().AsMap()
}
