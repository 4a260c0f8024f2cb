package server

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/ofrep"
)

// ofrepHandler answers OFREP with what all calls share: who calls, what errors
// are called.
func (s *Server) ofrepHandler() *ofrep.Handler {
	return ofrep.New(ofrep.Config{
		Caller: s.caller, Environment: s.hub.Environment, Explain: explain, Draining: s.draining,
		Contexts: s.cfg.Contexts, ClientRate: s.cfg.ClientRate, MaxStreams: s.cfg.MaxStreams, Recheck: s.cfg.Recheck,
		Progress: s.cfg.Progress, Now: s.now,
	})
}

// caller is who sends a request of OFREP.
func (s *Server) caller(w http.ResponseWriter, r *http.Request) (ofrep.Caller, error) {
	principal, err := s.admit(r.Context(), callOf(r.Context()), r.Header, auth.OFREP)
	if err != nil {
		return ofrep.Caller{}, err
	}
	e, err := s.environmentOf(principal, "")
	if err != nil {
		return ofrep.Caller{}, err
	}
	return ofrep.Caller{
		Environment: e, KeyID: principal.KeyID, Key: principal.KeyText(), ClientOnly: principal.Kind == auth.Client,
	}, nil
}

// explain is the error table for those who do not speak Connect.
func explain(ctx context.Context, err error) (connect.Code, string) {
	known := answer(callOf(ctx), err)
	return known.Code(), known.Message()
}
