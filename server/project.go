package server

import (
	"context"

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
	all, next, err := s.store.Projects(ctx, page)
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
