package server

import (
	"context"
	"time"

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

func (s environments) Create(ctx context.Context, req *guidonv1.EnvironmentServiceCreateRequest) (*guidonv1.EnvironmentServiceCreateResponse, error) {
	err := s.store.CreateEnvironment(ctx, store.NewEnvironment{
		Name: req.GetName(), Protected: req.GetProtected(), Retention: int(req.GetRetentionDays()),
		Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	})
	if err != nil {
		return nil, err
	}
	s.settle(ctx, req.GetName(), func(store.Environment) bool { return true })
	return &guidonv1.EnvironmentServiceCreateResponse{}, nil
}

// knownTimeout is settleTimeout for what has no revision that a later read could
// wait for.
const knownTimeout = 5 * time.Second

// settle waits until this replica knows an environment as it was made, so that
// whoever made it reads what they wrote.
func (s environments) settle(ctx context.Context, name string, known func(store.Environment) bool) {
	ctx, cancel := context.WithTimeout(ctx, knownTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if e, err := s.hub.Environment(name); err == nil && known(e.Row()) {
			return
		}
		s.hub.Look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return // it is made, and will be known
		}
	}
}

func (s environments) Update(ctx context.Context, req *guidonv1.EnvironmentServiceUpdateRequest) (*guidonv1.EnvironmentServiceUpdateResponse, error) {
	u := store.EnvironmentUpdate{
		Name: req.GetName(), Protected: req.Protected, Archived: req.Archived,
		Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	}
	if req.RetentionDays != nil {
		days := int(req.GetRetentionDays())
		u.Retention = &days
	}
	changed, err := s.store.UpdateEnvironment(ctx, u)
	if err != nil {
		return nil, err
	}
	if changed {
		s.settle(ctx, req.GetName(), func(e store.Environment) bool {
			return (u.Protected == nil || e.Protected == *u.Protected) && (u.Archived == nil || e.Archived == *u.Archived) &&
				(u.Retention == nil || e.Retention == *u.Retention)
		})
	}
	return &guidonv1.EnvironmentServiceUpdateResponse{Changed: changed}, nil
}
