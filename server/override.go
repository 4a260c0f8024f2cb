package server

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf8"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// overrides answers OverrideService.
type overrides struct{ *Server }

func (s overrides) Create(ctx context.Context, req *guidonv1.OverrideServiceCreateRequest) (*guidonv1.OverrideServiceCreateResponse, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, err
	}
	asked := store.NewOverride{
		Environment: e.Name(), Flag: req.GetFlag(), Variant: req.GetVariant(), Audience: req.GetAudience(), Reason: req.GetReason(),
		Actor: auth.FromContext(ctx).String(), CorrelationID: callOf(ctx).correlationID,
	}
	if !propagate.ValidAudience(asked.Audience) {
		return nil, &store.FieldError{Field: "audience", Message: "must be a host name in lower case, without a port"}
	}
	if lifetime := req.GetLifetime(); lifetime != nil {
		if asked.Lifetime = lifetime.AsDuration(); asked.Lifetime == 0 || !lifetime.IsValid() {
			asked.Lifetime = -1 // which is refused, while none asks for the default
		}
	}
	made, key, err := s.store.CreateOverride(ctx, asked)
	if err != nil {
		return nil, err
	}
	out := toOverride(made)
	if out.Token, err = token(made, key); err != nil {
		return nil, err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "override created", slog.String("override_id", made.ID), slog.String("environment", made.Environment),
		slog.String("flag", made.Flag), slog.String("key_id", auth.FromContext(ctx).KeyID))
	return &guidonv1.OverrideServiceCreateResponse{Override: out}, nil
}

// token is the text that a request carries.
func token(o store.Override, key store.OverrideKey) (string, error) {
	actor := o.CreatedBy
	if len(actor) > propagate.MaxActorBytes {
		actor = actor[:propagate.MaxActorBytes]
		for !utf8.ValidString(actor) {
			actor = actor[:len(actor)-1] // the beginning of a character
		}
	}
	text, err := propagate.OverrideToken{
		Environment: o.Environment, Audience: o.Audience, ID: o.ID, Actor: actor, Expires: o.ExpiresAt.Unix(),
		Flag: o.Flag, Variant: o.Variant, KeyID: key.ID,
	}.Sign(key.Sign)
	if err != nil {
		return "", fmt.Errorf("override %s: %w", o.ID, err)
	}
	return text, nil
}

func (s overrides) List(ctx context.Context, req *guidonv1.OverrideServiceListRequest) (*guidonv1.OverrideServiceListResponse, error) {
	filter := store.OverrideFilter{Ended: req.GetIncludeEnded()}
	if name := req.GetEnvironment(); name != "" {
		e, err := s.environment(ctx, name)
		if err != nil {
			return nil, err
		}
		filter.Environment = e.Name()
	}
	page, err := storePage(req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	found, next, err := s.store.Overrides(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	keys := map[string][]store.OverrideKey{}
	out := &guidonv1.OverrideServiceListResponse{NextPageToken: next}
	for _, o := range found {
		if _, read := keys[o.Environment]; !read {
			if keys[o.Environment], _, err = s.store.OverrideKeys(ctx, o.Environment); err != nil {
				return nil, err
			}
		}
		shown := toOverride(o)
		for _, key := range keys[o.Environment] {
			if key.ID != o.KeyID || !o.RevokedAt.IsZero() || !o.ExpiresAt.After(s.now()) {
				continue
			}
			if shown.Token, err = token(o, key); err != nil {
				return nil, err
			}
		}
		out.Overrides = append(out.Overrides, shown)
	}
	return out, nil
}

func (s overrides) Revoke(ctx context.Context, req *guidonv1.OverrideServiceRevokeRequest) (*guidonv1.OverrideServiceRevokeResponse, error) {
	ended, err := s.store.RevokeOverride(ctx, store.Revocation{
		ID: req.GetId(), Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), CorrelationID: callOf(ctx).correlationID,
	})
	if err != nil {
		return nil, err
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "override revoked", slog.String("override_id", ended.ID), slog.String("environment", ended.Environment),
		slog.String("key_id", auth.FromContext(ctx).KeyID))
	return &guidonv1.OverrideServiceRevokeResponse{Override: toOverride(ended)}, nil
}
