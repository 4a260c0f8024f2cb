package server

import (
	"context"
	"log/slog"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// keys answers KeyService.
type keys struct{ *Server }

func (s keys) Create(ctx context.Context, req *guidonv1.KeyServiceCreateRequest) (*guidonv1.KeyServiceCreateResponse, error) {
	asked := store.NewKey{
		Kind: store.KeyKind(req.GetKind()), Environment: req.GetEnvironment(), Name: req.GetName(), Origins: req.GetOrigins(),
		Propagates: req.GetPropagates(), Projects: req.GetProjects(),
		Actor: auth.FromContext(ctx).String(), CorrelationID: callOf(ctx).correlationID,
	}
	if at := req.GetExpiresAt(); at != nil {
		if err := at.CheckValid(); err != nil {
			return nil, &store.FieldError{Field: "expires_at", Message: err.Error()}
		}
		if asked.Expires = at.AsTime(); !asked.Expires.After(s.now()) {
			return nil, &store.FieldError{Field: "expires_at", Message: "is in the past"}
		}
	}
	key, text, err := s.store.CreateKey(ctx, asked)
	if err != nil {
		return nil, err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "key created", slog.String("created_key_id", key.ID), slog.String("kind", string(key.Kind)),
		slog.String("environment", key.Environment), slog.String("key_id", auth.FromContext(ctx).KeyID))
	return &guidonv1.KeyServiceCreateResponse{Key: toKey(key), Text: text.Reveal()}, nil
}

func (s keys) List(ctx context.Context, req *guidonv1.KeyServiceListRequest) (*guidonv1.KeyServiceListResponse, error) {
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	all, next, err := s.store.Keys(ctx, page)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.KeyServiceListResponse{NextPageToken: next}
	for _, k := range all {
		out.Keys = append(out.Keys, toKey(k))
	}
	return out, nil
}

func (s keys) Revoke(ctx context.Context, req *guidonv1.KeyServiceRevokeRequest) (*guidonv1.KeyServiceRevokeResponse, error) {
	key, err := s.store.RevokeKey(ctx, store.Revocation{
		ID: req.GetId(), Actor: auth.FromContext(ctx).String(), CorrelationID: callOf(ctx).correlationID,
	})
	if err != nil {
		return nil, err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "key revoked", slog.String("revoked_key_id", key.ID), slog.String("key_id", auth.FromContext(ctx).KeyID))
	return &guidonv1.KeyServiceRevokeResponse{Key: toKey(key)}, nil
}
