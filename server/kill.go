package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

func (s changes) Kill(ctx context.Context, req *guidonv1.ChangeServiceKillRequest) (*guidonv1.ChangeServiceKillResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(req.GetReason()) == "" {
		return nil, &store.FieldError{Field: "reason", Message: "is required: a kill changes requests that are under way"}
	}
	if len(req.GetKills()) == 0 {
		return nil, &store.FieldError{Field: "kills", Message: "there are none"}
	}
	cs := store.ChangeSet{Reason: req.GetReason(), IdempotencyKey: req.GetIdempotencyKey(), DryRun: req.GetDryRun()}
	for _, k := range req.GetKills() {
		cs.Operations = append(cs.Operations, store.KillFlag{Environment: e.Name(), Key: k.GetKey(), Variant: k.GetVariant()})
	}
	applied, err := s.apply(ctx, cs)
	if err != nil {
		return nil, err
	}
	return &guidonv1.ChangeServiceKillResponse{
		ChangeId: applied.ChangeID, Revision: applied.Revisions[e.Name()], Changes: toChanges(applied.Changes), Warnings: applied.Warnings,
		Unchanged: applied.Unchanged,
	}, nil
}

func (s changes) Unkill(ctx context.Context, req *guidonv1.ChangeServiceUnkillRequest) (*guidonv1.ChangeServiceUnkillResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if len(req.GetKeys()) == 0 {
		return nil, &store.FieldError{Field: "keys", Message: "there are none"}
	}
	cs := store.ChangeSet{Reason: req.GetReason(), IdempotencyKey: req.GetIdempotencyKey(), DryRun: req.GetDryRun()}
	for _, key := range req.GetKeys() {
		cs.Operations = append(cs.Operations, store.UnkillFlag{Environment: e.Name(), Key: key})
	}
	applied, err := s.apply(ctx, cs)
	if err != nil {
		return nil, err
	}
	return &guidonv1.ChangeServiceUnkillResponse{
		ChangeId: applied.ChangeID, Revision: applied.Revisions[e.Name()], Changes: toChanges(applied.Changes), Warnings: applied.Warnings,
		Unchanged: applied.Unchanged,
	}, nil
}

func (s changes) KillReport(ctx context.Context, req *guidonv1.ChangeServiceKillReportRequest) (*guidonv1.ChangeServiceKillReportResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	if req.GetRevision() < 1 {
		return nil, &store.FieldError{Field: "revision", Message: "is required: the one that the kill made"}
	}
	if err := e.Reach(ctx, req.GetRevision()); err != nil {
		return nil, err
	}
	out := &guidonv1.ChangeServiceKillReportResponse{Environment: e.Name(), Revision: req.GetRevision()}
	for k := range e.Snapshot().Emergencies().All() {
		if k.Revision == req.GetRevision() {
			out.Kills = append(out.Kills, &guidonv1.Kill{Key: k.Flag, Variant: k.Variant})
		}
	}
	if len(out.GetKills()) == 0 {
		return nil, fmt.Errorf("revision %d of environment %q is no kill: %w", req.GetRevision(), e.Name(), store.ErrNotFound)
	}
	recorded, err := s.store.KillReport(ctx, e.Name(), req.GetRevision())
	switch {
	case errors.Is(err, store.ErrNotFound): // it is new, or nobody was connected
		made, err := s.store.Revision(ctx, e.Name(), req.GetRevision())
		if err != nil {
			return nil, err
		}
		recorded.KilledAt = made.Time
	case err != nil:
		return nil, err
	}
	out.KilledAt = toTime(recorded.KilledAt)
	figures, err := s.killFigures(ctx, e.Name(), req.GetRevision(), recorded.KilledAt)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	out.Partial = err != nil
	out.Connected, out.Reached = int32(figures.Connected), int32(figures.Reached)
	if recorded.Timed > figures.Timed { // some of those that took it are gone, or did long ago
		figures = recorded.KillFigures
		out.Recorded = &guidonv1.KillRecord{
			Reached: int32(recorded.Reached), Connected: int32(recorded.Connected), RecordedAt: toTime(recorded.RecordedAt),
		}
	}
	if out.Timed = int32(figures.Timed); figures.Timed > 0 {
		out.P50, out.P99, out.Last = durationpb.New(figures.P50), durationpb.New(figures.P99), durationpb.New(figures.Last)
	}
	out.Pierced, err = s.fleet.Pierced(ctx, e.Name(), req.GetRevision())
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	out.Pierced = max(out.GetPierced(), recorded.Pierced)
	return out, nil
}
