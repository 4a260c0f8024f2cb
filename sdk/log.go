package guidon

import (
	"context"
	"log/slog"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// setKeys takes over the propagation keys the server sent, and says whether it
// did. Keys that cannot be used leave the ones before in force.
func (c *Client) setKeys(sent *guidonv1.PropagationKeys) bool {
	keys := make([]propagate.Key, 0, len(sent.GetKeys()))
	for _, k := range sent.GetKeys() {
		key := propagate.Key{ID: k.GetId()}
		if copy(key.Secret[:], k.GetSecret()) != len(k.GetSecret()) || len(k.GetSecret()) != len(key.Secret) {
			c.log.LogAttrs(context.Background(), slog.LevelError, "propagation keys refused",
				slog.String("key_id", k.GetId()), slog.Int("secret_bytes", len(k.GetSecret())))
			return false
		}
		keys = append(keys, key)
	}
	if err := c.keys.Set(sent.GetSigner(), keys); err != nil {
		c.log.LogAttrs(context.Background(), slog.LevelError, "propagation keys refused", slog.Any("error", err))
		return false
	}
	return true
}

// setOverrideKeys takes over what verifies override tokens. Keys that cannot be
// used leave the ones before in force.
func (c *Client) setOverrideKeys(sent *guidonv1.OverrideKeys) {
	keys := make([]propagate.OverrideKey, 0, len(sent.GetKeys()))
	for _, k := range sent.GetKeys() {
		keys = append(keys, propagate.OverrideKey{ID: k.GetId(), Public: k.GetPublicKey()})
	}
	if err := c.overrides.Set(keys, sent.GetRevokedOverrides()); err != nil {
		c.log.LogAttrs(context.Background(), slog.LevelError, "override keys refused", slog.Any("error", err))
	}
}

// observe logs what propagation met for the first time. How often it happens
// is for the counters of [propagate.Propagator.Stats].
func (c *Client) observe(e propagate.Event) {
	attrs := []slog.Attr{slog.String("event", e.Kind.String())}
	if e.Flag != "" {
		attrs = append(attrs, slog.String("flag", e.Flag))
	}
	if e.Kind == propagate.HeaderRefused {
		attrs = append(attrs, slog.String("outcome", e.Outcome.String()))
	}
	if e.Kind == propagate.OverrideRefused {
		attrs = append(attrs, slog.String("outcome", e.Override.String()))
	}
	c.log.LogAttrs(context.Background(), severity(e.Kind), "propagation event, first of its kind", attrs...)
}

// severity is Warn for what makes services disagree or asks for a change of the
// configuration, Info for what is fine if it was meant, Debug for daily life.
func severity(kind propagate.EventKind) slog.Level {
	switch kind {
	case propagate.Rooted, propagate.PinFetched, propagate.CreatedAfterPin, propagate.EmergenciesFetched, propagate.Joined:
		return slog.LevelDebug
	case propagate.Forwarded, propagate.CorrelationRefused, propagate.OrphanRooted, propagate.NoState,
		propagate.OtherSubject, propagate.AttributeLeftOut, propagate.EmergencyPierced, propagate.OverrideRefused, propagate.OverrideUsed:
		return slog.LevelInfo
	default:
		return slog.LevelWarn
	}
}
