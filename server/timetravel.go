package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// revisions answers RevisionService.
type revisions struct{ *Server }

func (s revisions) List(ctx context.Context, req *guidonv1.RevisionServiceListRequest) (*guidonv1.RevisionServiceListResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	log, next, err := s.store.RevisionLog(ctx, e.Name(), page)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.RevisionServiceListResponse{NextPageToken: next}
	for _, r := range log {
		out.Revisions = append(out.Revisions, toRevision(r))
	}
	return out, nil
}

func toRevision(r store.Revision) *guidonv1.Revision {
	return &guidonv1.Revision{
		Environment: r.Environment, Revision: r.Revision, CreatedAt: toTime(r.Time), Actor: r.Actor, Reason: r.Reason,
		ChangeId: r.ChangeID, Changes: int32(r.Changes),
	}
}

func (s revisions) Get(ctx context.Context, req *guidonv1.RevisionServiceGetRequest) (*guidonv1.RevisionServiceGetResponse, error) {
	e, revision, err := s.pointInTime(ctx, req)
	if err != nil {
		return nil, err
	}
	r, err := s.store.Revision(ctx, e.Name(), revision)
	if err != nil {
		return nil, err
	}
	return &guidonv1.RevisionServiceGetResponse{Revision: toRevision(r)}, nil
}

// pointInTime is the environment of a request, and the revision that it names
// or that was the newest at its time.
func (s *Server) pointInTime(ctx context.Context, req interface {
	GetEnvironment() string
	moment
},
) (*hub.Environment, int64, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, 0, err
	}
	revision, err := s.revisionOf(ctx, e, req.GetRevision(), req.GetTime())
	if err == nil && revision == 0 {
		revision = e.Head().Revision()
	}
	return e, revision, err
}

// moment is a revision or a time.
type moment interface {
	GetRevision() int64
	GetTime() *timestamppb.Timestamp
}

// snapshot is an environment as of a moment: now, if none is named.
func (s *Server) snapshot(ctx context.Context, e *hub.Environment, m moment) (*eval.Snapshot, error) {
	return s.snapshotAt(ctx, e, m.GetRevision(), m.GetTime())
}

func (s *Server) snapshotAt(ctx context.Context, e *hub.Environment, revision int64, at *timestamppb.Timestamp) (*eval.Snapshot, error) {
	revision, err := s.revisionOf(ctx, e, revision, at)
	if err != nil {
		return nil, err
	}
	return e.At(ctx, revision)
}

// revisionOf is a revision, or the one that was the newest at a time: 0 for now,
// if neither is named.
func (s *Server) revisionOf(ctx context.Context, e *hub.Environment, revision int64, at *timestamppb.Timestamp) (int64, error) {
	switch {
	case revision < 0:
		return 0, &store.FieldError{Field: "revision", Message: "must not be negative"}
	case at == nil:
		return revision, nil
	case revision != 0:
		return 0, &store.FieldError{Field: "time", Message: "and revision cannot both be given"}
	}
	if err := at.CheckValid(); err != nil {
		return 0, &store.FieldError{Field: "time", Message: err.Error()}
	}
	// Beyond what Postgres can hold there is nothing either.
	t := at.AsTime()
	if last := s.now().Add(24 * time.Hour); t.After(last) {
		t = last
	}
	if t.Year() < 1 {
		t = time.Unix(0, 0)
	}
	return s.store.RevisionAt(ctx, e.Name(), t)
}

func (s revisions) Diff(ctx context.Context, req *guidonv1.RevisionServiceDiffRequest) (*guidonv1.RevisionServiceDiffResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if req.GetFromRevision() < 1 && req.GetFromTime() == nil {
		return nil, &store.FieldError{Field: "from_revision", Message: "must be 1 or more"}
	}
	from, err := s.snapshotAt(ctx, e, req.GetFromRevision(), req.GetFromTime())
	if err != nil {
		return nil, err
	}
	to, err := s.snapshotAt(ctx, e, req.GetToRevision(), req.GetToTime())
	if err != nil {
		return nil, err
	}
	out := &guidonv1.RevisionServiceDiffResponse{FromRevision: from.Revision(), ToRevision: to.Revision()}
	out.Diffs, out.NextPageToken, err = diffs(from, to, true, req.GetPageSize(), req.GetPageToken())
	return out, err
}

func (s environments) Compare(ctx context.Context, req *guidonv1.EnvironmentServiceCompareRequest) (*guidonv1.EnvironmentServiceCompareResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if req.GetOther() == "" {
		return nil, &store.FieldError{Field: "other", Message: "is required"}
	}
	other, err := s.environment(ctx, req.GetOther())
	if err != nil {
		return nil, err
	}
	from, err := s.snapshot(ctx, e, req)
	if err != nil {
		return nil, err
	}
	to, err := s.snapshotAt(ctx, other, req.GetOtherRevision(), req.GetOtherTime())
	if err != nil {
		return nil, err
	}
	out := &guidonv1.EnvironmentServiceCompareResponse{Revision: from.Revision(), OtherRevision: to.Revision()}
	// A kill is of its environment, and its log holds that one's revisions.
	out.Diffs, out.NextPageToken, err = diffs(from, to, e == other, req.GetPageSize(), req.GetPageToken())
	return out, err
}

// diffs returns a page of the rows in which two snapshots differ.
func diffs(from, to *eval.Snapshot, emergencies bool, size int32, token string) ([]*guidonv1.RowDiff, string, error) {
	var names []eval.Name
	for row := range from.Rows() {
		name := eval.Name{Kind: row.Kind, Name: row.Name}
		if now, ok := to.Row(name); !ok || string(now.Document) != string(row.Document) {
			names = append(names, name)
		}
	}
	for row := range to.Rows() {
		name := eval.Name{Kind: row.Kind, Name: row.Name}
		if _, ok := from.Row(name); !ok {
			names = append(names, name)
		}
	}
	if !emergencies {
		// Nor does an archived flag lead anywhere that has never heard of it.
		names = slices.DeleteFunc(names, func(n eval.Name) bool {
			before, after := from.Flag(n.Name), to.Flag(n.Name)
			return n.Kind == eval.KindEmergency ||
				n.Kind == eval.KindFlag && (before == nil && after.Archived() || after == nil && before.Archived())
		})
	}
	slices.SortFunc(names, func(a, b eval.Name) int { return strings.Compare(a.String(), b.String()) })
	page, next, err := pageOf(names, eval.Name.String, size, token)
	if err != nil {
		return nil, "", err
	}
	var out []*guidonv1.RowDiff
	for _, name := range page {
		before, was := from.Row(name)
		after, is := to.Row(name)
		action := store.ActionChanged
		if !was {
			action = store.ActionCreated
		} else if !is {
			action = store.ActionDeleted
		}
		d := &guidonv1.RowDiff{Kind: name.Kind.String(), Name: name.Name, Action: string(action)}
		if d.Fields, err = toFields(before.Document, after.Document); err != nil {
			return nil, "", err
		}
		out = append(out, d)
	}
	return out, next, nil
}

func (s revisions) Export(ctx context.Context, req *guidonv1.RevisionServiceExportRequest) (*guidonv1.RevisionServiceExportResponse, error) {
	e, revision, err := s.pointInTime(ctx, req)
	if err != nil {
		return nil, err
	}
	snapshot, err := e.At(ctx, revision)
	if err != nil {
		return nil, err
	}
	flags := make(map[string]json.RawMessage, snapshot.Len())
	for f := range snapshot.Flags() {
		flags[f.Key()] = f.Definition()
	}
	document, err := json.Marshal(map[string]any{"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": flags})
	if err != nil {
		return nil, err
	}
	if document, err = eval.Canonical(document); err != nil {
		return nil, err
	}
	return &guidonv1.RevisionServiceExportResponse{Revision: revision, Document: string(document)}, nil
}

// maxBlamed bounds the versions that Blame goes back.
const maxBlamed = 5000

func (s revisions) Blame(ctx context.Context, req *guidonv1.RevisionServiceBlameRequest) (*guidonv1.RevisionServiceBlameResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	f, err := s.store.Flag(ctx, e.Name(), req.GetKey(), 0)
	if err != nil {
		return nil, err
	}
	fields, err := audit.Diff([]byte(`{}`), f.Document)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.RevisionServiceBlameResponse{}
	open := map[string]*guidonv1.FieldBlame{}
	for _, field := range fields {
		if err := leaves(field.Path, field.After, func(path string) {
			b := &guidonv1.FieldBlame{Path: path}
			open[path], out.Fields = b, append(out.Fields, b)
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out.Fields, func(a, b *guidonv1.FieldBlame) int { return strings.Compare(a.GetPath(), b.GetPath()) })
	token := ""
	for seen := 0; len(open) > 0 && seen < maxBlamed; {
		versions, next, err := s.store.FlagHistory(ctx, e.Name(), req.GetKey(), store.Page{Token: token})
		if err != nil && (token == "" || !errors.Is(err, store.ErrNotFound)) {
			return nil, err
		}
		for _, v := range versions {
			seen++
			if err := blame(open, e.Name(), v); err != nil {
				return nil, err
			}
		}
		if token = next; token == "" {
			break
		}
	}
	return out, nil
}

// blame takes the fields that a version wrote off the list of open ones.
func blame(open map[string]*guidonv1.FieldBlame, environment string, v store.FlagVersion) error {
	changed, err := audit.Diff(v.Before, v.After)
	if err != nil {
		return err
	}
	by := &guidonv1.Revision{
		Environment: environment, Revision: v.Revision, CreatedAt: toTime(v.Time), Actor: v.Actor, Reason: v.Reason, ChangeId: v.ChangeID,
	}
	for _, c := range changed {
		for path, field := range open {
			if path == c.Path || within(path, c.Path) || within(c.Path, path) {
				field.Revision = by
				delete(open, path)
			}
		}
	}
	return nil
}

// within reports whether a JSON path leads into another one.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// leaves calls f with the path of every value that is no object.
func leaves(path string, value json.RawMessage, f func(path string)) error {
	if len(value) < 3 || value[0] != '{' { // canonical: no space before it
		f(path)
		return nil
	}
	inner, err := audit.Diff([]byte(`{}`), value)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, m := range inner {
		if err := leaves(path+strings.TrimPrefix(m.Path, "$"), m.After, f); err != nil {
			return err
		}
	}
	return nil
}
