package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// keysActor is the actor of a key that begins to sign by itself.
const keysActor = "guidon"

func (s environments) RotatePropagationKey(ctx context.Context, req *guidonv1.EnvironmentServiceRotatePropagationKeyRequest) (*guidonv1.EnvironmentServiceRotatePropagationKeyResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	asked := store.Rotation{
		Environment: e.Name(), Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	}
	next, err := s.store.RotatePropagationKey(ctx, asked)
	if err != nil {
		return nil, err
	}
	if req.GetForce() {
		if err := s.store.SwitchPropagationKey(ctx, asked, next); err != nil {
			return nil, err
		}
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "propagation key rotated", slog.String("environment", e.Name()), slog.String("propagation_key_id", next),
		slog.Bool("force", req.GetForce()), slog.String("key_id", auth.FromContext(ctx).KeyID))
	s.awaitKeys(ctx, e, func(signer, pending string) bool { return signer == next || pending == next && !req.GetForce() })
	state, err := s.propagationKey(ctx, e)
	return &guidonv1.EnvironmentServiceRotatePropagationKeyResponse{PropagationKey: state}, err
}

// awaitKeys waits for this replica's hub to know of a key, so that who asks here
// sees what was done. If that takes too long it is done all the same.
func (s *Server) awaitKeys(ctx context.Context, e *hub.Environment, known func(signer, next string) bool) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	s.hub.Look()
	for head := range e.Watch(ctx, 0) {
		if next, _ := head.NextKey(); known(head.Keys().GetSigner(), next) {
			return
		}
	}
}

// propagationKey says which key signs, and how far the next one has come. Of
// instances that are connected elsewhere it may not know while Postgres is away.
func (s *Server) propagationKey(ctx context.Context, e *hub.Environment) (*guidonv1.PropagationKeyState, error) {
	head := e.Head()
	next, _ := head.NextKey()
	out := &guidonv1.PropagationKeyState{Signer: head.Keys().GetSigner(), Next: next}
	if next == "" {
		return out, nil
	}
	reading, cancel := s.fallback(ctx)
	defer cancel()
	count, err := s.fleet.HoldKey(reading, e.Name(), next)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	out.Held, out.Connected = int32(count.Held), int32(count.Connected)
	return out, nil
}

// switchKeys lets new propagation keys sign, until ctx ends. Each replica does:
// whoever is first makes the switch, and the store makes it once.
func (s *Server) switchKeys(ctx context.Context) {
	began := s.now()
	tick := time.NewTicker(s.cfg.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.now().Sub(began) < s.cfg.KeyWait {
			continue // instances may not have come back yet
		}
		for e := range s.hub.Environments() {
			if err := s.switchKey(ctx, e); err != nil && ctx.Err() == nil {
				s.log.LogAttrs(ctx, slog.LevelWarn, "propagation key not switched", slog.String("environment", e.Name()), slog.Any("error", err))
			}
		}
	}
}

// switchKey lets the next key of an environment sign if every instance that is
// connected, to any replica, has said that it holds it.
func (s *Server) switchKey(ctx context.Context, e *hub.Environment) error {
	next, since := e.Head().NextKey()
	if next == "" || s.now().Sub(since) < s.cfg.KeyWait {
		return nil
	}
	count, err := s.fleet.HoldKey(ctx, e.Name(), next)
	if err != nil || !count.All() {
		return err
	}
	if err := s.store.SwitchPropagationKey(ctx, store.Rotation{
		Environment: e.Name(), Actor: keysActor, Reason: "every connected instance acknowledged the key",
	}, next); err != nil {
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "propagation key signs", slog.String("environment", e.Name()),
		slog.String("propagation_key_id", next), slog.Int("instances", count.Connected))
	return nil
}
