package store

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

const (
	// MinOverrideLifetime is how long an override is good for at least.
	MinOverrideLifetime = time.Minute
	// MaxOverrideLifetime is how long an override is good for at most.
	MaxOverrideLifetime = 24 * time.Hour
	// defaultOverrideLifetime is that of one that names none.
	defaultOverrideLifetime = time.Hour
	// maxOverrides bounds the overrides of an environment whose time is not
	// over, revoked ones included: every SDK holds the list of those.
	maxOverrides = 1000
)

// Override forces one flag of an environment to a variant, for the requests
// that carry its token.
type Override struct {
	ID          string
	Environment string
	Flag        string
	Variant     string
	// Audience is the host that the requests must be for.
	Audience string
	Reason   string
	// KeyID names the key that signs the token.
	KeyID     string
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time
	// RevokedAt is zero for never.
	RevokedAt time.Time
}

// NewOverride asks for an override.
type NewOverride struct {
	Environment, Flag, Variant string
	// Audience is a host name. It is for the caller to check that a token can
	// name it.
	Audience string
	// Lifetime is at most [MaxOverrideLifetime]. Zero means an hour.
	Lifetime time.Duration
	// Actor and Reason are for the audit log. Actor is required, and Reason
	// where the environment is protected.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

// OverrideKey signs the override tokens of one environment. It never prints its
// secret.
type OverrideKey struct {
	// ID travels in the token: 1 to 16 letters, digits and hyphens.
	ID      string
	private ed25519.PrivateKey
}

// Sign signs text.
func (k OverrideKey) Sign(text []byte) []byte { return ed25519.Sign(k.private, text) }

// Public returns what verifies the key's signatures.
func (k OverrideKey) Public() ed25519.PublicKey {
	public, _ := k.private.Public().(ed25519.PublicKey)
	return public
}

// String names the key and hides the secret.
func (k OverrideKey) String() string { return "override key " + k.ID }

// GoString hides the secret from %#v.
func (k OverrideKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k OverrideKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON hides the secret.
func (k OverrideKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

const selectOverride = `
SELECT id::text AS id, environment, flag, variant, audience, reason, kid, created_at, created_by, expires_at, revoked_at
FROM overrides`

// overrideRow is Override as the table has it.
type overrideRow struct {
	ID, Environment, Flag, Variant, Audience, Reason, Kid string
	CreatedAt                                             time.Time
	CreatedBy                                             string
	ExpiresAt                                             time.Time
	RevokedAt                                             *time.Time
}

func (r overrideRow) override() Override {
	o := Override{
		ID: r.ID, Environment: r.Environment, Flag: r.Flag, Variant: r.Variant, Audience: r.Audience, Reason: r.Reason,
		KeyID: r.Kid, CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy, ExpiresAt: r.ExpiresAt,
	}
	if r.RevokedAt != nil {
		o.RevokedAt = *r.RevokedAt
	}
	return o
}

// record is what the audit log says of an override.
func (o Override) record() json.RawMessage {
	raw, err := json.Marshal(struct {
		Environment string    `json:"environment"`
		Flag        string    `json:"flag"`
		Variant     string    `json:"variant"`
		Audience    string    `json:"audience"`
		Expires     time.Time `json:"expires"`
		Revoked     time.Time `json:"revoked,omitzero"`
	}{o.Environment, o.Flag, o.Variant, o.Audience, o.ExpiresAt.UTC(), o.RevokedAt.UTC()})
	if err != nil {
		panic(err) // strings and times always encode
	}
	return raw
}

const selectOverrideKeys = `
SELECT kid, sealed
FROM override_keys
WHERE environment = @environment
ORDER BY created_at DESC, kid`

type overrideKeyRow struct {
	Kid    string
	Sealed []byte
}

func (db *DB) openOverrideKey(env string, r overrideKeyRow) (OverrideKey, error) {
	seed, err := db.master.open(r.Sealed, forOverrides, env, r.Kid)
	if err != nil {
		return OverrideKey{}, fmt.Errorf("override key %s of %s: %w", r.Kid, env, err)
	}
	return OverrideKey{ID: r.Kid, private: ed25519.NewKeyFromSeed(seed[:])}, nil
}

const selectRevokedOverrides = `
SELECT id::text AS id
FROM overrides
WHERE environment = @environment AND revoked_at IS NOT NULL AND expires_at > now()
ORDER BY id`

// OverrideKeys returns the keys that sign the override tokens of an
// environment, none before its first override, and the IDs of the overrides
// that were revoked before their time. It needs the master key: ErrMasterKey.
func (db *DB) OverrideKeys(ctx context.Context, env string) (keys []OverrideKey, revoked []string, err error) {
	if db.master.IsZero() {
		return nil, nil, fmt.Errorf("override keys of %s: %w", env, ErrNoMasterKey)
	}
	args := pgx.StrictNamedArgs{"environment": env}
	rows, err := read[overrideKeyRow](ctx, db, "override keys", selectOverrideKeys, args)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	for _, r := range rows {
		k, err := db.openOverrideKey(env, r)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, k)
	}
	type row struct{ ID string }
	ended, err := read[row](ctx, db, "revoked overrides", selectRevokedOverrides, args)
	for _, r := range ended {
		revoked = append(revoked, r.ID)
	}
	return keys, revoked, err
}

const countOverrides = `
SELECT count(*) AS live FROM overrides WHERE environment = @environment AND expires_at > @at`

const insertOverrideKey = `
INSERT INTO override_keys (environment, kid, sealed, created_at)
VALUES (@environment, @kid, @sealed, @at)`

const insertOverride = `
INSERT INTO overrides (id, environment, flag, variant, audience, reason, kid, created_at, created_by, expires_at)
VALUES (@id, @environment, @flag, @variant, @audience, @reason, @kid, @at, @actor, @expires)`

var eraseOverrides = `
UPDATE overrides SET created_by = ` + anonymous("created_by") + `, reason = ` + unsaid("reason") + `
WHERE ` + named("created_by") + ` OR ` + holdsName("reason")

// keepEndedOverrides is how long overrides are there after their end.
const keepEndedOverrides = 30 * 24 * time.Hour

// Each new override removes more than it adds.
const deleteEndedOverrides = `
DELETE FROM overrides WHERE id IN (
	SELECT id FROM overrides
	WHERE expires_at < @at::timestamptz - @keep::interval
	ORDER BY expires_at
	LIMIT 4
)`

// CreateOverride makes an override and returns it with the key that is to sign
// its token. The flag must be there, overridable and have the variant; an
// environment or a flag that does not exist is ErrNotFound. It needs the master
// key: ErrMasterKey.
func (db *DB) CreateOverride(ctx context.Context, n NewOverride) (Override, OverrideKey, error) {
	if db.master.IsZero() {
		return Override{}, OverrideKey{}, fmt.Errorf("override keys of %s: %w", n.Environment, ErrNoMasterKey)
	}
	if err := n.check(); err != nil {
		return Override{}, OverrideKey{}, err
	}
	var o Override
	var key OverrideKey
	id := newID()
	r := audit.Record{Actor: n.Actor, Reason: n.Reason, Correlation: n.CorrelationID}
	err := db.installation(ctx, "create override", r, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		made, err := writing[overrideRow](ctx, tx, selectOverride+` WHERE id = @id`, pgx.StrictNamedArgs{"id": id})
		if err != nil {
			return nil, err
		}
		if len(made) == 0 {
			if err := n.allowed(ctx, tx, at); err != nil {
				return nil, err
			}
		}
		var operations []audit.Operation
		if key, operations, err = db.overrideSigner(ctx, tx, n.Environment, at); err != nil {
			return nil, err
		}
		if len(made) > 0 { // by a try whose commit went unanswered
			o = made[0].override()
			return nil, nil
		}
		o = Override{
			ID: id, Environment: n.Environment, Flag: n.Flag, Variant: n.Variant, Audience: n.Audience, Reason: n.Reason,
			KeyID: key.ID, CreatedAt: at, CreatedBy: n.Actor,
			ExpiresAt: at.Add(cmp.Or(n.Lifetime, defaultOverrideLifetime)).Truncate(time.Second), // all that a token can say
		}
		b := &pgx.Batch{}
		b.Queue(insertOverride, pgx.StrictNamedArgs{
			"id": id, "environment": o.Environment, "flag": o.Flag, "variant": o.Variant, "audience": o.Audience,
			"reason": o.Reason, "kid": o.KeyID, "at": at, "actor": o.CreatedBy, "expires": o.ExpiresAt,
		})
		b.Queue(deleteEndedOverrides, pgx.StrictNamedArgs{"at": at, "keep": keepEndedOverrides})
		operations = append(operations, audit.Operation{Action: audit.ActionCreateOverride, Kind: kindOverride, Name: id, After: o.record()})
		return operations, driver(tx.SendBatch(ctx, b).Close())
	})
	if err != nil {
		return Override{}, OverrideKey{}, err
	}
	db.notify()
	return o, key, nil
}

func (n NewOverride) check() error {
	switch {
	case n.Environment == "":
		return &FieldError{"environment", "is required"}
	case strings.TrimSpace(n.Actor) == "":
		return &FieldError{"actor", "is required"}
	case !eval.ValidVariant(n.Variant):
		return &FieldError{"variant", fmt.Sprintf("%.128q is not 1 to 64 letters, digits, '.', '_' or '-'", n.Variant)}
	case n.Audience == "":
		return &FieldError{"audience", "is required"}
	case n.Lifetime != 0 && (n.Lifetime < MinOverrideLifetime || n.Lifetime > MaxOverrideLifetime):
		return &FieldError{"lifetime", "must be from 1 minute to 24 hours"}
	}
	return cmp.Or(checkKey("flag", n.Flag), checkText("audience", n.Audience, 253),
		checkText("actor", n.Actor, MaxTextBytes), checkText("reason", n.Reason, MaxTextBytes), checkText("correlation_id", n.CorrelationID, MaxNameBytes))
}

// allowed asks whether the flag may be overridden as it is now.
func (n NewOverride) allowed(ctx context.Context, tx pgx.Tx, at time.Time) error {
	if err := reasoned(ctx, tx, n.Environment, n.Reason); err != nil {
		return err
	}
	flag, err := n.flag(ctx, tx)
	if err != nil {
		return err
	}
	switch _, has := flag.Decided(n.Variant, eval.ReasonStatic); {
	case flag.Archived():
		return fmt.Errorf("flag %q in environment %q: %w", n.Flag, n.Environment, ErrArchived)
	case !flag.Overridable():
		return fmt.Errorf("%w: flag %q in environment %q", ErrNotOverridable, n.Flag, n.Environment)
	case flag.Scope() != "request":
		return fmt.Errorf("%w: flag %q has scope %s and is never in the header", ErrNotOverridable, n.Flag, flag.Scope())
	case !has:
		return &FieldError{"variant", fmt.Sprintf("the flag has no variant %.128q", n.Variant)}
	}
	live, err := writing[struct{ Live int }](ctx, tx, countOverrides, pgx.StrictNamedArgs{"environment": n.Environment, "at": at})
	if err == nil && live[0].Live >= maxOverrides {
		err = &FieldError{"overrides", fmt.Sprintf("there are %d in the environment: wait until some have expired", live[0].Live)}
	}
	return err
}

// flag reads the flag, compiled as far as that goes without what it reads.
func (n NewOverride) flag(ctx context.Context, tx pgx.Tx) (*eval.Flag, error) {
	var rows []openRow
	b := &pgx.Batch{}
	queueOver(b, &rows, selectOpenRows, []bulkRow{{n.Environment, n.Flag, ""}})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, driver(err)
	}
	for _, r := range rows {
		if r.Kind != eval.KindFlag.String() {
			continue
		}
		s, err := eval.Compile(r.FromRevision, []eval.Row{{Kind: eval.KindFlag, Name: r.Name, From: r.FromRevision, Document: r.Document}})
		if err != nil {
			return nil, err
		}
		return s.Flag(r.Name), nil
	}
	return nil, fmt.Errorf("flag %q in environment %q: %w", n.Flag, n.Environment, ErrNotFound)
}

// overrideSigner returns the key that signs an environment's tokens, and makes
// one if there is none.
func (db *DB) overrideSigner(ctx context.Context, tx pgx.Tx, env string, at time.Time) (OverrideKey, []audit.Operation, error) {
	rows, err := writing[overrideKeyRow](ctx, tx, selectOverrideKeys, pgx.StrictNamedArgs{"environment": env})
	if err != nil {
		return OverrideKey{}, nil, err
	}
	if len(rows) > 0 {
		key, err := db.openOverrideKey(env, rows[0])
		return key, nil, err
	}
	kid, seed := newSecret()
	_, err = tx.Exec(ctx, insertOverrideKey, pgx.StrictNamedArgs{
		"environment": env, "kid": kid, "sealed": db.master.seal(seed, forOverrides, env, kid), "at": at,
	})
	return OverrideKey{ID: kid, private: ed25519.NewKeyFromSeed(seed[:])},
		[]audit.Operation{{Action: audit.ActionCreateOverrideKey, Kind: kindOverrideKey, Name: kid, After: overrideKeyRecord(env)}}, driver(err)
}

// OverrideFilter narrows a list of overrides.
type OverrideFilter struct {
	// Environment is empty for all.
	Environment string
	// Ended keeps overrides that were revoked or have expired.
	Ended bool
}

// Overrides lists overrides, newest first, with the token of the next page.
func (db *DB) Overrides(ctx context.Context, filter OverrideFilter, page Page) ([]Override, string, error) {
	const list = selectOverride + `
		WHERE (@environment = '' OR environment = @environment) AND (@ended OR revoked_at IS NULL AND expires_at > now())`
	args := pgx.StrictNamedArgs{"environment": filter.Environment, "ended": filter.Ended}
	return listByID(ctx, db, "overrides", list, args, page, overrideRow.override, func(o Override) string { return o.ID })
}

// RevokeOverride ends an override: edges hear of it over the stream. One that
// is revoked or expired already stays as it is.
func (db *DB) RevokeOverride(ctx context.Context, asked Revocation) (Override, error) {
	if err := asked.check(kindOverride); err != nil {
		return Override{}, err
	}
	id := asked.ID
	var o Override
	err := db.installation(ctx, "revoke override", asked.record(), func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[overrideRow](ctx, tx, selectOverride+` WHERE id = @id`, pgx.StrictNamedArgs{"id": id})
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			return nil, asked.notFound(kindOverride)
		}
		if o = rows[0].override(); !o.RevokedAt.IsZero() || !o.ExpiresAt.After(at) {
			return nil, nil
		}
		before := o.record()
		o.RevokedAt = at
		_, err = tx.Exec(ctx, `UPDATE overrides SET revoked_at = @at WHERE id = @id`, pgx.StrictNamedArgs{"id": id, "at": at})
		return []audit.Operation{{Action: audit.ActionRevokeOverride, Kind: kindOverride, Name: id, Before: before, After: o.record()}}, driver(err)
	})
	if err != nil {
		return Override{}, err
	}
	db.notify()
	return o, nil
}

// overrideKeyRecord is what the audit log says of an override key.
func overrideKeyRecord(env string) json.RawMessage {
	raw, _ := json.Marshal(map[string]string{"environment": env}) // strings always encode
	return raw
}

func overrideKeyStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct{ Environment, Kid string }
	return states(ctx, tx, `SELECT environment, kid FROM override_keys`, func(r row) stateRow {
		return stateRow{kind: kindOverrideKey, name: r.Kid, document: overrideKeyRecord(r.Environment)}
	})
}

func overrideStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	return states(ctx, tx, selectOverride, func(r overrideRow) stateRow {
		return stateRow{kind: kindOverride, name: r.ID, document: r.override().record()}
	})
}
