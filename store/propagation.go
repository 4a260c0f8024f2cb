package store

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// PropagationKey signs and verifies the guidon header of one environment. It
// never prints its secret.
type PropagationKey struct {
	// ID travels in the header: 1 to 16 letters, digits and hyphens.
	ID        string
	Secret    [32]byte
	CreatedAt time.Time
	// RetiredAt is when the key stopped signing; zero for the signer. A
	// retired key still verifies.
	RetiredAt time.Time
}

const selectPropagationKeys = `
SELECT kid, sealed, created_at, retired_at
FROM propagation_keys
WHERE environment = @environment
ORDER BY retired_at DESC NULLS FIRST, created_at DESC`

type propagationRow struct {
	Kid       string
	Sealed    []byte
	CreatedAt time.Time
	RetiredAt *time.Time
}

// PropagationKeys returns the keys of an environment, the signer first, and
// makes one if there is none. It needs the master key: ErrMasterKey.
func (db *DB) PropagationKeys(ctx context.Context, env string) (keys []PropagationKey, signer string, err error) {
	if db.master.IsZero() {
		return nil, "", fmt.Errorf("propagation keys of %s: %w", env, ErrNoMasterKey)
	}
	if _, err := db.newest(ctx, env); err != nil {
		return nil, "", err
	}
	args := pgx.StrictNamedArgs{"environment": env}
	rows, err := read[propagationRow](ctx, db, "propagation keys", selectPropagationKeys, args)
	if err != nil {
		return nil, "", err
	}
	if len(rows) == 0 || rows[0].RetiredAt != nil {
		if err := db.createPropagationKey(ctx, env); err != nil {
			return nil, "", err
		}
		if rows, err = read[propagationRow](ctx, db, "propagation keys", selectPropagationKeys, args); err != nil {
			return nil, "", err
		}
	}
	for _, r := range rows {
		secret, err := db.master.open(r.Sealed, forPropagation, env, r.Kid)
		if err != nil {
			return nil, "", fmt.Errorf("propagation key %s of %s: %w", r.Kid, env, err)
		}
		k := PropagationKey{ID: r.Kid, Secret: secret, CreatedAt: r.CreatedAt}
		if r.RetiredAt != nil {
			k.RetiredAt = *r.RetiredAt
		}
		keys = append(keys, k)
	}
	return keys, keys[0].ID, nil
}

const insertPropagationKey = `
INSERT INTO propagation_keys (environment, kid, sealed, created_at)
VALUES (@environment, @kid, @sealed, @at)`

// createPropagationKey makes the signer of an environment, unless another
// replica made one since we looked: the installation's lock lets one look at
// a time.
func (db *DB) createPropagationKey(ctx context.Context, env string) error {
	r := audit.Record{Actor: "guidon", Reason: "first use"}
	return db.installation(ctx, "create propagation key", r, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[propagationRow](ctx, tx, selectPropagationKeys, pgx.StrictNamedArgs{"environment": env})
		if err != nil || len(rows) > 0 && rows[0].RetiredAt == nil {
			return nil, err
		}
		kid, secret := newSecret()
		_, err = tx.Exec(ctx, insertPropagationKey, pgx.StrictNamedArgs{
			"environment": env, "kid": kid, "sealed": db.master.seal(secret, forPropagation, env, kid), "at": at,
		})
		after, _ := json.Marshal(map[string]string{"environment": env}) // strings always encode
		return []audit.Operation{{Action: audit.ActionCreatePropagationKey, Kind: "propagation_key", Name: kid, After: after}}, driver(err)
	})
}

// newSecret makes a key and a short ID to know it by.
func newSecret() (kid string, secret [32]byte) {
	var id [5]byte
	_, _ = rand.Read(secret[:]) // crypto/rand does not fail
	_, _ = rand.Read(id[:])
	return strings.ToLower(base32.StdEncoding.EncodeToString(id[:])), secret
}

// String names the key and hides the secret.
func (k PropagationKey) String() string { return "propagation key " + k.ID }

// GoString hides the secret from %#v.
func (k PropagationKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k PropagationKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON hides the secret.
func (k PropagationKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
