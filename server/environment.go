package server

import (
	"context"
	"slices"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// environments answers EnvironmentService.
type environments struct{ *Server }

// environment is the one that a call is about: what the request names, as far
// as the caller's key allows.
func (s *Server) environment(ctx context.Context, name string) (*hub.Environment, error) {
	return s.environmentOf(auth.FromContext(ctx), name)
}

// environmentOf is the environment that p calls name.
func (s *Server) environmentOf(p auth.Principal, name string) (*hub.Environment, error) {
	name, err := p.Environment(name)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, &store.FieldError{Field: "environment", Message: "is required with a key that does not belong to one"}
	}
	return s.hub.Environment(name)
}

// projectsOf are those whose flags the caller sees.
func projectsOf(ctx context.Context) hub.Projects {
	return hub.NewProjects(auth.FromContext(ctx).Projects())
}

// all are the environments there are; none is [hub.ErrNotReady].
func (s *Server) all() ([]*hub.Environment, error) {
	all := slices.Collect(s.hub.Environments())
	if len(all) == 0 {
		return nil, hub.ErrNotReady
	}
	return all, nil
}

func (s environments) Get(ctx context.Context, req *guidonv1.EnvironmentServiceGetRequest) (*guidonv1.EnvironmentServiceGetResponse, error) {
	e, err := s.environment(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	out := toEnvironment(e)
	if out.PropagationKey, err = s.propagationKey(ctx, e); err != nil {
		return nil, err
	}
	return &guidonv1.EnvironmentServiceGetResponse{Environment: out}, nil
}

func (s environments) List(ctx context.Context, req *guidonv1.EnvironmentServiceListRequest) (*guidonv1.EnvironmentServiceListResponse, error) {
	all, err := s.all()
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(all, (*hub.Environment).Name, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	out := &guidonv1.EnvironmentServiceListResponse{NextPageToken: next}
	for _, e := range page {
		shown := toEnvironment(e)
		if shown.PropagationKey, err = s.propagationKey(ctx, e); err != nil {
			return nil, err
		}
		out.Environments = append(out.Environments, shown)
	}
	return out, nil
}
