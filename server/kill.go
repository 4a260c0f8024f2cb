package server

import (
	"context"
	"strings"

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
	}, nil
}
