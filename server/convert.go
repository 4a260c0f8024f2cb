package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// fromOperations converts the operations of a change set. An error names the
// operation by its index.
func fromOperations(operations []*guidonv1.Operation) ([]store.Operation, error) {
	out := make([]store.Operation, len(operations))
	for i, o := range operations {
		converted, err := fromOperation(o)
		if err != nil {
			return nil, &store.OperationError{Index: i, Err: err}
		}
		out[i] = converted
	}
	return out, nil
}

func fromOperation(o *guidonv1.Operation) (store.Operation, error) {
	switch o := o.GetOperation().(type) {
	case *guidonv1.Operation_PutFlag:
		p := o.PutFlag
		definition, err := fromStruct("definition", p.GetDefinition())
		return store.PutFlag{
			Environment: p.GetEnvironment(), Key: p.GetKey(), Project: p.GetProject(),
			Kind: p.GetKind(), Scope: p.GetScope(), Type: p.GetType(), Definition: definition,
			Owner: p.GetOwner(), Description: p.GetDescription(), Tags: p.GetTags(), CreateOnly: p.GetCreateOnly(),
			Attach: p.Attach, Overridable: p.Overridable, Pierce: p.Pierce, ClientVisible: p.ClientVisible, PinUnavailable: p.PinUnavailable, Requires: fromRequirements(p.GetRequires()),
		}, err
	case *guidonv1.Operation_SetState:
		p := o.SetState
		return store.SetState{Environment: p.GetEnvironment(), Key: p.GetKey(), State: p.GetState()}, nil
	case *guidonv1.Operation_SetDefaultVariant:
		p := o.SetDefaultVariant
		return store.SetDefaultVariant{Environment: p.GetEnvironment(), Key: p.GetKey(), Variant: p.GetVariant()}, nil
	case *guidonv1.Operation_SetAttributes:
		p := o.SetAttributes
		return store.SetAttributes{
			Environment: p.GetEnvironment(), Key: p.GetKey(), Attach: p.Attach, Overridable: p.Overridable, Pierce: p.Pierce, ClientVisible: p.ClientVisible, PinUnavailable: p.PinUnavailable,
		}, nil
	case *guidonv1.Operation_KillFlag:
		p := o.KillFlag
		return store.KillFlag{Environment: p.GetEnvironment(), Key: p.GetKey(), Variant: p.GetVariant()}, nil
	case *guidonv1.Operation_UnkillFlag:
		p := o.UnkillFlag
		return store.UnkillFlag{Environment: p.GetEnvironment(), Key: p.GetKey()}, nil
	case *guidonv1.Operation_ArchiveFlag:
		return store.ArchiveFlag{Key: o.ArchiveFlag.GetKey()}, nil
	case *guidonv1.Operation_RestoreFlag:
		return store.RestoreFlag{Key: o.RestoreFlag.GetKey()}, nil
	case *guidonv1.Operation_DeleteFlag:
		return store.DeleteFlag{Key: o.DeleteFlag.GetKey()}, nil
	case *guidonv1.Operation_RemoveFlag:
		p := o.RemoveFlag
		return store.RemoveFlag{Environment: p.GetEnvironment(), Key: p.GetKey()}, nil
	case *guidonv1.Operation_DescribeFlag:
		p := o.DescribeFlag
		return store.DescribeFlag{
			Key: p.GetKey(), Owner: p.Owner, Description: p.Description, Tags: fromTexts(p.GetTags()), Links: fromTexts(p.GetLinks()),
		}, nil
	case *guidonv1.Operation_SetSchema:
		p := o.SetSchema
		if p.GetSchema() == nil {
			return store.SetSchema{Key: p.GetKey()}, nil
		}
		schema, err := fromStruct("schema", p.GetSchema())
		return store.SetSchema{Key: p.GetKey(), Schema: schema}, err
	case *guidonv1.Operation_DeleteSegment:
		p := o.DeleteSegment
		return store.DeleteSegment{Environment: p.GetEnvironment(), Name: p.GetName()}, nil
	case *guidonv1.Operation_PutSegment:
		p := o.PutSegment
		condition, err := fromValue("condition", p.GetCondition())
		return store.PutSegment{
			Environment: p.GetEnvironment(), Name: p.GetName(), Project: p.GetProject(), Condition: condition, CreateOnly: p.GetCreateOnly(),
		}, err
	case *guidonv1.Operation_PutSettings:
		p := o.PutSettings
		return store.PutSettings{Environment: p.GetEnvironment(), Settings: fromSettings(p.GetSettings())}, nil
	}
	return nil, &store.FieldError{Field: "operation", Message: "is empty, or one that this server does not know"}
}

// fromTexts converts a list that may be unset, which is nil.
func fromTexts(t *guidonv1.Texts) *[]string {
	if t == nil {
		return nil
	}
	values := t.GetValues()
	return &values
}

func fromRequirements(r *guidonv1.Requirements) *[]store.Requirement {
	if r == nil {
		return nil
	}
	out := []store.Requirement{}
	for _, r := range r.GetRequirements() {
		out = append(out, store.Requirement{Flag: r.GetFlag(), Variants: r.GetVariants()})
	}
	return &out
}

func fromStruct(field string, s *structpb.Struct) ([]byte, error) {
	if s == nil {
		return nil, &store.FieldError{Field: field, Message: "is required"}
	}
	return fromMessage(field, s)
}

func fromValue(field string, v *structpb.Value) ([]byte, error) {
	if v.GetKind() == nil {
		return nil, &store.FieldError{Field: field, Message: "is required"}
	}
	return fromMessage(field, v)
}

func fromMessage(field string, m interface{ MarshalJSON() ([]byte, error) }) ([]byte, error) {
	raw, err := m.MarshalJSON()
	if err != nil {
		return nil, &store.FieldError{Field: field, Message: err.Error()} // NaN, an infinity, text that is not UTF-8
	}
	return raw, nil
}

func fromSettings(s *guidonv1.Settings) eval.Settings {
	out := eval.Settings{Fractional: s.GetFractional()}
	for _, t := range s.GetTravel() {
		out.Travel = append(out.Travel, eval.Travel{Attribute: t.GetAttribute(), As: t.GetAlias(), MaxBytes: int(t.GetMaxBytes())})
	}
	return out
}

func toSettings(s eval.Settings) *guidonv1.Settings {
	out := &guidonv1.Settings{Fractional: s.Fractional}
	for _, t := range s.Travel {
		out.Travel = append(out.Travel, &guidonv1.TravelAttribute{Attribute: t.Attribute, Alias: t.As, MaxBytes: int32(t.MaxBytes)})
	}
	return out
}

func toChanges(changed []store.Changed) []*guidonv1.Change {
	out := make([]*guidonv1.Change, len(changed))
	for i, c := range changed {
		out[i] = &guidonv1.Change{Environment: c.Environment, Kind: c.Kind.String(), Name: c.Name, Action: string(c.Action)}
	}
	return out
}

func toEnvironment(e *hub.Environment) *guidonv1.Environment {
	head := e.Head()
	out := &guidonv1.Environment{
		Name: e.Name(), Protected: head.Protected(), RetentionDays: int32(e.Row().Retention), Archived: e.Row().Archived,
	}
	asOf(out, head.Snapshot())
	return out
}

// asOf says what an environment was in a snapshot.
func asOf(out *guidonv1.Environment, s *eval.Snapshot) {
	out.Revision, out.Digest, out.FlagCount = s.Revision(), s.Digest().String(), int32(s.Len())
	out.Settings, out.TravelBytes = toSettings(s.Settings()), int32(s.Settings().TravelBytes())
}

// toFlag converts what a snapshot knows of a flag.
func toFlag(environment string, f *eval.Flag) (*guidonv1.Flag, error) {
	out := &guidonv1.Flag{
		Key: f.Key(), Environment: environment, Project: f.Project(), Kind: f.Kind(), Scope: f.Scope(), Type: f.Type().String(),
		State: f.State(), DefaultVariant: f.DefaultVariant(), Archived: f.Archived(), Revision: f.Row().From,
		Reads: f.Reads(), NotTravelling: f.NotTravelling(), Attach: f.Attach(), Overridable: f.Overridable(), Pierce: f.Pierce(),
		ClientVisible: f.ClientVisible(), PinUnavailable: pinUnavailable(f),
	}
	if err := f.Err(); err != nil {
		out.Problem = err.Error()
	}
	var document struct {
		Flag json.RawMessage `json:"flag"`
	}
	if err := json.Unmarshal(f.Row().Document, &document); err != nil {
		return nil, fmt.Errorf("document of flag %q: %w", f.Key(), err)
	}
	for _, r := range f.Requires() {
		out.Requires = append(out.Requires, &guidonv1.Requirement{Flag: r.Flag, Variants: r.Variants})
	}
	out.Definition = &structpb.Struct{}
	if err := protojson.Unmarshal(document.Flag, out.Definition); err != nil {
		return nil, fmt.Errorf("definition of flag %q: %w", f.Key(), err)
	}
	killed, ok := f.Killed()
	if !ok {
		return out, nil
	}
	out.DefaultVariant = out.GetDefinition().GetFields()["defaultVariant"].GetStringValue()
	value, err := structpb.NewValue(killed.Value())
	if err != nil {
		return nil, fmt.Errorf("value of killed flag %q: %w", f.Key(), err)
	}
	out.Killed = &guidonv1.Killed{Revision: killed.Revision, Variant: killed.Variant, Value: value}
	return out, nil
}

// describe adds what only the store knows: what describes the key in all
// environments, and who wrote this version.
func describe(out *guidonv1.Flag, f store.Flag) {
	out.Owner, out.Description, out.Tags, out.Links = f.Owner, f.Description, f.Tags, f.Links
	if f.Schema != nil {
		schema := &structpb.Struct{}
		if protojson.Unmarshal(f.Schema, schema) == nil { // it was one when it was written
			out.Schema = schema
		}
	}
	out.UpdatedAt, out.UpdatedBy = toTime(f.UpdatedAt), f.UpdatedBy
}

// compile makes a flag of its document, and that of its emergencies if there are
// any: for what the documents themselves say, not for what they read.
func compile(key string, revision int64, document, emergencies []byte) (*eval.Flag, error) {
	rows := []eval.Row{{Kind: eval.KindFlag, Name: key, From: revision, Document: document}}
	if emergencies != nil {
		rows = append(rows, eval.Row{Kind: eval.KindEmergency, Name: key, From: revision, Document: emergencies})
	}
	s, err := eval.Compile(revision, rows)
	if err != nil {
		return nil, err
	}
	return s.Flag(key), nil
}

func toResolution(key string, revision int64, r eval.Resolution) (*guidonv1.Resolution, error) {
	out := &guidonv1.Resolution{
		Key: key, Variant: r.Variant(), Reason: r.Reason().String(), ErrorCode: r.ErrorCode().String(), Revision: revision,
	}
	if out.ErrorCode != "" {
		out.ErrorMessage = r.Message()
	}
	var err error
	if v := r.Value(); v != nil {
		if out.Value, err = structpb.NewValue(v); err != nil {
			return nil, fmt.Errorf("value of flag %q: %w", key, err)
		}
	}
	if f := r.Flag(); f != nil {
		if out.Metadata, err = structpb.NewStruct(f.Metadata()); err != nil {
			return nil, fmt.Errorf("metadata of flag %q: %w", key, err)
		}
	}
	return out, nil
}

func toSteps(trace []eval.Step) ([]*guidonv1.Step, error) {
	out := make([]*guidonv1.Step, len(trace))
	for i, step := range trace {
		seen, err := structpb.NewStruct(step.Seen)
		if err != nil {
			return nil, fmt.Errorf("what %s read: %w", step.Path, err)
		}
		out[i] = &guidonv1.Step{Path: step.Path, Text: step.Text, Seen: seen, Outcome: step.Outcome}
		if b := step.Fractional; b != nil {
			out[i].Bucketing = &guidonv1.Bucketing{Value: b.Value, Hash: b.Hash, Bucket: b.Bucket, Sum: b.Sum}
			for _, r := range b.Ranges {
				out[i].Bucketing.Ranges = append(out[i].Bucketing.Ranges, &guidonv1.BucketRange{Variant: r.Variant, From: r.From, To: r.To})
			}
		}
	}
	return out, nil
}

func toAuditEntry(e audit.Entry) (*guidonv1.AuditEntry, error) {
	record, err := e.Record()
	if err != nil {
		return nil, err
	}
	out := &guidonv1.AuditEntry{
		Environment: record.Environment, Sequence: e.Seq, Revision: record.Revision, OccurredAt: toTime(record.Time),
		Actor: record.Actor, Action: record.Action, Reason: record.Reason, ChangeId: record.Change,
		CorrelationId: record.Correlation, Origin: record.Origin, Hash: e.Hash.String(),
		Id: fmt.Sprintf("%s/%d", e.Scope, e.Seq),
	}
	for _, o := range record.Operations {
		change := &guidonv1.AuditChange{Kind: o.Kind, Name: o.Name, Action: changeAction(o)}
		if change.Fields, err = toFields(o.Before, o.After); err != nil {
			return nil, fmt.Errorf("audit entry %d of %q: %w", e.Seq, e.Scope, err)
		}
		out.Changes = append(out.Changes, change)
	}
	return out, nil
}

// changeAction is what an operation did, in the words of the API.
func changeAction(o audit.Operation) string {
	switch {
	case o.Action == audit.ActionArchiveFlag:
		return string(store.ActionArchived)
	case o.Action == audit.ActionKillFlag:
		return string(store.ActionKilled)
	case o.Action == audit.ActionUnkillFlag:
		return string(store.ActionUnkilled)
	case o.Action == audit.ActionRestoreFlag:
		return string(store.ActionRestored)
	case o.Action == audit.ActionDeleteFlag, o.Action == audit.ActionDeleteSegment:
		return string(store.ActionDeleted)
	case o.Action == audit.ActionRevokeKey, o.Action == audit.ActionRevokeOverride:
		return "revoked"
	case o.Before == nil:
		return string(store.ActionCreated)
	case o.After == nil && (o.Kind == eval.KindFlag.String() || o.Kind == eval.KindSegment.String()):
		return string(store.ActionDeleted)
	}
	return string(store.ActionChanged)
}

// toFields lists the fields in which two documents differ. One that was not
// there before is one field, the whole.
func toFields(before, after json.RawMessage) ([]*guidonv1.FieldChange, error) {
	diff, err := audit.Diff(before, after)
	if err != nil {
		return nil, err
	}
	out := make([]*guidonv1.FieldChange, len(diff))
	for i, d := range diff {
		out[i] = &guidonv1.FieldChange{Path: d.Path}
		if out[i].Before, err = toValue(d.Before); err != nil {
			return nil, err
		}
		if out[i].After, err = toValue(d.After); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// toValue converts JSON; nil stays nil.
func toValue(raw json.RawMessage) (*structpb.Value, error) {
	if raw == nil {
		return nil, nil
	}
	v := &structpb.Value{}
	return v, protojson.Unmarshal(raw, v)
}

func toKey(k store.Key) *guidonv1.Key {
	return &guidonv1.Key{
		Id: k.ID, Kind: string(k.Kind), Environment: k.Environment, Name: k.Name, Hint: k.Hint,
		CreatedAt: toTime(k.CreatedAt), CreatedBy: k.CreatedBy, ExpiresAt: toTime(k.ExpiresAt),
		RevokedAt: toTime(k.RevokedAt), LastUsedAt: toTime(k.LastUsedAt),
		Origins: k.Origins, Propagates: k.Propagates, Projects: k.Projects,
	}
}

// toOverride converts an override; whoever may see its token adds that.
func toOverride(o store.Override) *guidonv1.Override {
	return &guidonv1.Override{
		Id: o.ID, Environment: o.Environment, Flag: o.Flag, Variant: o.Variant, Audience: o.Audience, Reason: o.Reason,
		CreatedAt: toTime(o.CreatedAt), CreatedBy: o.CreatedBy, ExpiresAt: toTime(o.ExpiresAt), RevokedAt: toTime(o.RevokedAt),
	}
}

// toTime converts a time; the zero time is unset.
func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// toRows converts rows as Sync would send them.
func toRows(rows []eval.Row) []*guidonv1.Row { return hub.Rows(slices.Values(rows)) }

// pinUnavailable is what PutFlag says of the flag under that name.
func pinUnavailable(f *eval.Flag) string {
	if f.Nearest() {
		return "nearest"
	}
	return ""
}
