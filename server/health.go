package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/grpchealth"

	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
)

// live says that the process serves requests. It asks nobody else: a database
// that is away is no reason to restart this process.
func live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// ready says whether this replica should get traffic, and why not.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.readiness(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "not ready: "+reason(err)+"\n")
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// readiness is why this replica should not get traffic; nil if it should.
func (s *Server) readiness() error {
	if s.draining.Err() != nil {
		return errDraining
	}
	if s.store != nil {
		if err := s.store.Replicating(); err != nil {
			return err
		}
	}
	return s.hub.Ready()
}

// reason is an error without what drivers and upstreams add to it: who asks
// whether we are ready carries no key.
func reason(err error) string {
	text := err.Error()
	for _, known := range []error{store.ErrUnavailable, relay.ErrLost} {
		if before, _, ok := strings.Cut(text, known.Error()); ok {
			text = before + known.Error()
		}
	}
	return text
}

// health answers grpc.health.v1 with readiness, for the server as a whole and
// for each service that is mounted.
type health struct {
	server   *Server
	services map[string]bool // by full name
}

// Check implements [grpchealth.Checker].
func (h health) Check(_ context.Context, request *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if request.Service != "" && !h.services[request.Service] {
		return nil, answer(&call{}, errUnknownService)
	}
	status := grpchealth.StatusServing
	if h.server.readiness() != nil {
		status = grpchealth.StatusNotServing
	}
	return &grpchealth.CheckResponse{Status: status}, nil
}

var errUnknownService = errors.New("no such service")
