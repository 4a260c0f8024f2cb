package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// segments answers SegmentService.
type segments struct{ *Server }

func (s segments) Get(ctx context.Context, req *guidonv1.SegmentServiceGetRequest) (*guidonv1.SegmentServiceGetResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.snapshot(ctx, e, req)
	if err != nil {
		return nil, err
	}
	out, err := toSegment(e.Name(), snapshot, req.GetName())
	return &guidonv1.SegmentServiceGetResponse{Segment: out}, err
}

func (s segments) List(ctx context.Context, req *guidonv1.SegmentServiceListRequest) (*guidonv1.SegmentServiceListResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.snapshot(ctx, e, req)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range snapshot.Segments() {
		if strings.Contains(strings.ToLower(name), strings.ToLower(req.GetQuery())) {
			names = append(names, name)
		}
	}
	page, next, err := pageOf(names, func(name string) string { return name }, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &guidonv1.SegmentServiceListResponse{NextPageToken: next}
	for _, name := range page {
		segment, err := toSegment(e.Name(), snapshot, name)
		if err != nil {
			return nil, err
		}
		out.Segments = append(out.Segments, segment)
	}
	return out, nil
}

// toSegment converts what a snapshot knows of a segment.
func toSegment(environment string, snapshot *eval.Snapshot, name string) (*guidonv1.Segment, error) {
	id := eval.Name{Kind: eval.KindSegment, Name: name}
	row, ok := snapshot.Row(id)
	if !ok {
		return nil, fmt.Errorf("segment %.128q in environment %q: %w", name, environment, store.ErrNotFound)
	}
	var document struct {
		Segment json.RawMessage `json:"segment"`
		Guidon  struct {
			Project string `json:"project"`
		} `json:"guidon"`
	}
	if err := json.Unmarshal(row.Document, &document); err != nil {
		return nil, fmt.Errorf("document of segment %q: %w", name, err)
	}
	out := &guidonv1.Segment{Name: name, Environment: environment, Project: document.Guidon.Project, Revision: row.From}
	for _, user := range snapshot.Users(id) {
		if user.Kind == eval.KindFlag {
			out.UsedByFlags = append(out.UsedByFlags, user.Name)
		} else {
			out.UsedBySegments = append(out.UsedBySegments, user.Name)
		}
	}
	var err error
	out.Condition, err = toValue(document.Segment)
	return out, err
}
