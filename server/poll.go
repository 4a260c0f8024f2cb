package server

import (
	"context"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

const (
	// longestPoll bounds how long a client may wait for news: a call's own time,
	// less what the answer needs.
	longestPoll = callTimeout - 5*time.Second
	// pollShare is the part of the streams that may be polls that wait.
	pollShare = 4
)

// GetDelta answers with the events that a stream would begin with. It waits
// until there is news for the client, the wait is over, or the server stops.
func (s syncs) GetDelta(ctx context.Context, req *guidonv1.SyncServiceGetDeltaRequest) (*guidonv1.SyncServiceGetDeltaResponse, error) {
	have := req.GetHave()
	e, err := s.environment(ctx, have.GetEnvironment())
	switch {
	case err != nil:
		return nil, err
	case have.GetHaveRevision() < 0:
		return nil, &store.FieldError{Field: "have.have_revision", Message: "must not be negative"}
	case req.GetWait().AsDuration() < 0:
		return nil, &store.FieldError{Field: "wait", Message: "must not be negative"}
	}
	defer s.polls.Add(-1)
	if s.polls.Add(1) > int64(max(s.cfg.MaxStreams/pollShare, 1)) {
		return nil, s.admission.full()
	}
	s.fleet.Poll(e.Name(), named(ctx, have.GetClient()), have.GetHaveRevision(), have.GetHaveDigest())
	head := s.news(ctx, e, have, min(req.GetWait().AsDuration(), longestPoll))
	if err := s.auth.Recheck(ctx, auth.FromContext(ctx)); err != nil {
		return nil, err // the key was good when the wait began
	}
	events := []*guidonv1.SyncServiceSyncResponse{s.hello(ctx, e, head, req.GetHave().GetHaveCheckpoint())}
	return &guidonv1.SyncServiceGetDeltaResponse{Events: append(events, head.Since(have.GetHaveRevision(), have.GetHaveDigest())...)}, nil
}

// news returns the newest head as soon as it is not what a client has, or the
// wait is over.
func (s *Server) news(ctx context.Context, e *hub.Environment, have *guidonv1.SyncServiceSyncRequest, wait time.Duration) *hub.Head {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)() //nolint:contextcheck // the server's end, besides the call's
	first := e.Head()
	for head := range e.Watch(ctx, 0) {
		if head.Keys() != first.Keys() || head.OverrideKeys() != first.OverrideKeys() || len(head.Since(have.GetHaveRevision(), have.GetHaveDigest())) > 0 {
			break
		}
	}
	return e.Head()
}
