package server

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

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
		Leave:   s.leave, Options: []connect.HandlerOption{options}, Draining: s.draining,
		Contexts: s.cfg.Contexts, Progress: s.cfg.Progress, Now: s.now, Log: s.log,
	})
}

// enter counts a stream that is no Sync, within the same bound.
func (s *Server) enter() (func(), error) {
	if s.open.Add(1) > int64(s.cfg.MaxStreams) {
		s.open.Add(-1)
		return nil, errFull
	}
	return func() { s.open.Add(-1) }, nil
}

// leave waits for a stream's own moment to end when the server stops.
func (s *Server) leave(ctx context.Context) error {
	wait := time.NewTimer(rand.N(min(s.cfg.Drain, time.Duration(s.open.Load()+1)*drainPace) + 1)) //nolint:gosec // spreads load, guards nothing
	defer wait.Stop()
	select {
	case <-wait.C:
		return errDraining
	case <-ctx.Done():
		return ctx.Err()
	}
}
