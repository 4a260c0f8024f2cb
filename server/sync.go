package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

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
	exit, err := s.enter(ctx)
	if err != nil {
		return err
	}
	gauge := s.metrics.streams.WithLabelValues(e.Name())
	gauge.Inc()
	leave := s.fleet.Connect(e.Name(), named(ctx, req.GetClient()), req.GetHaveRevision(), req.GetHaveDigest())
	stream := &stream{
		Server: s.Server, environment: e, projects: projectsOf(ctx), out: out, call: callOf(ctx), began: time.Now(),
		have: req.GetHaveRevision(), digest: req.GetHaveDigest(), remembered: req.GetHaveCheckpoint(),
		end: func() {
			leave()
			gauge.Dec()
			exit()
		},
	}
	detached := false
	defer func() {
		if !detached {
			stream.end()
		}
	}()
	// The request has been read; from here on the connection may be silent, and
	// each event has its own time to be taken.
	_ = stream.call.control.SetReadDeadline(time.Time{})
	_ = stream.call.control.SetWriteDeadline(time.Time{})
	if err := stream.begin(ctx); err != nil {
		return err
	}
	if detached = stream.detach(ctx); detached {
		return nil
	}
	return stream.run(ctx, ctx.Done())
}

// stream is one Sync call. One goroutine owns it.
type stream struct {
	*Server
	environment *hub.Environment
	// projects are those that the client sees.
	projects hub.Projects
	out      *connect.ServerStream[guidonv1.SyncServiceSyncResponse]
	call     *call
	began    time.Time
	// end takes note that the stream is no more. It is called once.
	end func()
	// conn has taken the place of out in a detached stream; parts and scratch
	// are what one write to it consists of, sending is what is left of it, and
	// broken says that one failed.
	conn    net.Conn
	parts   net.Buffers
	sending net.Buffers
	scratch [16]byte
	broken  bool

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
	// sentAt is when something was last sent.
	sentAt time.Time
}

// begin sends hello, and what the client lacks.
func (s *stream) begin(ctx context.Context) error {
	head := s.environment.HeadFor(s.projects)
	if err := s.greet(ctx, head); err != nil {
		return err
	}
	if err := s.tellKeys(ctx); err != nil {
		return err
	}
	_, err := s.update(head)
	return err
}

// run keeps the client current until it has left, or the server stops, and
// returns why.
func (s *stream) run(ctx context.Context, left <-chan struct{}) error {
	// One goroutine asks whether a key is still good, for all of its streams.
	key := s.auth.Hold(s.call.principal, s.cfg.Recheck) //nolint:contextcheck // it outlives this stream if there are others
	defer key.Release()
	clock := time.NewTimer(s.patience())
	defer clock.Stop()
	for rung := false; ; {
		if err := key.Err(); err != nil {
			return err
		}
		head := s.environment.HeadFor(s.projects)
		if err := s.look(ctx, head, rung); err != nil {
			return err
		}
		clock.Reset(s.patience())
		rung = false
		select {
		case <-left:
			return cmp.Or(ctx.Err(), context.Canceled)
		case <-s.draining.Done():
			return s.leave(ctx, left)
		case <-key.Lost():
		case <-head.Superseded():
		case <-clock.C:
			rung = true
		}
	}
}

// patience is how long a stream is silent before it looks up without news. A
// change goes to all streams at once; their heartbeats after it do not.
func (s *stream) patience() time.Duration {
	if s.call.principal.Kind == auth.Relay {
		return min(s.cfg.Heartbeat, s.cfg.Recheck) // it is told of new keys, too
	}
	return s.cfg.Heartbeat/2 + rand.N(s.cfg.Heartbeat/2+1) //nolint:gosec // spreads load, guards nothing
}

// look sends what is new. If nothing has been for a while, it tells a relay
// which keys are good, and sends a heartbeat.
func (s *stream) look(ctx context.Context, head *hub.Head, silent bool) error {
	if silent {
		if err := s.tellKeys(ctx); err != nil {
			return err
		}
	}
	sent, err := s.update(head)
	if err != nil || sent || !silent {
		return err
	}
	if s.call.principal.Kind == auth.Relay && s.now().Sub(s.sentAt) < s.cfg.Heartbeat-s.patience()/2 {
		return nil
	}
	if s.have > head.Revision() && !s.ahead {
		// Another replica may be a moment ahead, but not for that long.
		s.ahead = true
		s.metrics.ahead.Inc()
		s.log.LogAttrs(ctx, slog.LevelError, "a client holds a revision that the database does not have: was it restored from a backup? see guidon recover",
			slog.String("environment", s.environment.Name()), slog.Int64("client_revision", s.have), slog.Int64("revision", head.Revision()))
	}
	return s.send(heartbeat(s.environment, head))
}

// staleAge is the age beyond which clients are told how old what they hold is:
// one look at the database that timed out is not enough.
const staleAge = 10 * time.Second

// ageOf is what clients are told of the age of an environment: nothing while it is
// current.
func ageOf(e *hub.Environment) *durationpb.Duration {
	if age := e.Age(); age > staleAge {
		return durationpb.New(age)
	}
	return nil
}

// heartbeat is the one that all clients share, but for the time in which nobody
// knows whether there is something newer.
func heartbeat(e *hub.Environment, head *hub.Head) proto.Message {
	age := ageOf(e)
	if age == nil {
		return head.Heartbeat()
	}
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Heartbeat{
		Heartbeat: &guidonv1.Heartbeat{Revision: head.Revision(), Age: age},
	}}
}

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
		AckSpread:       s.ackSpread(), Age: ageOf(e),
	}}}
}

// ackSpread is the time over which clients are to spread what they acknowledge.
func (s *Server) ackSpread() *durationpb.Duration {
	return durationpb.New(time.Duration(s.open.Load()) * ackPace)
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

// update sends what is new at head, and reports whether anything was.
func (s *stream) update(head *hub.Head) (sent bool, err error) {
	if keys := head.Keys(); keys != s.keys {
		s.keys, sent = keys, true
		if err := s.send(&guidonv1.SyncServiceSyncResponse{
			Event: &guidonv1.SyncServiceSyncResponse_PropagationKeys{PropagationKeys: keys},
		}); err != nil {
			return sent, err
		}
	}
	if overrides := head.OverrideKeys(); overrides != s.overrides {
		s.overrides, sent = overrides, true
		if err := s.send(&guidonv1.SyncServiceSyncResponse{
			Event: &guidonv1.SyncServiceSyncResponse_OverrideKeys{OverrideKeys: overrides},
		}); err != nil {
			return sent, err
		}
	}
	for _, event := range head.Since(s.have, s.digest) {
		if err := s.send(event); err != nil {
			return sent, err
		}
		s.have, s.digest, sent = head.Revision(), head.Digest(), true
	}
	return sent, nil
}

// send writes one event. A client that takes none of it within Config.Progress
// is cut off: it would hold memory for nothing, and find out by itself.
func (s *stream) send(event proto.Message) error {
	if err := store.Failpoint("mid-stream"); err != nil {
		return err
	}
	start := s.now()
	deadline := start.Add(s.cfg.Progress)
	var err error
	if s.conn != nil {
		_ = s.conn.SetWriteDeadline(deadline) // of the next write, whenever that is
		err = s.message(event)
	} else {
		_ = s.call.control.SetWriteDeadline(deadline)
		err = s.out.Conn().Send(event)
	}
	if err != nil {
		if s.now().Sub(start) >= s.cfg.Progress {
			s.metrics.stalled.Inc()
			return fmt.Errorf("%w: %w", errStalled, err)
		}
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	if s.conn == nil {
		_ = s.call.control.SetWriteDeadline(time.Time{}) // over HTTP/2 it would end the stream
	}
	s.sentAt = s.now()
	return nil
}

// leave tells the client to go elsewhere, at a moment of its own.
func (s *stream) leave(ctx context.Context, left <-chan struct{}) error {
	if !s.linger(left) {
		return cmp.Or(ctx.Err(), context.Canceled)
	}
	err := s.send(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_GoingAway{
		GoingAway: &guidonv1.GoingAway{RetryAfter: durationpb.New(rand.N(s.goodbyes() + 1))}, //nolint:gosec // spreads load, guards nothing
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
	return &guidonv1.SyncServiceAckResponse{AckSpread: s.ackSpread()}, nil
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
	if req.GetNearest() {
		d, at, err := e.NearestDefinitionFor(ctx, projectsOf(ctx), req.GetKey(), req.GetRevision())
		if err != nil {
			return nil, err
		}
		out := toDefinition(d)
		if at != req.GetRevision() {
			out.NearestRevision = at
		}
		return out, nil
	}
	d, err := e.DefinitionFor(ctx, projectsOf(ctx), req.GetKey(), req.GetRevision())
	if err != nil {
		return nil, err
	}
	return toDefinition(d), nil
}

func toDefinition(d hub.Definition) *guidonv1.SyncServiceGetDefinitionResponse {
	return &guidonv1.SyncServiceGetDefinitionResponse{Rows: toRows(d.Rows), FromRevision: d.From, ToRevision: d.To, KnownRevision: d.Known}
}

func (s syncs) GetEmergencies(ctx context.Context, req *guidonv1.SyncServiceGetEmergenciesRequest) (*guidonv1.SyncServiceGetEmergenciesResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if err := e.Reach(ctx, req.GetRevision()); err != nil {
		return nil, err
	}
	snapshot := e.HeadFor(projectsOf(ctx)).Snapshot()
	return &guidonv1.SyncServiceGetEmergenciesResponse{Revision: snapshot.Revision(), Rows: hub.Rows(snapshot.EmergencyRows())}, nil
}

func (s syncs) GetSnapshot(ctx context.Context, req *guidonv1.SyncServiceGetSnapshotRequest) (*guidonv1.SyncServiceGetSnapshotResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	snapshot, err := e.AtFor(ctx, projectsOf(ctx), req.GetRevision())
	if err != nil {
		return nil, err
	}
	return &guidonv1.SyncServiceGetSnapshotResponse{
		Environment: e.Name(), Revision: snapshot.Revision(), Digest: snapshot.Digest().String(), Rows: hub.Rows(snapshot.Rows()),
	}, nil
}
