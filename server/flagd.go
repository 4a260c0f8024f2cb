package server

import (
	"context"
	"net/http"
	"strings"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
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
		Enter: func(ctx context.Context, environment string) (leave func(), err error) {
			protocol := "flagd.evaluation"
			if strings.HasPrefix(callOf(ctx).procedure, "/"+syncv1connect.FlagSyncServiceName) {
				protocol = "flagd.sync"
			}
			return s.enterAs(ctx, protocol, environment)
		},
		Control: func(ctx context.Context) *http.ResponseController { return callOf(ctx).control },
		Leave:   s.goodbye, Options: []connect.HandlerOption{options}, Draining: s.draining,
		Contexts: s.cfg.Contexts, Progress: s.cfg.Progress, Now: s.now, Log: s.log,
	})
}
