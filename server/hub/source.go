package hub

import (
	"context"
	"errors"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// Source is where a hub reads: the database, or what a relay hears from its
// upstream. The methods are those of [store.DB], on the same terms; the oldest
// revision that is kept may be another one for each flag.
type Source interface {
	Listen(ctx context.Context, notify func()) error
	Environments(ctx context.Context) ([]store.Environment, error)
	SnapshotRows(ctx context.Context, env string, revision int64) ([]eval.Row, int64, error)
	Delta(ctx context.Context, env string, from, to int64) (upserts []eval.Row, deletes []eval.Name, err error)
	Superseded(ctx context.Context, env, key string, revision int64) (rows []eval.Row, from, to int64, err error)
	Oldest(ctx context.Context, env, key string, revision int64) (int64, error)
	Keys(ctx context.Context, env string) (Keys, error)
}

// Keys are what clients of an environment sign and verify with.
type Keys struct {
	// Propagation is nil where there are none to be had, so that clients neither
	// sign nor verify.
	Propagation *guidonv1.PropagationKeys
	Overrides   *guidonv1.OverrideKeys
	// Next is the propagation key, without its secret, that is being handed out
	// and does not sign yet; zero for none.
	Next store.PropagationKey
}

// database is the Source over Postgres.
type database struct{ *store.DB }

// Oldest is one for all flags.
func (db database) Oldest(ctx context.Context, env, _ string, revision int64) (int64, error) {
	return db.DB.Oldest(ctx, env, revision)
}

// Keys reads the keys. Without a master key there are none; with another one
// than sealed them, that is a fault.
func (db database) Keys(ctx context.Context, env string) (Keys, error) {
	keys, signer, err := db.PropagationKeys(ctx, env)
	if errors.Is(err, store.ErrNoMasterKey) {
		return Keys{}, nil
	}
	if err != nil {
		return Keys{}, err
	}
	out := Keys{Propagation: &guidonv1.PropagationKeys{Signer: signer}, Overrides: &guidonv1.OverrideKeys{}}
	for _, k := range keys {
		if k.ActivatedAt.IsZero() {
			out.Next = store.PropagationKey{ID: k.ID, CreatedAt: k.CreatedAt}
		}
		out.Propagation.Keys = append(out.Propagation.Keys, &guidonv1.PropagationKey{Id: k.ID, Secret: k.Secret[:]})
	}
	signers, revoked, err := db.OverrideKeys(ctx, env)
	if err != nil {
		return Keys{}, err
	}
	out.Overrides.RevokedOverrides = revoked
	for _, k := range signers {
		out.Overrides.Keys = append(out.Overrides.Keys, &guidonv1.OverrideKey{Id: k.ID, PublicKey: k.Public()})
	}
	return out, nil
}
