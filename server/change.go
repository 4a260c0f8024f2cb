package server

import (
	"context"
	"log/slog"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// settleTimeout bounds how long an applied change waits for this replica to
// see it, so that who writes here reads what was written.
const settleTimeout = 500 * time.Millisecond

// changes answers ChangeService.
type changes struct{ *Server }

func (s changes) Apply(ctx context.Context, req *guidonv1.ChangeServiceApplyRequest) (*guidonv1.ChangeServiceApplyResponse, error) {
	operations, err := fromOperations(req.GetOperations())
	if err != nil {
		return nil, err
	}
	applied, err := s.apply(ctx, store.ChangeSet{
		Reason: req.GetReason(), IdempotencyKey: req.GetIdempotencyKey(), Expect: req.GetExpectedRevisions(),
		Operations: operations, DryRun: req.GetDryRun(), IsolateInvalid: req.GetIsolateInvalid(),
	})
	if err != nil {
		return nil, err
	}
	return &guidonv1.ChangeServiceApplyResponse{
		ChangeId: applied.ChangeID, Revisions: applied.Revisions, Changes: toChanges(applied.Changes), Warnings: applied.Warnings,
		Unchanged: applied.Unchanged,
	}, nil
}

// apply carries out a change set in the name of the caller.
func (s changes) apply(ctx context.Context, cs store.ChangeSet) (store.Applied, error) {
	return s.carryOut(ctx, cs.DryRun, func(actor, correlationID string) (store.Applied, error) {
		cs.Actor, cs.CorrelationID = actor, correlationID
		return s.store.Apply(ctx, cs)
	})
}

// carryOut has the store make a change in the name of the caller, and sees to
// what comes before and after every one.
func (s changes) carryOut(ctx context.Context, dryRun bool, do func(actor, correlationID string) (store.Applied, error)) (store.Applied, error) {
	if !dryRun {
		if err := s.faultless(); err != nil {
			return store.Applied{}, err
		}
	}
	c := callOf(ctx)
	applied, err := do(auth.FromContext(ctx).String(), c.correlationID)
	if err != nil {
		return store.Applied{}, err
	}
	if applied.Unchanged {
		applied.ChangeID = "" // under which there is nothing
	} else if !dryRun {
		s.settle(ctx, applied.Revisions)
		s.log.LogAttrs(ctx, slog.LevelInfo, "change applied", slog.String("change_id", applied.ChangeID),
			slog.Any("revisions", applied.Revisions), slog.String("key_id", c.principal.KeyID), slog.String("correlation_id", c.correlationID))
	}
	return applied, nil
}

// settle waits for this replica's hub to reach revisions. If that takes too
// long it does not matter to the change, which is committed.
func (s changes) settle(ctx context.Context, revisions map[string]int64) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for name, revision := range revisions {
		if e, err := s.hub.Environment(name); err == nil {
			_ = e.Await(ctx, revision)
		}
	}
}
