package server

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/flagd"
)

// flagdService answers flagd's protocols with the interceptors of our own.
func (s *Server) flagdService(options connect.HandlerOption) *flagd.Service {
	return flagd.New(flagd.Config{
		Caller: func(ctx context.Context) (flagd.Caller, error) {
			e, err := s.environment(ctx, "")
			principal := auth.FromContext(ctx)
			return flagd.Caller{
				Environment: e, ClientOnly: principal.Kind == auth.Client, Projects: projectsOf(ctx), Propagates: principal.Propagates(),
			}, err
		},
		Hold: func(ctx context.Context) *auth.Hold {
			return s.auth.Hold(auth.FromContext(ctx), s.cfg.Recheck) //nolint:contextcheck // it outlives this stream if there are others
		},
		Enter:   s.enter,
		Control: func(ctx context.Context) *http.ResponseController { return callOf(ctx).control },
		Leave:   s.goodbye, Options: []connect.HandlerOption{options}, Draining: s.draining,
		Contexts: s.cfg.Contexts, Progress: s.cfg.Progress, Now: s.now, Log: s.log,
	})
}
