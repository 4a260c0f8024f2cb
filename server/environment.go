package server

import (
	"context"
	"slices"
	"time"

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

// faultless returns why nothing may be written: the database lacks what this
// replica served, and a revision number would be used twice.
func (s *Server) faultless() error {
	for e := range s.hub.Environments() {
		if err := e.Fault(); err != nil {
			return err
		}
	}
	return nil
}

func (s environments) Get(ctx context.Context, req *guidonv1.EnvironmentServiceGetRequest) (*guidonv1.EnvironmentServiceGetResponse, error) {
	e, err := s.environment(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	out := toEnvironment(e)
	if req.GetRevision() != 0 || req.GetTime() != nil {
		snapshot, err := s.snapshot(ctx, e, req)
		if err != nil {
			return nil, err
		}
		asOf(out, snapshot)
	}
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

func (s environments) Create(ctx context.Context, req *guidonv1.EnvironmentServiceCreateRequest) (*guidonv1.EnvironmentServiceCreateResponse, error) {
	// One that a restore lost would begin at revision 1 anew.
	if err := s.faultless(); err != nil {
		return nil, err
	}
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

func (s environments) Update(ctx context.Context, req *guidonv1.EnvironmentServiceUpdateRequest) (*guidonv1.EnvironmentServiceUpdateResponse, error) {
	if err := s.faultless(); err != nil {
		return nil, err
	}
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
