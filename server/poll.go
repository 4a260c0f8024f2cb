package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
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
// until there is news for the client, the wait is over, or the server stops. A
// client that says by ETag what it has may leave out the rest.
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
	info, _ := connect.CallInfoForHandlerContext(ctx)
	tags := info.RequestHeader().Values("If-None-Match")
	key := s.auth.Hold(auth.FromContext(ctx), s.cfg.Recheck) //nolint:contextcheck // it outlives this call if there are others
	defer key.Release()
	waiting, stop := key.Context(ctx)
	defer stop()
	head := s.news(waiting, e, have, tags, min(req.GetWait().AsDuration(), longestPoll))
	if err := s.auth.Recheck(ctx, auth.FromContext(ctx)); err != nil {
		return nil, err // the key was good when the wait began
	}
	header := info.ResponseHeader()
	header.Set("ETag", headTag(head))
	header.Set("Cache-Control", "private, no-cache")
	header.Add("Vary", "Authorization, X-API-Key") // and Accept-Encoding, says Connect
	if info.HTTPMethod() == http.MethodGet && view.Matches(tags, headTag(head)) {
		return nil, connect.NewNotModifiedError(header)
	}
	events := []*guidonv1.SyncServiceSyncResponse{s.hello(ctx, e, head, req.GetHave().GetHaveCheckpoint())}
	for _, event := range head.Since(have.GetHaveRevision(), have.GetHaveDigest()) {
		events = append(events, event.SyncServiceSyncResponse)
	}
	return &guidonv1.SyncServiceGetDeltaResponse{Events: events}, nil
}

// headTag is what an answer from a head leaves a client with: the rows and the
// keys. It is weak, for the answer also says what time it is.
func headTag(head *hub.Head) string {
	sum := sha256.New()
	for _, m := range []proto.Message{head.Keys(), head.OverrideKeys()} {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(err) // keys are texts and bytes
		}
		sum.Write(raw)
	}
	return fmt.Sprintf(`W/"%d-%s-%x"`, head.Revision(), head.Digest(), sum.Sum(nil)[:8])
}

// news returns the newest head as soon as it is not what a client has, by one of
// its tags, or by what it says if it has none, or the wait is over.
func (s *Server) news(
	ctx context.Context, e *hub.Environment, have *guidonv1.SyncServiceSyncRequest, tags []string, wait time.Duration,
) *hub.Head {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)() //nolint:contextcheck // the server's end, besides the call's
	projects := projectsOf(ctx)
	first := e.HeadFor(projects)
	for head := range e.WatchFor(ctx, projects) {
		if len(tags) > 0 {
			if !view.Matches(tags, headTag(head)) {
				break
			}
			continue
		}
		if head.Keys() != first.Keys() || head.OverrideKeys() != first.OverrideKeys() || len(head.Since(have.GetHaveRevision(), have.GetHaveDigest())) > 0 {
			break
		}
	}
	return e.HeadFor(projects)
}
