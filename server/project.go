package server

import (
	"context"
	"errors"
	"maps"
	"slices"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// projects answers ProjectService.
type projects struct{ *Server }

func (s projects) List(ctx context.Context, req *guidonv1.ProjectServiceListRequest) (*guidonv1.ProjectServiceListResponse, error) {
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	reading, cancel := s.fallback(ctx)
	defer cancel()
	all, next, err := s.store.Projects(reading, page)
	if errors.Is(err, store.ErrUnavailable) && page.Token == "" {
		if known := s.known(); len(known) <= page.Size {
			all, err = known, nil
		}
	}
	if err != nil {
		return nil, err
	}
	out := &guidonv1.ProjectServiceListResponse{NextPageToken: next}
	for _, p := range all {
		out.Projects = append(out.Projects, &guidonv1.Project{
			Name: p.Name, Description: p.Description, CreatedAt: toTime(p.CreatedAt), Archived: p.Archived, FlagCount: int32(p.Flags),
		})
	}
	return out, nil
}

// known are the projects that the hub knows of, without what describes them: those
// with flags in some environment.
func (s projects) known() []store.Project {
	flags := map[string]map[string]bool{} // active ones by project
	for e := range s.hub.Environments() {
		for f := range e.Snapshot().Flags() {
			if flags[f.Project()] == nil {
				flags[f.Project()] = map[string]bool{}
			}
			if !f.Archived() {
				flags[f.Project()][f.Key()] = true
			}
		}
	}
	var out []store.Project
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		out = append(out, store.Project{Name: name, Flags: len(flags[name])})
	}
	return out
}

func (s projects) Create(ctx context.Context, req *guidonv1.ProjectServiceCreateRequest) (*guidonv1.ProjectServiceCreateResponse, error) {
	err := s.store.CreateProject(ctx, store.NewProject{
		Name: req.GetName(), Description: req.GetDescription(),
		Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	})
	return &guidonv1.ProjectServiceCreateResponse{}, err
}

func (s projects) Archive(ctx context.Context, req *guidonv1.ProjectServiceArchiveRequest) (*guidonv1.ProjectServiceArchiveResponse, error) {
	err := s.store.ArchiveProject(ctx, store.NewProject{
		Name: req.GetName(), Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	})
	return &guidonv1.ProjectServiceArchiveResponse{}, err
}
