package store

import (
	"context"
	"fmt"
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
SELECT e.name, e.revision, e.protected, e.created_at, e.updated_at, i.audit_seq AS keys_version,
	COALESCE(i.lineage <> l.lineage, false) AS moved
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
const lockEnvironments = `
WITH locked AS MATERIALIZED (
	SELECT name, protected, revision, bytes, audit_seq, audit_head, updated_at
	FROM environments
	WHERE @every OR name = ANY(@names)
	ORDER BY name
	FOR NO KEY UPDATE
)
SELECT name, protected, revision, bytes, audit_seq, audit_head, updated_at, clock_timestamp() AS now,
	(SELECT COALESCE(lineage <> guidon_lineage(), false) FROM installation) AS moved
FROM locked`

const publishRevision = `
UPDATE environments
SET revision = @revision, bytes = @bytes, audit_seq = @seq, audit_head = @head, updated_at = @at
WHERE name = @name`

// publish queues the step of an environment to its next revision.
func (e lockedEnvironment) publish(b *pgx.Batch, head audit.Head, bytes int64, at time.Time) {
	b.Queue(publishRevision, pgx.StrictNamedArgs{
		"name": e.Name, "revision": e.Revision + 1, "bytes": bytes, "seq": head.Seq, "head": head.Hash[:], "at": at,
	})
}
