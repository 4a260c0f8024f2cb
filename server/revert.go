package server

import (
	"context"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

func (s changes) Revert(ctx context.Context, req *guidonv1.ChangeServiceRevertRequest) (*guidonv1.ChangeServiceRevertResponse, error) {
	result, err := s.derived(ctx, req, func(c store.Change) (store.Applied, error) {
		return s.store.Revert(ctx, c, req.GetEnvironment(), req.GetRevision())
	})
	return &guidonv1.ChangeServiceRevertResponse{Result: result}, err
}

func (s changes) Restore(ctx context.Context, req *guidonv1.ChangeServiceRestoreRequest) (*guidonv1.ChangeServiceRestoreResponse, error) {
	result, err := s.derived(ctx, req, func(c store.Change) (store.Applied, error) {
		return s.store.Restore(ctx, c, req.GetEnvironment(), req.GetRevision())
	})
	return &guidonv1.ChangeServiceRestoreResponse{Result: result}, err
}

func (s changes) Promote(ctx context.Context, req *guidonv1.ChangeServicePromoteRequest) (*guidonv1.ChangeServicePromoteResponse, error) {
	var names []eval.Name
	for _, key := range req.GetFlags() {
		names = append(names, eval.Name{Kind: eval.KindFlag, Name: key})
	}
	for _, name := range req.GetSegments() {
		names = append(names, eval.Name{Kind: eval.KindSegment, Name: name})
	}
	if req.GetSettings() {
		names = append(names, eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName})
	}
	result, err := s.derived(ctx, req, func(c store.Change) (store.Applied, error) {
		return s.store.Promote(ctx, c, req.GetEnvironment(), req.GetTo(), names)
	})
	return &guidonv1.ChangeServicePromoteResponse{Result: result}, err
}

func (s changes) Copy(ctx context.Context, req *guidonv1.ChangeServiceCopyRequest) (*guidonv1.ChangeServiceCopyResponse, error) {
	result, err := s.derived(ctx, req, func(c store.Change) (store.Applied, error) {
		return s.store.Copy(ctx, c, req.GetEnvironment(), req.GetTo())
	})
	return &guidonv1.ChangeServiceCopyResponse{Result: result}, err
}

// derived makes a change whose operations the store finds out.
func (s changes) derived(ctx context.Context, req interface {
	GetReason() string
	GetIdempotencyKey() string
	GetExpectedRevisions() map[string]int64
	GetDryRun() bool
}, do func(store.Change) (store.Applied, error),
) (*guidonv1.ChangeResult, error) {
	applied, err := s.carryOut(ctx, req.GetDryRun(), func(actor, correlationID string) (store.Applied, error) {
		return do(store.Change{
			Actor: actor, Reason: req.GetReason(), IdempotencyKey: req.GetIdempotencyKey(),
			CorrelationID: correlationID, Expect: req.GetExpectedRevisions(), DryRun: req.GetDryRun(),
		})
	})
	if err != nil {
		return nil, err
	}
	out := &guidonv1.ChangeResult{
		ChangeId: applied.ChangeID, Revisions: applied.Revisions, Warnings: applied.Warnings, Unchanged: applied.Unchanged,
	}
	out.Changes, err = toRowChanges(applied.Changes)
	return out, err
}

func toRowChanges(changed []store.Changed) ([]*guidonv1.RowChange, error) {
	out := make([]*guidonv1.RowChange, len(changed))
	for i, c := range toChanges(changed) {
		out[i] = &guidonv1.RowChange{Change: c}
		var err error
		if out[i].Fields, err = toFields(changed[i].Before, changed[i].After); err != nil {
			return nil, err
		}
	}
	return out, nil
}
