package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// drainPace is the time for each open stream over which a server that stops
// spreads its goodbyes, until Config.Drain bounds them all.
const drainPace = time.Millisecond

// ackPace is the time for each open stream over which clients spread what they
// acknowledge: a replica hears of a thousand a second at most.
const ackPace = time.Millisecond

// digestLength is that of a digest in hex.
const digestLength = 64

// syncs answers SyncService.
type syncs struct{ *Server }

func (s syncs) Sync(ctx context.Context, req *guidonv1.SyncServiceSyncRequest, out *connect.ServerStream[guidonv1.SyncServiceSyncResponse]) error {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return err
	}
	if req.GetHaveRevision() < 0 {
		return &store.FieldError{Field: "have_revision", Message: "must not be negative"}
	}
	defer s.open.Add(-1)
	if s.open.Add(1) > int64(s.cfg.MaxStreams) {
		s.metrics.refused.Inc()
		return s.admission.full()
	}
	if err := s.admission.admit(); err != nil {
		s.metrics.refused.Inc()
		return err
	}
	gauge := s.metrics.streams.WithLabelValues(e.Name())
	gauge.Inc()
	defer gauge.Dec()
	defer s.fleet.Connect(e.Name(), named(ctx, req.GetClient()), req.GetHaveRevision(), req.GetHaveDigest())()

	stream := &stream{Server: s.Server, environment: e, out: out, call: callOf(ctx), have: req.GetHaveRevision(), digest: req.GetHaveDigest(), remembered: req.GetHaveCheckpoint()}
	// The request has been read; from here on the connection may be silent, and
	// each event has its own time to be taken.
	_ = stream.call.control.SetReadDeadline(time.Time{})
	_ = stream.call.control.SetWriteDeadline(time.Time{})
	watching, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.draining, stop)() //nolint:contextcheck // the server's end, besides the call's
	if err := stream.run(watching); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err() // the client went away
	}
	return stream.leave(ctx)
}

// stream is one Sync call. One goroutine owns it.
type stream struct {
	*Server
	environment *hub.Environment
	out         *connect.ServerStream[guidonv1.SyncServiceSyncResponse]
	call        *call

	// have and digest are what the client holds after what was sent.
	have   int64
	digest string
	// remembered is the size of the audit checkpoint that the client knows.
	remembered int64
	keys       *guidonv1.PropagationKeys
	// overrides verify override tokens.
	overrides *guidonv1.OverrideKeys
	// ahead says that it was reported that the client is ahead of the database.
	ahead bool
	// apiKeys is what a relay was told last.
	apiKeys *guidonv1.APIKeys
	// sentAt and checkedAt are when something was last sent, and the key last
	// found to be good.
	sentAt, checkedAt time.Time
}

// run sends what the client lacks, and keeps it current until ctx ends.
func (s *stream) run(ctx context.Context) error {
	s.checkedAt = s.now()
	for head := range s.environment.Watch(ctx, s.tick()) {
		if s.keys == nil {
			if err := s.greet(ctx, head); err != nil {
				return err
			}
			if err := s.tellKeys(ctx); err != nil {
				return err
			}
		}
		if now := s.now(); now.Sub(s.checkedAt) >= s.cfg.Recheck-s.tick()/2 {
			if err := s.auth.Recheck(ctx, s.call.principal); err != nil && ctx.Err() == nil {
				return err
			}
			s.checkedAt = now
			if err := s.tellKeys(ctx); err != nil {
				return err
			}
		}
		if err := s.update(ctx, head); err != nil {
			return err
		}
	}
	return nil
}

// tick is how often a stream looks up without news. Ticks come a little early
// or late; what is due within half of one is due.
func (s *stream) tick() time.Duration { return min(s.cfg.Heartbeat, s.cfg.Recheck) }

func (s *stream) greet(ctx context.Context, head *hub.Head) error {
	s.keys, s.overrides = head.Keys(), head.OverrideKeys()
	if s.have > head.Revision() {
		// Another replica is ahead of this one, or the database was behind us both.
		if len(s.digest) == digestLength {
			s.environment.Claim(s.have)
		}
		s.hub.Look()
	}
	return s.send(s.hello(ctx, s.environment, head, s.remembered))
}

// hello is the first event of every answer to a client that follows, and
// remembers an audit checkpoint of a number of entries.
func (s *Server) hello(ctx context.Context, e *hub.Environment, head *hub.Head, remembered int64) *guidonv1.SyncServiceSyncResponse {
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Hello{Hello: &guidonv1.Hello{
		Environment: e.Name(), Revision: head.Revision(), ServerTime: timestamppb.New(s.now()),
		HeartbeatInterval: durationpb.New(s.cfg.Heartbeat), PropagationKeys: head.Keys(), OverrideKeys: head.OverrideKeys(),
		AuditCheckpoint: s.checkpoint(ctx, e.Name(), remembered),
		AckSpread:       durationpb.New(time.Duration(s.open.Load()) * ackPace),
	}}}
}

// checkpoint is the newest of the environment's audit log, with the proof that
// it extends the one that the client remembers; nil if there is none.
func (s *Server) checkpoint(ctx context.Context, environment string, remembered int64) *guidonv1.AuditCheckpoint {
	notary := s.cfg.Notary
	newest := notary.Newest(ctx, environment, remembered)
	if newest == nil {
		return nil
	}
	out := &guidonv1.AuditCheckpoint{Note: newest.Note, Verifier: newest.Verifier}
	proof, ok := notary.Prove(ctx, environment, newest, remembered)
	out.Proven = ok
	for _, hash := range proof {
		out.Proof = append(out.Proof, hash[:])
	}
	return out
}

// update sends what is new at head; if nothing is, and nothing was for long, a
// heartbeat.
func (s *stream) update(ctx context.Context, head *hub.Head) error {
	if keys := head.Keys(); keys != s.keys {
		s.keys = keys
		if err := s.send(&guidonv1.SyncServiceSyncResponse{
			Event: &guidonv1.SyncServiceSyncResponse_PropagationKeys{PropagationKeys: keys},
		}); err != nil {
			return err
		}
	}
	if overrides := head.OverrideKeys(); overrides != s.overrides {
		s.overrides = overrides
		if err := s.send(&guidonv1.SyncServiceSyncResponse{
			Event: &guidonv1.SyncServiceSyncResponse_OverrideKeys{OverrideKeys: overrides},
		}); err != nil {
			return err
		}
	}
	events := head.Since(s.have, s.digest)
	for _, event := range events {
		if err := s.send(event); err != nil {
			return err
		}
	}
	if len(events) > 0 {
		s.have, s.digest = head.Revision(), head.Digest()
		return nil
	}
	if s.now().Sub(s.sentAt) < s.cfg.Heartbeat-s.tick()/2 {
		return nil
	}
	if s.have > head.Revision() && !s.ahead {
		// Another replica may be a moment ahead, but not for that long.
		s.ahead = true
		s.metrics.ahead.Inc()
		s.log.LogAttrs(ctx, slog.LevelError, "a client holds a revision that the database does not have: was it restored from a backup? see guidon recover",
			slog.String("environment", s.environment.Name()), slog.Int64("client_revision", s.have), slog.Int64("revision", head.Revision()))
	}
	return s.send(&guidonv1.SyncServiceSyncResponse{
		Event: &guidonv1.SyncServiceSyncResponse_Heartbeat{Heartbeat: &guidonv1.Heartbeat{Revision: head.Revision()}},
	})
}

// send writes one event. A client that takes none of it within Config.Progress
// is cut off: it would hold memory for nothing, and find out by itself.
func (s *stream) send(event *guidonv1.SyncServiceSyncResponse) error {
	start := s.now()
	_ = s.call.control.SetWriteDeadline(start.Add(s.cfg.Progress))
	if err := s.out.Send(event); err != nil {
		if s.now().Sub(start) >= s.cfg.Progress {
			s.metrics.stalled.Inc()
			return fmt.Errorf("%w: %w", errStalled, err)
		}
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	_ = s.call.control.SetWriteDeadline(time.Time{})
	s.sentAt = s.now()
	return nil
}

// leave tells the client to go elsewhere, at a moment of its own.
func (s *stream) leave(ctx context.Context) error {
	spread := min(s.cfg.Drain, time.Duration(s.open.Load())*drainPace)
	wait := time.NewTimer(rand.N(spread + 1)) //nolint:gosec // spreads load, guards nothing
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.send(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_GoingAway{
		GoingAway: &guidonv1.GoingAway{RetryAfter: durationpb.New(rand.N(spread + 1))}, //nolint:gosec // see above
	}})
	return errors.Join(errDraining, err)
}

// Ack takes note of what an instance holds. It asks nobody.
func (s syncs) Ack(ctx context.Context, req *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	switch {
	case err != nil:
		return nil, err
	case req.GetRevision() < 0:
		return nil, &store.FieldError{Field: "revision", Message: "must not be negative"}
	case req.GetClient().GetInstance() == "":
		return nil, &store.FieldError{Field: "client.instance", Message: "is required"}
	}
	if page := req.GetBehind(); len(page) > 0 {
		if auth.FromContext(ctx).Kind != auth.Relay {
			return nil, fmt.Errorf("%w: only a relay tells of others", auth.ErrDenied)
		}
		if err := s.fleet.Behind(e.Name(), req.GetClient(), page); err != nil {
			return nil, err
		}
	}
	s.fleet.Ack(e.Name(), req)
	return &guidonv1.SyncServiceAckResponse{}, nil
}

// named is a client as the fleet knows it. One that names no instance is known
// by its call.
func named(ctx context.Context, c *guidonv1.Client) *guidonv1.Client {
	if c.GetInstance() != "" {
		return c
	}
	return &guidonv1.Client{Service: c.GetService(), Instance: callOf(ctx).requestID, Sdk: c.GetSdk(), Version: c.GetVersion()}
}

func (s syncs) GetDefinition(ctx context.Context, req *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	d, err := e.Definition(ctx, req.GetKey(), req.GetRevision())
	if err != nil {
		return nil, err
	}
	return &guidonv1.SyncServiceGetDefinitionResponse{Rows: toRows(d.Rows), FromRevision: d.From, ToRevision: d.To, KnownRevision: d.Known}, nil
}

func (s syncs) GetEmergencies(ctx context.Context, req *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if err := e.Reach(ctx, req.GetRevision()); err != nil {
		return nil, err
	}
	snapshot := e.Snapshot()
	return &guidonv1.SyncServiceGetEmergenciesResponse{Revision: snapshot.Revision(), Rows: hub.Rows(snapshot.EmergencyRows())}, nil
}

func (s syncs) GetSnapshot(ctx context.Context, req *guidonv1.SyncServiceGetSnapshotRequest) (*guidonv1.SyncServiceGetSnapshotResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	snapshot, err := e.At(ctx, req.GetRevision())
	if err != nil {
		return nil, err
	}
	return &guidonv1.SyncServiceGetSnapshotResponse{
		Environment: e.Name(), Revision: snapshot.Revision(), Digest: snapshot.Digest().String(), Rows: hub.Rows(snapshot.Rows()),
	}, nil
}
