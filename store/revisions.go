package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Revision says who made a revision, when and why.
type Revision struct {
	Environment string
	Revision    int64
	Time        time.Time
	Actor       string
	Reason      string
	// ChangeID is empty for revision 1.
	ChangeID string
	// Changes counts the rows that it put or took away.
	Changes int
}

const selectRevisionLog = `
SELECT r.environment, r.revision, r.created_at AS time, r.actor, r.reason, COALESCE(r.change_id::text, '') AS change_id, c.changes
FROM (
	SELECT environment, revision, created_at, actor, reason, change_id
	FROM revisions
	WHERE environment = @environment AND (NOT @paged OR revision < @before)
		AND revision >= (SELECT oldest FROM environments WHERE name = @environment)
	ORDER BY revision DESC
	LIMIT @limit + 1
) r
CROSS JOIN LATERAL (
	SELECT count(DISTINCT (kind, name))::int AS changes FROM (
		SELECT kind, name FROM flag_versions WHERE environment = r.environment AND from_revision = r.revision
		UNION ALL
		SELECT kind, name FROM flag_versions WHERE environment = r.environment AND to_revision = r.revision
	) v
) c
ORDER BY r.revision DESC`

// RevisionLog lists the revisions of an environment that are kept, newest first,
// with the token of the next page; empty if this is the last one.
func (db *DB) RevisionLog(ctx context.Context, env string, page Page) ([]Revision, string, error) {
	var after struct{ Revision int64 }
	paged, err := page.after(&after)
	if err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	rows, err := read[Revision](ctx, db, "revisions", selectRevisionLog, pgx.StrictNamedArgs{
		"environment": env, "paged": paged, "before": after.Revision, "limit": limit,
	})
	if err == nil && len(rows) == 0 && !paged {
		err = fmt.Errorf("environment %.128q: %w", env, ErrNotFound)
	}
	if err != nil || len(rows) <= limit {
		return rows, "", err
	}
	rows = rows[:limit]
	after.Revision = rows[limit-1].Revision
	return rows, pageToken(after), nil
}

const selectRevisionAt = `
SELECT e.created_at,
	(SELECT max(revision) FROM revisions r WHERE r.environment = e.name AND r.revision >= e.oldest AND r.created_at <= @at) AS revision
FROM environments e
WHERE e.name = @environment`

// RevisionAt returns the revision that was the newest at a time. Before the
// environment was created there was none, which is ErrNotFound; one that is
// collected is ErrRevisionCollected.
func (db *DB) RevisionAt(ctx context.Context, env string, at time.Time) (int64, error) {
	type row struct {
		CreatedAt time.Time
		Revision  *int64
	}
	r, err := readOne[row](ctx, db, fmt.Sprintf("environment %.128q", env), selectRevisionAt, pgx.StrictNamedArgs{"environment": env, "at": at})
	switch {
	case err == nil && r.Revision == nil && !r.CreatedAt.After(at):
		err = fmt.Errorf("environment %.128q at %s: %w", env, at.UTC().Format(time.RFC3339), ErrRevisionCollected)
	case err == nil && r.Revision == nil:
		err = fmt.Errorf("environment %.128q at %s, before it was made at %s: %w",
			env, at.UTC().Format(time.RFC3339), r.CreatedAt.UTC().Format(time.RFC3339), ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	return *r.Revision, nil
}

const selectRevision = `
SELECT environment, revision, created_at AS time, actor, reason, COALESCE(change_id::text, '') AS change_id, 0 AS changes
FROM revisions
WHERE environment = @environment AND revision = @revision`

// Revision returns who made a revision of an environment, without the count of
// changes. One that there is not is ErrNotFound.
func (db *DB) Revision(ctx context.Context, env string, revision int64) (Revision, error) {
	return readOne[Revision](ctx, db, fmt.Sprintf("revision %d of %.128q", revision, env), selectRevision,
		pgx.StrictNamedArgs{"environment": env, "revision": revision})
}
