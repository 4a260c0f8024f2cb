package server

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/ofrep"
)

// ofrepHandler answers OFREP with what all calls share: who calls, what errors
// are called.
func (s *Server) ofrepHandler() *ofrep.Handler {
	return ofrep.New(ofrep.Config{
		Caller: s.caller, Environment: s.hub.Environment, Explain: explain, Draining: s.draining,
		Contexts: s.cfg.Contexts, Enter: func(ctx context.Context, environment string) (leave func(), err error) {
			return s.enterAs(ctx, "ofrep", environment)
		},
		Hold: func(_ context.Context, p auth.Principal) *auth.Hold {
			return s.auth.Hold(p, s.cfg.Recheck) //nolint:contextcheck // it outlives this stream if there are others
		},
		Progress: s.cfg.Progress, Now: s.now,
	})
}

// caller is who sends a request of OFREP. Asking for evaluations is bounded,
// asking whether a key is still good is not.
func (s *Server) caller(r *http.Request, evaluates bool) (ofrep.Caller, error) {
	ctx := r.Context()
	principal, err := s.admit(ctx, callOf(ctx), r.Header, auth.OFREP)
	if err == nil && evaluates {
		err = s.pace(ctx, principal, auth.OFREP)
	}
	if err != nil {
		return ofrep.Caller{}, err
	}
	e, err := s.environmentOf(principal, "")
	if err != nil {
		return ofrep.Caller{}, err
	}
	return ofrep.Caller{
		Environment: e, Principal: principal, ClientOnly: principal.Kind == auth.Client,
		Propagates: principal.Propagates(), Projects: hub.NewProjects(principal.Projects()),
	}, nil
}

// explain is the error table for those who do not speak Connect.
func explain(ctx context.Context, err error) *connect.Error { return answer(callOf(ctx), err) }
