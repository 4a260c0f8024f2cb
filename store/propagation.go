package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
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
	// ActivatedAt is when the key began to sign; zero for one that is being
	// handed out.
	ActivatedAt time.Time
	// RetiredAt is when the key stopped signing; zero for the signer. A
	// retired key still verifies; see [DB.RemovePropagationKeys].
	RetiredAt time.Time
}

const selectPropagationKeys = `
SELECT kid, sealed, created_at, activated_at, retired_at
FROM propagation_keys
WHERE environment = @environment
ORDER BY retired_at DESC NULLS FIRST, activated_at NULLS LAST, created_at DESC`

type propagationRow struct {
	Kid         string
	Sealed      []byte
	CreatedAt   time.Time
	ActivatedAt *time.Time
	RetiredAt   *time.Time
}

func (r propagationRow) signs() bool { return r.ActivatedAt != nil && r.RetiredAt == nil }

// PropagationKeys returns the keys of an environment: the signer, the one that
// is to follow it if there is one, and the retired ones, the newest first. It
// makes the first signer. It needs the master key: ErrMasterKey.
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
	if len(rows) == 0 || !rows[0].signs() {
		if err := db.createPropagationKey(ctx, env); err != nil {
			return nil, "", err
		}
		if rows, err = read[propagationRow](ctx, db, "propagation keys", selectPropagationKeys, args); err != nil {
			return nil, "", err
		}
	}
	for _, r := range rows {
		k, err := db.openPropagationKey(env, r)
		if err != nil {
			return nil, "", err
		}
		keys = append(keys, k)
	}
	return keys, keys[0].ID, nil
}

func (db *DB) openPropagationKey(env string, r propagationRow) (PropagationKey, error) {
	secret, err := db.master.open(r.Sealed, forPropagation, env, r.Kid)
	if err != nil {
		return PropagationKey{}, fmt.Errorf("propagation key %s of %s: %w", r.Kid, env, err)
	}
	k := PropagationKey{ID: r.Kid, Secret: secret, CreatedAt: r.CreatedAt}
	if r.ActivatedAt != nil {
		k.ActivatedAt = *r.ActivatedAt
	}
	if r.RetiredAt != nil {
		k.RetiredAt = *r.RetiredAt
	}
	return k, nil
}

const insertPropagationKey = `
INSERT INTO propagation_keys (environment, kid, sealed, created_at, activated_at)
VALUES (@environment, @kid, @sealed, @at, @activated)`

// createPropagationKey makes the signer of an environment, unless another
// replica made one since we looked: the installation's lock lets one look at
// a time.
func (db *DB) createPropagationKey(ctx context.Context, env string) error {
	r := audit.Record{Actor: "guidon", Reason: "first use"}
	return db.installation(ctx, "create propagation key", r, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[propagationRow](ctx, tx, selectPropagationKeys, pgx.StrictNamedArgs{"environment": env})
		if err != nil || len(rows) > 0 && rows[0].signs() {
			return nil, err
		}
		_, operation, err := db.insertPropagationKey(ctx, tx, env, at, &at)
		return []audit.Operation{operation}, err
	})
}

func (db *DB) insertPropagationKey(ctx context.Context, tx pgx.Tx, env string, at time.Time, activated *time.Time) (string, audit.Operation, error) {
	kid, secret := newSecret()
	_, err := tx.Exec(ctx, insertPropagationKey, pgx.StrictNamedArgs{
		"environment": env, "kid": kid, "sealed": db.master.seal(secret, forPropagation, env, kid), "at": at, "activated": activated,
	})
	return kid, audit.Operation{
		Action: audit.ActionCreatePropagationKey, Kind: kindPropagationKey, Name: kid, After: keyRecord(env, activated != nil),
	}, driver(err)
}

// keyRecord is what the audit log says of a propagation key.
func keyRecord(env string, signs bool) json.RawMessage {
	raw, _ := json.Marshal(map[string]any{"environment": env, "signs": signs}) // always encodes
	return raw
}

// A Rotation asks for another signer of an environment's headers.
type Rotation struct {
	Environment string
	// Actor and Reason are for the audit log. Actor is required, and Reason
	// where the environment is protected.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

func (r Rotation) record() audit.Record {
	return audit.Record{Actor: r.Actor, Reason: r.Reason, Correlation: r.CorrelationID}
}

func (r Rotation) check() error {
	if strings.TrimSpace(r.Actor) == "" {
		return &FieldError{"actor", "is required"}
	}
	return cmp.Or(checkText("actor", r.Actor, MaxTextBytes), checkText("reason", r.Reason, MaxTextBytes),
		checkText("correlation_id", r.CorrelationID, MaxNameBytes))
}

// RotatePropagationKey makes the key that is to sign next and is handed out from
// now on; see [DB.SwitchPropagationKey]. If there is one already it is returned
// and nothing is changed. It needs the master key: ErrMasterKey.
func (db *DB) RotatePropagationKey(ctx context.Context, asked Rotation) (kid string, err error) {
	if err := asked.check(); err != nil {
		return "", err
	}
	if _, _, err := db.PropagationKeys(ctx, asked.Environment); err != nil { // there is a signer, and its master key
		return "", err
	}
	err = db.installation(ctx, "rotate propagation key", asked.record(), func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		if err := reasoned(ctx, tx, asked.Environment, asked.Reason); err != nil {
			return nil, err
		}
		rows, err := writing[propagationRow](ctx, tx, selectPropagationKeys, pgx.StrictNamedArgs{"environment": asked.Environment})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.ActivatedAt == nil {
				kid = r.Kid
				return nil, nil
			}
		}
		if len(rows) >= maxPropagationKeys {
			return nil, &FieldError{"environment", fmt.Sprintf("%s has %d propagation keys, the most that an SDK tells of: "+
				"retired ones stay as long as revisions do, since requests and messages may still carry what they signed", asked.Environment, len(rows))}
		}
		var operation audit.Operation
		kid, operation, err = db.insertPropagationKey(ctx, tx, asked.Environment, at, nil)
		return []audit.Operation{operation}, err
	})
	if err == nil {
		db.notify()
	}
	return kid, err
}

// keepRetired is how much longer than revisions a retired key is kept: for what
// a service signed that had not heard of the switch.
const keepRetired = 24 * time.Hour

// Headers are good for as long as revisions are kept (sdk/propagate): what a key
// signed that retired before the retention of revisions began is older.
const selectOutlived = `
SELECT k.environment, k.kid
FROM propagation_keys k
JOIN environments e ON e.name = k.environment
WHERE k.retired_at <= clock_timestamp() - make_interval(days => e.retention) - @keep::interval
ORDER BY k.environment, k.kid`

// RemovePropagationKeys removes the keys whose headers are too old to be good:
// keys that retired longer ago than their environment keeps revisions, and a
// day. It returns how many. SDKs hear of it over the stream.
func (db *DB) RemovePropagationKeys(ctx context.Context) (removed int, err error) {
	type row struct{ Environment, Kid string }
	args := pgx.StrictNamedArgs{"keep": keepRetired}
	outlived, err := read[row](ctx, db, "propagation keys", selectOutlived, args)
	if err != nil || len(outlived) == 0 {
		return 0, err
	}
	r := audit.Record{Actor: "guidon", Reason: "retired for longer than revisions are kept"}
	err = db.installation(ctx, "remove propagation keys", r, func(tx pgx.Tx, _ time.Time) ([]audit.Operation, error) {
		outlived, err := writing[row](ctx, tx, selectOutlived, args)
		if err != nil {
			return nil, err
		}
		var operations []audit.Operation
		for _, k := range outlived {
			_, err := tx.Exec(ctx, `DELETE FROM propagation_keys WHERE environment = @environment AND kid = @kid`,
				pgx.StrictNamedArgs{"environment": k.Environment, "kid": k.Kid})
			if err != nil {
				return nil, driver(err)
			}
			operations = append(operations, audit.Operation{
				Action: audit.ActionRemovePropagationKey, Kind: kindPropagationKey, Name: k.Kid, Before: keyRecord(k.Environment, false),
			})
		}
		removed = len(operations)
		return operations, nil
	})
	if err == nil && removed > 0 {
		db.notify()
	}
	return removed, err
}

// maxPropagationKeys bounds the keys of an environment, retired ones included.
const maxPropagationKeys = 16

const switchPropagationKey = `
WITH retired AS (
	UPDATE propagation_keys SET retired_at = @at
	WHERE environment = @environment AND activated_at IS NOT NULL AND retired_at IS NULL
	RETURNING kid
)
SELECT kid FROM retired`

const activatePropagationKey = `
UPDATE propagation_keys SET activated_at = @at WHERE environment = @environment AND kid = @kid`

// SwitchPropagationKey makes the key that was handed out the signer, and retires
// the one before. It is for the caller to know that everybody has the key. A key
// that signs already, or did, stays as it is.
func (db *DB) SwitchPropagationKey(ctx context.Context, asked Rotation, kid string) error {
	if err := asked.check(); err != nil {
		return err
	}
	err := db.installation(ctx, "switch propagation key", asked.record(), func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[propagationRow](ctx, tx, selectPropagationKeys, pgx.StrictNamedArgs{"environment": asked.Environment})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(rows, func(r propagationRow) bool { return r.Kid == kid })
		if i < 0 {
			return nil, fmt.Errorf("propagation key %.128q of %.128q: %w", kid, asked.Environment, ErrNotFound)
		}
		if rows[i].ActivatedAt != nil {
			return nil, nil
		}
		type row struct{ Kid string }
		args := pgx.StrictNamedArgs{"environment": asked.Environment, "at": at}
		retired, err := writing[row](ctx, tx, switchPropagationKey, args)
		if err != nil {
			return nil, err
		}
		args["kid"] = kid
		if _, err := tx.Exec(ctx, activatePropagationKey, args); err != nil {
			return nil, driver(err)
		}
		operations := []audit.Operation{{
			Action: audit.ActionSwitchPropagationKey, Kind: kindPropagationKey, Name: kid,
			Before: keyRecord(asked.Environment, false), After: keyRecord(asked.Environment, true),
		}}
		for _, r := range retired {
			operations = append(operations, audit.Operation{
				Action: audit.ActionSwitchPropagationKey, Kind: kindPropagationKey, Name: r.Kid,
				Before: keyRecord(asked.Environment, true), After: keyRecord(asked.Environment, false),
			})
		}
		return operations, nil
	})
	if err == nil {
		db.notify()
	}
	return err
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

const selectPropagationKeyStates = `
SELECT environment, kid, activated_at IS NOT NULL AND retired_at IS NULL AS signs FROM propagation_keys`

func propagationKeyStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct {
		Environment, Kid string
		Signs            bool
	}
	return states(ctx, tx, selectPropagationKeyStates, func(r row) stateRow {
		return stateRow{kind: kindPropagationKey, name: r.Kid, document: keyRecord(r.Environment, r.Signs)}
	})
}
