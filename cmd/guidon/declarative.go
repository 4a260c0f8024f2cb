package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// declaration is an environment as a file: all that people decide, and nothing
// that the server knows by itself. Written again it is the same text.
type declaration struct {
	Guidon      string                      `yaml:"guidon"`
	Environment string                      `yaml:"environment"`
	Settings    *declaredSettings           `yaml:"settings,omitempty"`
	Segments    map[string]*declaredSegment `yaml:"segments,omitempty"`
	Flags       map[string]*declaredFlag    `yaml:"flags,omitempty"`

	// revision and protected are what the server says, and not part of the file.
	revision  int64
	protected bool
	// killed flags are declared as they are defined, with a comment.
	killed map[string]*guidonv1.Killed
}

// declarationVersion is the only form of the file that there is.
const declarationVersion = "v1"

type declaredSettings struct {
	Fractional string            `yaml:"fractional"`
	Travel     map[string]string `yaml:"travel,omitempty"` // ALIAS, :MAXBYTES or ALIAS:MAXBYTES by attribute
}

type declaredSegment struct {
	Project   string `yaml:"project,omitempty"`
	Condition any    `yaml:"condition"`
}

type declaredFlag struct {
	Project        string         `yaml:"project,omitempty"`
	Kind           string         `yaml:"kind,omitempty"`
	Scope          string         `yaml:"scope,omitempty"`
	Type           string         `yaml:"type,omitempty"`
	Owner          string         `yaml:"owner,omitempty"`
	Description    string         `yaml:"description,omitempty"`
	Tags           []string       `yaml:"tags,omitempty"`
	Links          []string       `yaml:"links,omitempty"`
	Attach         bool           `yaml:"attach,omitempty"`
	Overridable    bool           `yaml:"overridable,omitempty"`
	ClientVisible  bool           `yaml:"clientVisible,omitempty"`
	Pierce         string         `yaml:"pierce,omitempty"`
	PinUnavailable string         `yaml:"pinUnavailable,omitempty"`
	Requires       []requirement  `yaml:"requires,omitempty"`
	Schema         map[string]any `yaml:"schema,omitempty"`
	Definition     map[string]any `yaml:"definition"`
}

type requirement struct {
	Flag     string   `yaml:"flag"`
	Variants []string `yaml:"variants"`
}

// declare reads an environment as of a revision, 0 for the newest; archived flags
// are left out.
func (a *api) declare(ctx context.Context, environment string, revision int64) (*declaration, error) {
	e, err := a.environments.Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: environment, Revision: revision})
	if err != nil {
		return nil, err
	}
	d := &declaration{
		Guidon: declarationVersion, Environment: environment,
		Settings: &declaredSettings{Fractional: e.GetEnvironment().GetSettings().GetFractional(), Travel: map[string]string{}},
		Segments: map[string]*declaredSegment{}, Flags: map[string]*declaredFlag{},
		revision: e.GetEnvironment().GetRevision(), protected: e.GetEnvironment().GetProtected(),
		killed: map[string]*guidonv1.Killed{},
	}
	// All of it as of one revision, and whole: the newest is listed without what
	// describes the flags while the database does not answer.
	revision = d.revision
	for _, t := range e.GetEnvironment().GetSettings().GetTravel() {
		d.Settings.Travel[t.GetAttribute()] = travelText(t)
	}
	segments, _, err := pages(0, func(size int32, token string) ([]*guidonv1.Segment, string, error) {
		res, err := a.segments.List(ctx, &guidonv1.SegmentServiceListRequest{Environment: environment, Revision: revision, PageSize: size, PageToken: token})
		return res.GetSegments(), res.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	for _, s := range segments {
		d.Segments[s.GetName()] = &declaredSegment{Project: s.GetProject(), Condition: plain(s.GetCondition().AsInterface())}
	}
	flags, _, err := pages(0, func(size int32, token string) ([]*guidonv1.Flag, string, error) {
		res, err := a.flags.List(ctx, &guidonv1.FlagServiceListRequest{Environment: environment, Revision: revision, PageSize: size, PageToken: token})
		return res.GetFlags(), res.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	for _, f := range flags {
		d.Flags[f.GetKey()] = declareFlag(f)
		if k := f.GetKilled(); k != nil {
			d.killed[f.GetKey()] = k
		}
	}
	return d, nil
}

func declareFlag(f *guidonv1.Flag) *declaredFlag {
	out := &declaredFlag{
		Project: f.GetProject(), Kind: f.GetKind(), Scope: f.GetScope(), Type: f.GetType(), Owner: f.GetOwner(),
		Description: f.GetDescription(), Tags: f.GetTags(), Links: f.GetLinks(), Attach: f.GetAttach(), Overridable: f.GetOverridable(),
		ClientVisible: f.GetClientVisible(), Pierce: f.GetPierce(), PinUnavailable: f.GetPinUnavailable(),
	}
	out.Definition, _ = plain(f.GetDefinition().AsMap()).(map[string]any)
	if f.GetSchema() != nil {
		out.Schema, _ = plain(f.GetSchema().AsMap()).(map[string]any)
	}
	for _, r := range f.GetRequires() {
		out.Requires = append(out.Requires, requirement{r.GetFlag(), r.GetVariants()})
	}
	return out
}

// plain makes whole numbers integers, which read better than 1e+06.
func plain(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
			return int64(v)
		}
	case map[string]any:
		for name, member := range v {
			v[name] = plain(member)
		}
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	}
	return v
}

func (d *declaration) yaml() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	var document yaml.Node
	if err := document.Encode(d); err != nil {
		return nil, err
	}
	d.remark(&document)
	if err := enc.Encode(&document); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// remark writes over each killed flag what it serves instead of what it says.
func (d *declaration) remark(document *yaml.Node) {
	for i := 0; i+1 < len(document.Content); i += 2 {
		if document.Content[i].Value != "flags" {
			continue
		}
		flags := document.Content[i+1].Content
		for j := 0; j+1 < len(flags); j += 2 {
			if k := d.killed[flags[j].Value]; k != nil {
				flags[j].HeadComment = fmt.Sprintf("Killed: serves %s since revision %d, and this from 'guidon flag unkill' on.", k.GetVariant(), k.GetRevision())
			}
		}
	}
}

// readDeclaration reads one document and refuses what it does not know.
func readDeclaration(data []byte) (*declaration, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	d := &declaration{}
	if err := dec.Decode(d); errors.Is(err, io.EOF) {
		return nil, errors.New("is empty")
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(&declaration{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document")
	}
	if d.Guidon != declarationVersion {
		return nil, fmt.Errorf("guidon: is %q, want %q", d.Guidon, declarationVersion)
	}
	if d.Environment == "" {
		return nil, errors.New("environment: is required")
	}
	return d, nil
}

// operations put all that the file declares. What it does not name stays.
func (d *declaration) operations() ([]*guidonv1.Operation, error) {
	var out []*guidonv1.Operation
	if s := d.Settings; s != nil {
		settings := &guidonv1.Settings{Fractional: s.Fractional}
		for _, attribute := range slices.Sorted(maps.Keys(s.Travel)) {
			t, err := readTravel(attribute, s.Travel[attribute])
			if err != nil {
				return nil, fmt.Errorf("settings.travel.%s: %w", attribute, err)
			}
			settings.Travel = append(settings.Travel, t)
		}
		out = append(out, &guidonv1.Operation{Operation: &guidonv1.Operation_PutSettings{
			PutSettings: &guidonv1.PutSettings{Environment: d.Environment, Settings: settings},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Segments)) {
		s := d.Segments[name]
		if s == nil {
			return nil, fmt.Errorf("segments.%s: is empty", name)
		}
		condition, err := structpb.NewValue(wide(s.Condition))
		if err != nil {
			return nil, fmt.Errorf("segments.%s.condition: %w", name, err)
		}
		out = append(out, &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{
			PutSegment: &guidonv1.PutSegment{Environment: d.Environment, Name: name, Project: s.Project, Condition: condition},
		}})
	}
	for _, key := range slices.Sorted(maps.Keys(d.Flags)) {
		operations, err := d.Flags[key].operations(d.Environment, key)
		if err != nil {
			return nil, fmt.Errorf("flags.%s.%w", key, err)
		}
		out = append(out, operations...)
	}
	return out, nil
}

// without takes away what an environment has and the file does not declare, but
// for its settings. Archived flags stay.
func (d *declaration) without(there *declaration) []*guidonv1.Operation {
	var out []*guidonv1.Operation
	for _, key := range slices.Sorted(maps.Keys(there.Flags)) {
		if _, declared := d.Flags[key]; !declared {
			out = append(out, &guidonv1.Operation{Operation: &guidonv1.Operation_RemoveFlag{
				RemoveFlag: &guidonv1.RemoveFlag{Environment: d.Environment, Key: key},
			}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there.Segments)) {
		if _, declared := d.Segments[name]; !declared {
			out = append(out, &guidonv1.Operation{Operation: &guidonv1.Operation_DeleteSegment{
				DeleteSegment: &guidonv1.DeleteSegment{Environment: d.Environment, Name: name},
			}})
		}
	}
	return out
}

// definitionMembers are those that a flag definition has.
var definitionMembers = []string{"state", "variants", "defaultVariant", "targeting", "metadata"}

func (f *declaredFlag) operations(environment, key string) ([]*guidonv1.Operation, error) {
	if f == nil {
		return nil, errors.New("definition: is required")
	}
	for _, member := range slices.Sorted(maps.Keys(f.Definition)) {
		if !slices.Contains(definitionMembers, member) { // flagd passes over it, and so would a typing error be
			return nil, fmt.Errorf("definition.%s: is none of %s", member, join(definitionMembers))
		}
	}
	definition, err := structpb.NewStruct(wideMap(f.Definition))
	if err != nil {
		return nil, fmt.Errorf("definition: %w", err)
	}
	requires := &guidonv1.Requirements{}
	for _, r := range f.Requires {
		requires.Requirements = append(requires.Requirements, &guidonv1.Requirement{Flag: r.Flag, Variants: r.Variants})
	}
	out := []*guidonv1.Operation{
		{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
			Environment: environment, Key: key, Project: f.Project, Kind: f.Kind, Scope: f.Scope, Type: f.Type, Definition: definition,
			Attach: &f.Attach, Overridable: &f.Overridable, ClientVisible: &f.ClientVisible, Pierce: &f.Pierce, PinUnavailable: &f.PinUnavailable, Requires: requires,
		}}},
		{Operation: &guidonv1.Operation_DescribeFlag{DescribeFlag: &guidonv1.DescribeFlag{
			Key: key, Owner: &f.Owner, Description: &f.Description,
			Tags: &guidonv1.Texts{Values: f.Tags}, Links: &guidonv1.Texts{Values: f.Links},
		}}},
	}
	if f.Kind == "config" || f.Schema != nil {
		set := &guidonv1.SetSchema{Key: key}
		if f.Schema != nil {
			if set.Schema, err = structpb.NewStruct(wideMap(f.Schema)); err != nil {
				return nil, fmt.Errorf("schema: %w", err)
			}
		}
		out = append(out, &guidonv1.Operation{Operation: &guidonv1.Operation_SetSchema{SetSchema: set}})
	}
	return out, nil
}

func wideMap(m map[string]any) map[string]any {
	wider, _ := wide(m).(map[string]any)
	return wider
}

// wide makes of a YAML value what JSON has: numbers of one type, and names
// that are strings.
func wide(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[name] = wide(member)
		}
		return out
	case map[any]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[fmt.Sprint(name)] = wide(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = wide(item)
		}
		return out
	}
	return v
}
