package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// Environment is a unit of pinning.
type Environment struct {
	Name string
	// Revision is the newest revision; 1 if nothing was ever published.
	Revision int64
	// Protected asks people for more care: a reason, later an approval.
	Protected bool
	// Retention is for how many days superseded revisions are kept, at least.
	Retention int
	// Archived environments are served and not written.
	Archived  bool
	CreatedAt time.Time
	// UpdatedAt is the time of the newest revision.
	UpdatedAt time.Time
	// KeysVersion grows whenever the keys of the installation may have changed,
	// and the overrides signed with them: it is the length of the
	// installation's audit chain, which records all of that.
	KeysVersion int64
	// Moved is true while the database is not where it was left: see
	// [ErrNotRecovered].
	Moved bool
}

const selectEnvironments = `
SELECT e.name, e.revision, e.protected, e.retention, e.archived_at IS NOT NULL AS archived, e.created_at, e.updated_at,
	i.audit_seq AS keys_version, COALESCE(i.lineage <> l.lineage, false) AS moved
FROM environments e
CROSS JOIN installation i
CROSS JOIN (SELECT guidon_lineage() AS lineage) l
ORDER BY e.position, e.name`

// Environments lists all environments in the order of promotion: development first.
func (db *DB) Environments(ctx context.Context) ([]Environment, error) {
	return read[Environment](ctx, db, "environments", selectEnvironments, nil)
}

// Revisions returns the newest revision of every environment in one query. It
// is the poll that every reader falls back to, so it costs no more than that.
func (db *DB) Revisions(ctx context.Context) (map[string]int64, error) {
	type row struct {
		Name     string
		Revision int64
	}
	rows, err := read[row](ctx, db, "revisions", `SELECT name, revision FROM environments`, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64, len(rows))
	for _, r := range rows {
		out[r.Name] = r.Revision
	}
	return out, nil
}

// newest returns the newest revision of one environment, or ErrNotFound.
func (db *DB) newest(ctx context.Context, env string) (int64, error) {
	type row struct{ Revision int64 }
	r, err := readOne[row](ctx, db, fmt.Sprintf("environment %.128q", env),
		`SELECT revision FROM environments WHERE name = @name`, pgx.StrictNamedArgs{"name": env})
	return r.Revision, err
}

// oldest returns the oldest revision that an environment keeps.
func (db *DB) oldest(ctx context.Context, env string) (int64, error) {
	type row struct{ Oldest int64 }
	r, err := readOne[row](ctx, db, fmt.Sprintf("environment %.128q", env),
		`SELECT oldest FROM environments WHERE name = @name`, pgx.StrictNamedArgs{"name": env})
	return r.Oldest, err
}

// kept refuses a revision that is collected.
func (db *DB) kept(ctx context.Context, env string, revision int64) error {
	oldest, err := db.oldest(ctx, env)
	if err != nil {
		return err
	}
	return checkKept(env, revision, oldest)
}

// reasoned refuses what has no reason and is for an environment that asks for
// one, or for none that there is.
func reasoned(ctx context.Context, tx pgx.Tx, env, reason string) error {
	found, err := writing[struct{ Protected bool }](ctx, tx,
		`SELECT protected FROM environments WHERE name = @name`, pgx.StrictNamedArgs{"name": env})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fmt.Errorf("environment %.128q: %w", env, ErrNotFound)
	case found[0].Protected && strings.TrimSpace(reason) == "":
		return &FieldError{"reason", fmt.Sprintf("is required: environment %q is protected", env)}
	}
	return nil
}

// lockedEnvironment is an environment whose row this transaction holds: nobody
// else can publish in it until the transaction ends.
type lockedEnvironment struct {
	Name      string
	Protected bool
	Retention int
	Archived  bool
	Revision  int64
	Bytes     int64
	AuditSeq  int64
	AuditHead []byte
	UpdatedAt time.Time
	// Moved is as in Environment.
	Moved bool
	// Now is the database's clock once the lock was had, the same clock for
	// every replica.
	Now time.Time
}

func (e lockedEnvironment) head() audit.Head {
	return audit.Head{Seq: e.AuditSeq, Hash: audit.Hash(e.AuditHead)}
}

// FOR NO KEY UPDATE does not get in the way of foreign keys to the row. The
// rows are sorted before they are locked, so that two change sets never wait
// for each other in a circle; the clock is read after.
const (
	lockRows = `
WITH locked AS MATERIALIZED (
	SELECT name, protected, retention, archived_at IS NOT NULL AS archived, revision, bytes, audit_seq, audit_head, updated_at
	FROM environments`
	ofNames = `
	WHERE name = ANY(@names)`
	inOrder = `
	ORDER BY name
	FOR NO KEY UPDATE`
	selectLocked = `
)
SELECT name, protected, retention, archived, revision, bytes, audit_seq, audit_head, updated_at, clock_timestamp() AS now,
	(SELECT COALESCE(lineage <> guidon_lineage(), false) FROM installation) AS moved
FROM locked`

	// lockEnvironments is for all of them, lockNamed for some, and lockFree for
	// those of some that nobody else holds.
	lockEnvironments = lockRows + inOrder + selectLocked
	lockNamed        = lockRows + ofNames + inOrder + selectLocked
	lockFree         = lockRows + ofNames + inOrder + ` SKIP LOCKED` + selectLocked
)

var publishRevisions = over(`
UPDATE environments e
SET revision = n.revision, bytes = n.bytes, audit_seq = n.seq, audit_head = n.head, updated_at = n.at
FROM {rows}
WHERE e.name = n.name`,
	"name text", "revision bigint", "bytes bigint", "seq bigint", "head bytea", "at timestamptz")

// publish queues the step of environments to the revisions that they are at now.
func publish(b *pgx.Batch, moved []*lockedEnvironment) {
	var rows []bulkRow
	for _, e := range moved {
		rows = append(rows, bulkRow{e.Name, e.Revision, e.Bytes, e.AuditSeq, e.AuditHead, e.UpdatedAt})
	}
	publishRevisions.queue(b, rows)
}

// MaxEnvironments bounds the environments of an installation, archived ones
// included: every replica holds all of them.
const MaxEnvironments = 200

var environmentName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

// NewEnvironment asks for an environment.
type NewEnvironment struct {
	Name      string
	Protected bool
	// Retention is in days, 30 to 3650. Zero means 90.
	Retention int
	// Actor is required; the rest is for the audit log.
	Actor, Reason, CorrelationID string
}

// EnvironmentUpdate changes what is said of an environment outside its
// revisions. What is nil stays.
type EnvironmentUpdate struct {
	Name      string
	Protected *bool
	Retention *int
	// Archived takes the environment out of use, or back into it.
	Archived *bool
	// Actor is required; Reason too where the environment is protected.
	Actor, Reason, CorrelationID string
}

func checkRetention(days int) error {
	if days < 30 || days > 3650 {
		return &FieldError{"retention_days", "must be from 30 to 3650"}
	}
	return nil
}

func (e lockedEnvironment) record() json.RawMessage {
	raw, err := json.Marshal(struct {
		Archived  bool `json:"archived"`
		Protected bool `json:"protected"`
		Retention int  `json:"retention_days"`
	}{e.Archived, e.Protected, e.Retention})
	if err != nil {
		panic(err) // numbers always encode
	}
	return raw
}

const insertEnvironment = `
INSERT INTO environments (name, position, protected, retention, created_at, updated_at)
SELECT @name, COALESCE(max(position), 0) + 1, @protected, @retention, @at, @at
FROM environments
HAVING count(*) < @limit
ON CONFLICT (name) DO NOTHING`

// CreateEnvironment makes an empty environment, after the others in order. A
// name that is taken is ErrExists.
func (db *DB) CreateEnvironment(ctx context.Context, n NewEnvironment) error {
	if !environmentName.MatchString(n.Name) {
		return &FieldError{"name", "must be 1 to 40 lower-case letters, digits, '.', '_' or '-'"}
	}
	n.Retention = cmp.Or(n.Retention, 90)
	if err := cmp.Or(checkRetention(n.Retention), checkActor(n.Actor, n.Reason, n.CorrelationID)); err != nil {
		return err
	}
	record := audit.Record{Actor: n.Actor, Reason: n.Reason, Correlation: n.CorrelationID}
	err := db.installation(ctx, "create environment", record, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		found, err := writing[lockedEnvironment](ctx, tx, lockNamed, pgx.StrictNamedArgs{"names": []string{n.Name}})
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return nil, fmt.Errorf("environment %q: %w", n.Name, ErrExists)
		}
		tag, err := tx.Exec(ctx, insertEnvironment, pgx.StrictNamedArgs{
			"name": n.Name, "protected": n.Protected, "retention": n.Retention, "at": at, "limit": MaxEnvironments,
		})
		if err != nil {
			return nil, driver(err)
		}
		if tag.RowsAffected() == 0 {
			return nil, &FieldError{"name", fmt.Sprintf("there are %d environments already", MaxEnvironments)}
		}
		if _, err := tx.Exec(ctx, insertRevision, pgx.StrictNamedArgs{
			"environment": n.Name, "revision": 1, "change": nil, "actor": n.Actor, "reason": cmp.Or(n.Reason, "environment created"), "at": at,
		}); err != nil {
			return nil, driver(err)
		}
		after := lockedEnvironment{Protected: n.Protected, Retention: n.Retention}.record()
		return []audit.Operation{{Action: audit.ActionCreateEnvironment, Kind: kindEnvironment, Name: n.Name, After: after}}, nil
	})
	if err == nil {
		db.notify()
	}
	return err
}

const updateEnvironment = `
UPDATE environments SET protected = @protected, retention = @retention,
	archived_at = CASE WHEN @archived THEN COALESCE(archived_at, @at) END
WHERE name = @name`

// UpdateEnvironment changes what is said of an environment outside its
// revisions, and reports whether there was anything to change.
func (db *DB) UpdateEnvironment(ctx context.Context, u EnvironmentUpdate) (changed bool, err error) {
	if err := checkActor(u.Actor, u.Reason, u.CorrelationID); err != nil {
		return false, err
	}
	if u.Retention != nil {
		if err := checkRetention(*u.Retention); err != nil {
			return false, err
		}
	}
	record := audit.Record{Actor: u.Actor, Reason: u.Reason, Correlation: u.CorrelationID}
	err = db.installationAfter(ctx, "update environment", record, func(ctx context.Context, tx pgx.Tx) error {
		_, err := writing[lockedEnvironment](ctx, tx, lockNamed, pgx.StrictNamedArgs{"names": []string{u.Name}})
		return err
	}, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		found, err := writing[lockedEnvironment](ctx, tx, lockNamed, pgx.StrictNamedArgs{"names": []string{u.Name}})
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("environment %.128q: %w", u.Name, ErrNotFound)
		}
		before := found[0]
		if before.Protected && strings.TrimSpace(u.Reason) == "" {
			return nil, &FieldError{"reason", fmt.Sprintf("is required: environment %q is protected", u.Name)}
		}
		after := u.apply(before)
		if changed = string(after.record()) != string(before.record()); !changed {
			return nil, nil
		}
		if _, err := tx.Exec(ctx, updateEnvironment, pgx.StrictNamedArgs{
			"name": u.Name, "protected": after.Protected, "retention": after.Retention, "archived": after.Archived, "at": at,
		}); err != nil {
			return nil, driver(err)
		}
		action := audit.ActionUpdateEnvironment
		if after.Archived && !before.Archived {
			action = audit.ActionArchiveEnvironment
		}
		return []audit.Operation{{Action: action, Kind: kindEnvironment, Name: u.Name, Before: before.record(), After: after.record()}}, nil
	})
	if err == nil && changed {
		db.notify()
	}
	return changed, err
}

func (u EnvironmentUpdate) apply(e lockedEnvironment) lockedEnvironment {
	if u.Protected != nil {
		e.Protected = *u.Protected
	}
	if u.Retention != nil {
		e.Retention = *u.Retention
	}
	if u.Archived != nil {
		e.Archived = *u.Archived
	}
	return e
}

// The revision that was the newest when the retention began, and all since, are
// kept. Nothing is collected from a database that is not where it was left.
const selectOutdated = `
SELECT e.name, r.revision AS oldest
FROM environments e
CROSS JOIN LATERAL (
	SELECT revision FROM revisions
	WHERE environment = e.name AND created_at <= clock_timestamp() - make_interval(days => e.retention)
	ORDER BY created_at DESC, revision DESC
	LIMIT 1
) r
WHERE r.revision > e.oldest AND NOT (SELECT COALESCE(lineage <> guidon_lineage(), false) FROM installation)
ORDER BY e.name`

const updateOldest = `UPDATE environments SET oldest = @oldest WHERE name = @name AND oldest < @oldest`

const selectEnvironmentStates = `
SELECT name, archived_at IS NOT NULL AS archived, protected, retention FROM environments`

func environmentStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	type row struct {
		Name                string
		Archived, Protected bool
		Retention           int
	}
	return states(ctx, tx, selectEnvironmentStates, func(r row) stateRow {
		migrated := map[string]row{
			"development": {"development", false, false, 90}, "staging": {"staging", false, false, 90}, "production": {"production", false, true, 90},
		}
		document := lockedEnvironment{Archived: r.Archived, Protected: r.Protected, Retention: r.Retention}.record()
		return stateRow{kind: kindEnvironment, name: r.Name, document: document, unmade: migrated[r.Name] == r}
	})
}
