package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// versionRow is a row as of some revision, or nothing but the newest and the
// oldest revision of an environment that has no rows to show.
type versionRow struct {
	Newest       int64
	Oldest       int64
	Kind, Name   *string
	FromRevision *int64
	Document     []byte // nil for a row that is gone
}

// split gathers what is there and what is gone.
func split(rows []versionRow) (there []eval.Row, gone []eval.Name, err error) {
	for _, r := range rows {
		if r.Kind == nil {
			continue
		}
		kind, err := eval.ParseKind(*r.Kind)
		if err != nil {
			return nil, nil, err
		}
		if r.Document == nil {
			gone = append(gone, eval.Name{Kind: kind, Name: *r.Name})
			continue
		}
		there = append(there, eval.Row{Kind: kind, Name: *r.Name, From: *r.FromRevision, Document: r.Document})
	}
	return there, gone, nil
}

const selectNewest = `
SELECT e.revision AS newest, e.oldest, v.kind, v.name, v.from_revision, v.document
FROM environments e
LEFT JOIN flag_versions v ON v.environment = e.name AND v.to_revision IS NULL
WHERE e.name = @environment
ORDER BY v.kind, v.name`

// The open rows and those closed since are each found by an index; a condition
// with OR would read every version there ever was.
const selectAt = `
SELECT e.revision AS newest, e.oldest, v.kind, v.name, v.from_revision, v.document
FROM environments e
LEFT JOIN LATERAL (
	SELECT kind, name, from_revision, document FROM flag_versions
	WHERE environment = e.name AND to_revision IS NULL AND from_revision <= @revision
	UNION ALL
	SELECT kind, name, from_revision, document FROM flag_versions
	WHERE environment = e.name AND to_revision > @revision AND from_revision <= @revision
) v ON true
WHERE e.name = @environment
ORDER BY v.kind, v.name`

// A few rows among many are looked up one by one, in a LATERAL that OFFSET
// keeps in one piece: until the table is analysed Postgres takes it for small
// and would rather read the whole environment.
const selectNamedAt = `
SELECT e.revision AS newest, e.oldest, v.kind, v.name, v.from_revision, v.document
FROM environments e
LEFT JOIN LATERAL (
	SELECT f.kind, f.name, f.from_revision, f.document
	FROM unnest(@flags::text[]) AS wanted (key)
	CROSS JOIN LATERAL (
		SELECT kind, name, from_revision, document FROM flag_versions
		WHERE environment = @environment AND kind IN ('flag', 'emergency') AND name = wanted.key
			AND from_revision <= @revision AND (to_revision IS NULL OR to_revision > @revision)
		OFFSET 0
	) f
	UNION ALL
	SELECT s.kind, s.name, s.from_revision, s.document
	FROM (VALUES ('segment'), ('settings')) AS wanted (kind)
	CROSS JOIN LATERAL (
		SELECT flag_versions.kind, name, from_revision, document FROM flag_versions
		WHERE environment = @environment AND flag_versions.kind = wanted.kind
			AND from_revision <= @revision AND (to_revision IS NULL OR to_revision > @revision)
		OFFSET 0
	) s
) v ON true
WHERE e.name = @environment
ORDER BY v.kind, v.name`

// SnapshotRows returns every row of an environment as of a revision, sorted by
// kind and name, and the revision it read. Revision 0 means the newest.
// A revision above the newest is ErrRevisionAhead, a lost one ErrRevisionLost,
// one that is collected ErrRevisionCollected.
func (db *DB) SnapshotRows(ctx context.Context, env string, revision int64) ([]eval.Row, int64, error) {
	if revision != 0 {
		if _, err := db.unlost(ctx, env, revision); err != nil {
			return nil, 0, err
		}
		rows, err := db.rowsAt(ctx, env, revision, selectAt, pgx.StrictNamedArgs{"environment": env, "revision": revision})
		return rows, revision, err
	}
	found, err := read[versionRow](ctx, db, "snapshot", selectNewest, pgx.StrictNamedArgs{"environment": env})
	if err != nil {
		return nil, 0, err
	}
	if len(found) == 0 {
		return nil, 0, fmt.Errorf("environment %.128q: %w", env, ErrNotFound)
	}
	rows, _, err := split(found)
	return rows, found[0].Newest, err
}

// rowsAt returns the rows as of a revision that a statement finds.
func (db *DB) rowsAt(ctx context.Context, env string, revision int64, sql string, args pgx.StrictNamedArgs) ([]eval.Row, error) {
	found, err := read[versionRow](ctx, db, "snapshot", sql, args)
	if err == nil {
		err = checkRevision(env, revision, found)
	}
	if err != nil {
		return nil, err
	}
	rows, _, err := split(found)
	return rows, err
}

func checkRevision(env string, revision int64, found []versionRow) error {
	switch {
	case len(found) == 0:
		return fmt.Errorf("environment %.128q: %w", env, ErrNotFound)
	case revision < 1:
		return &FieldError{"revision", fmt.Sprintf("%d: revisions start at 1", revision)}
	case revision > found[0].Newest:
		return fmt.Errorf("environment %.128q has no revision %d yet, the newest is %d: %w", env, revision, found[0].Newest, ErrRevisionAhead)
	}
	return checkKept(env, revision, found[0].Oldest)
}

// checkKept refuses a revision that is collected, or may be at any moment. It
// must be asked of what was read with the rows, or after them.
func checkKept(env string, revision, oldest int64) error {
	if revision < oldest {
		return fmt.Errorf("environment %.128q keeps nothing of revision %d, only from %d on: %w", env, revision, oldest, ErrRevisionCollected)
	}
	return nil
}

const selectDelta = `
SELECT e.revision AS newest, e.oldest, v.kind, v.name, v.from_revision, v.document
FROM environments e
LEFT JOIN LATERAL (
	SELECT kind, name, from_revision, document FROM flag_versions
	WHERE environment = e.name AND from_revision > @from AND from_revision <= @to
		AND (to_revision IS NULL OR to_revision > @to)
	UNION ALL
	SELECT kind, name, from_revision, NULL FROM flag_versions old
	WHERE environment = e.name AND to_revision > @from AND to_revision <= @to AND from_revision <= @from
		AND NOT EXISTS (
			SELECT FROM flag_versions now
			WHERE now.environment = old.environment AND now.kind = old.kind AND now.name = old.name
				AND now.from_revision <= @to AND (now.to_revision IS NULL OR now.to_revision > @to)
		)
) v ON true
WHERE e.name = @environment
ORDER BY v.kind, v.name`

// Delta returns what leads from the snapshot at revision from to the one at
// revision to: the rows to put and the names to drop, each sorted by kind and
// name. A row that changed several times in between comes once, as it is at
// to. From 0 the delta is the whole snapshot. A to above the newest revision
// is ErrRevisionAhead; from one that is collected nothing leads on, which is
// ErrRevisionCollected.
func (db *DB) Delta(ctx context.Context, env string, from, to int64) (upserts []eval.Row, deletes []eval.Name, err error) {
	if from < 0 || from > to {
		return nil, nil, &FieldError{"revision", fmt.Sprintf("there is no way from %d to %d", from, to)}
	}
	found, err := read[versionRow](ctx, db, "delta", selectDelta, pgx.StrictNamedArgs{"environment": env, "from": from, "to": to})
	if err == nil {
		err = checkRevision(env, to, found)
	}
	if err == nil && from != 0 {
		err = checkKept(env, from, found[0].Oldest)
	}
	if err != nil {
		return nil, nil, err
	}
	return split(found)
}

const selectBounds = `
SELECT (SELECT oldest FROM environments WHERE name = @environment) AS oldest,
	COALESCE(max(at) FILTER (WHERE at <= @revision), 1) AS since,
	COALESCE(min(at) FILTER (WHERE at > @revision), 0) AS until
FROM flag_versions v
CROSS JOIN LATERAL (VALUES (v.from_revision), (v.to_revision)) AS event (at)
WHERE v.environment = @environment AND (v.kind, v.name) IN (SELECT * FROM unnest(@kinds::text[], @names::text[]))`

// Superseded returns the rows needed to compile one flag alone as of a
// revision: the flag, the segments it reads and the settings, as they were.
// They are good for every revision in [from, to); to is 0 if that holds to
// this day. No rows means that the flag did not exist then. A revision above
// the newest is ErrRevisionAhead and must not be remembered; a lost one is
// ErrRevisionLost, one that is collected ErrRevisionCollected.
func (db *DB) Superseded(ctx context.Context, env, key string, revision int64) (rows []eval.Row, from, to int64, err error) {
	until, err := db.unlost(ctx, env, revision)
	if err != nil {
		return nil, 0, 0, err
	}
	rows, names, err := db.alone(ctx, env, key, revision)
	if err != nil {
		return nil, 0, 0, err
	}
	type bounds struct{ Oldest, Since, Until int64 }
	kinds, keys := columns(names)
	b, err := readOne[bounds](ctx, db, "superseded flag", selectBounds, pgx.StrictNamedArgs{
		"environment": env, "revision": revision, "kinds": kinds, "names": keys,
	})
	if err == nil {
		err = checkKept(env, revision, b.Oldest) // the rows and the bounds are two looks
	}
	if err != nil {
		return nil, 0, 0, err
	}
	if until != 0 && (b.Until == 0 || until < b.Until) {
		b.Until = until
	}
	// What came and went before the oldest revision may have left no trace.
	return rows, max(b.Since, b.Oldest), b.Until, nil
}

// Oldest returns the oldest revision that an environment keeps, to take a flag as
// of that in place of a revision that is collected, or the revision itself if it
// is kept. A lost revision is ErrRevisionLost: nothing stands in for what nobody
// knows.
func (db *DB) Oldest(ctx context.Context, env string, revision int64) (int64, error) {
	if _, err := db.unlost(ctx, env, revision); err != nil {
		return 0, err
	}
	oldest, err := db.oldest(ctx, env)
	return max(oldest, revision), err
}

// alone returns the rows that a flag needs as of a revision, and the names
// whose coming, changing or going changes that.
func (db *DB) alone(ctx context.Context, env, key string, revision int64) ([]eval.Row, []eval.Name, error) {
	flags := []string{key}
	for {
		rows, err := db.rowsAt(ctx, env, revision, selectNamedAt, pgx.StrictNamedArgs{"environment": env, "revision": revision, "flags": flags})
		if err != nil {
			return nil, nil, err
		}
		snapshot, err := eval.Compile(revision, rows)
		if err != nil {
			return nil, nil, err
		}
		flag := snapshot.Flag(key)
		if flag == nil {
			return nil, []eval.Name{{Kind: eval.KindFlag, Name: key}}, nil
		}
		needed := flag.Dependencies()
		var more bool
		var found []eval.Row
		for _, name := range needed {
			if r, ok := snapshot.Row(name); ok {
				found = append(found, r)
			} else if name.Kind == eval.KindFlag && !slices.Contains(flags, name.Name) {
				flags, more = append(flags, name.Name), true // a prerequisite, which has its own
			}
		}
		if !more {
			return found, needed, nil
		}
	}
}

func columns(names []eval.Name) (kinds, keys []string) {
	for _, n := range names {
		kinds, keys = append(kinds, n.Kind.String()), append(keys, n.Name)
	}
	return kinds, keys
}

// openRow is a row that is current in a transaction that holds its environment.
type openRow struct {
	Environment  string
	Kind         string
	Name         string
	FromRevision int64
	Document     []byte
}

// openRows reads what some steps need to be there: the flags, who requires them
// or refers to them, the emergencies of both, and the segments and settings of
// the environments. Each kind is looked for by its name, which every plan finds
// by flag_versions_open. Who refers to a row is looked for apart from its
// environment: until the table is analysed Postgres would rather read all of that.
const openRows = `
SELECT r.environment, r.kind, r.name, r.from_revision, r.document
FROM {rows}
CROSS JOIN LATERAL (
	SELECT n.flag AS name
	UNION ALL
	SELECT name FROM (
		SELECT environment, kind, name FROM flag_versions
		WHERE to_revision IS NULL AND refers <> '{}' AND refers @> ARRAY[n.reference]
		OFFSET 0
	) v
	WHERE v.environment = n.environment AND v.kind = 'flag'
) wanted
CROSS JOIN LATERAL (
	SELECT environment, kind, name, from_revision, document FROM flag_versions
	WHERE environment = n.environment AND kind = 'flag' AND name = wanted.name AND to_revision IS NULL
	UNION ALL
	SELECT environment, kind, name, from_revision, document FROM flag_versions
	WHERE environment = n.environment AND kind = 'emergency' AND name = wanted.name AND to_revision IS NULL
) r
UNION ALL
SELECT r.environment, r.kind, r.name, r.from_revision, r.document
FROM (SELECT DISTINCT environment FROM {rows}) n
CROSS JOIN LATERAL (
	SELECT environment, kind, name, from_revision, document FROM flag_versions
	WHERE environment = n.environment AND kind = 'segment' AND to_revision IS NULL
	UNION ALL
	SELECT environment, kind, name, from_revision, document FROM flag_versions
	WHERE environment = n.environment AND kind = 'settings' AND to_revision IS NULL
) r`

// selectOpenRows is for names of environments. For selectOpenEverywhere an empty
// environment stands for each of them, and it reads the segments of all.
var (
	selectOpenRows       = over(openRows, "environment text", "flag text", "reference text")
	selectOpenEverywhere = over(strings.ReplaceAll(openRows, "{rows}", `(
	SELECT environments.name AS environment, n.flag, n.reference
	FROM environments LEFT JOIN {rows} ON n.environment IN ('', environments.name)
) n`), "environment text", "flag text", "reference text")
)

const selectOpenFlags = `
SELECT environment, kind, name, from_revision, document FROM flag_versions
WHERE to_revision IS NULL AND environment = @environment AND kind IN ('flag', 'emergency')`

// selectRelated reads who refers to some rows, and some flags.
const selectRelated = `
WITH referring AS MATERIALIZED (
	SELECT environment, kind, name FROM flag_versions
	WHERE to_revision IS NULL AND refers <> '{}' AND refers && @refers::text[]
)
SELECT r.environment, r.kind, r.name, r.from_revision, r.document
FROM referring v
JOIN flag_versions r ON r.environment = v.environment AND r.name = v.name
	AND (r.kind = v.kind OR r.kind = 'emergency' AND v.kind = 'flag')
WHERE v.environment = @environment AND r.to_revision IS NULL
UNION ALL
SELECT f.environment, f.kind, f.name, f.from_revision, f.document
FROM unnest(@flags::text[]) AS wanted (key)
CROSS JOIN LATERAL (
	SELECT environment, kind, name, from_revision, document FROM flag_versions
	WHERE environment = @environment AND kind IN ('flag', 'emergency') AND name = wanted.key AND to_revision IS NULL
	OFFSET 0
) f`

const selectChangedSince = `
SELECT kind, name, bool_or(from_revision <= @revision) AS had, bool_or(to_revision IS NULL) AS has
FROM flag_versions
WHERE environment = @environment AND (from_revision > @revision OR to_revision > @revision)
GROUP BY kind, name
ORDER BY kind, name
LIMIT 100`

// changedSince names what was written after a revision, for a conflict.
func changedSince(ctx context.Context, tx pgx.Tx, env string, revision int64) ([]ConflictingRow, error) {
	type row struct {
		Kind, Name string
		Had, Has   bool
	}
	rows, err := writing[row](ctx, tx, selectChangedSince, pgx.StrictNamedArgs{"environment": env, "revision": revision})
	if err != nil {
		return nil, err
	}
	out := make([]ConflictingRow, len(rows))
	for i, r := range rows {
		out[i].Name.Name, out[i].Action = r.Name, rowAction(r.Had, r.Has)
		if out[i].Kind, err = eval.ParseKind(r.Kind); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// madeVersion is a version without its document; or nothing but the oldest
// revision of an environment in which none was made.
type madeVersion struct {
	Oldest       int64
	Kind, Name   *string
	FromRevision int64
	ToRevision   int64  // 0 while it is current
	Made         []byte // the hash of its document
	Hash         []byte // and what is said to be
}

const selectVersionsMade = `
SELECT e.oldest, v.kind, v.name, COALESCE(v.from_revision, 0) AS from_revision, COALESCE(v.to_revision, 0) AS to_revision,
	sha256(v.document) AS made, v.hash
FROM environments e
LEFT JOIN LATERAL (
	SELECT kind, name, from_revision, to_revision, document, hash FROM flag_versions
	WHERE environment = e.name AND from_revision > @after AND from_revision <= @last
	ORDER BY from_revision
	LIMIT @limit
) v ON true
WHERE e.name = @environment`

// versionsMade returns a limited number of the versions that revisions after one
// and up to another made.
func (db *DB) versionsMade(ctx context.Context, env string, after, last int64, limit int) ([]madeVersion, error) {
	return read[madeVersion](ctx, db, "versions", selectVersionsMade, pgx.StrictNamedArgs{
		"environment": env, "after": after, "last": last, "limit": limit,
	})
}

const selectVersionsAt = `
SELECT e.oldest, v.kind, v.name, COALESCE(v.from_revision, 0) AS from_revision, COALESCE(v.to_revision, 0) AS to_revision,
	sha256(v.document) AS made, v.hash
FROM environments e
LEFT JOIN LATERAL (
	SELECT kind, name, from_revision, to_revision, document, hash FROM flag_versions
	WHERE environment = e.name AND to_revision IS NULL AND from_revision <= @revision
	UNION ALL
	SELECT kind, name, from_revision, to_revision, document, hash FROM flag_versions
	WHERE environment = e.name AND to_revision > @revision AND from_revision <= @revision
) v ON true
WHERE e.name = @environment`

// versionsAt returns the versions as of a revision, those that are collected
// aside.
func (db *DB) versionsAt(ctx context.Context, env string, revision int64) ([]madeVersion, error) {
	return read[madeVersion](ctx, db, "versions", selectVersionsAt, pgx.StrictNamedArgs{"environment": env, "revision": revision})
}

const selectRevisionsMade = `
SELECT environment, revision, created_at AS time, actor, reason, COALESCE(change_id::text, '') AS change_id, 0 AS changes
FROM revisions
WHERE environment = @environment AND revision > @after AND revision <= @last
ORDER BY revision
LIMIT @limit`

// revisionsMade returns a limited number of the revisions after one and up to
// another.
func (db *DB) revisionsMade(ctx context.Context, env string, after, last int64, limit int) ([]Revision, error) {
	return read[Revision](ctx, db, "revisions", selectRevisionsMade, pgx.StrictNamedArgs{
		"environment": env, "after": after, "last": last, "limit": limit,
	})
}

// Each of the three is one look into an index: with OR, it would be all versions.
const selectAhead = `
SELECT ahead.what
FROM environments e
CROSS JOIN LATERAL (
	(SELECT kind || '/' || name AS what FROM flag_versions
	WHERE environment = e.name AND from_revision > e.revision ORDER BY from_revision DESC LIMIT 1)
	UNION ALL
	(SELECT kind || '/' || name FROM flag_versions
	WHERE environment = e.name AND to_revision > e.revision ORDER BY to_revision DESC LIMIT 1)
	UNION ALL
	(SELECT 'revision ' || revision FROM revisions
	WHERE environment = e.name AND revision > e.revision ORDER BY revision DESC LIMIT 1)
) ahead
WHERE e.name = @environment
LIMIT 1`

// ahead names something that is of a revision which an environment has not got to;
// "" if there is none, as it should be.
func (db *DB) ahead(ctx context.Context, env string) (string, error) {
	rows, err := read[struct{ What string }](ctx, db, "versions", selectAhead, pgx.StrictNamedArgs{"environment": env})
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0].What, nil
}

var closeVersions = over(`
UPDATE flag_versions v
SET to_revision = n.revision
FROM {rows}
WHERE v.to_revision IS NULL AND v.environment = n.environment AND v.kind = n.kind AND v.name = n.name`,
	"environment text", "kind text", "name text", "revision bigint")

var insertVersions = over(`
INSERT INTO flag_versions (environment, kind, name, from_revision, document, hash, refers)
SELECT environment, kind, name, revision, document, sha256(document), string_to_array(refers, ' ')
FROM {rows}`,
	"environment text", "kind text", "name text", "revision bigint", "document bytea", "refers text")

// writeVersions queues the new versions of what changed, and the end of the
// old ones.
func writeVersions(b *pgx.Batch, environments []*environmentDraft) {
	var ended, made []bulkRow
	for _, e := range environments {
		for _, name := range e.changed() {
			r, kind, revision := e.rows[name], name.Kind.String(), e.Revision+1
			ended = append(ended, bulkRow{e.Name, kind, name.Name, revision})
			if r.document != nil {
				made = append(made, bulkRow{e.Name, kind, name.Name, revision, r.document, strings.Join(refers(r.references()), " ")})
			}
		}
	}
	closeVersions.queue(b, ended)
	insertVersions.queue(b, made)
}

const insertRevision = `
INSERT INTO revisions (environment, revision, change_id, actor, reason, created_at)
VALUES (@environment, @revision, @change, @actor, @reason, @at)`

var insertRevisions = over(`
INSERT INTO revisions (environment, revision, change_id, actor, reason, created_at)
SELECT environment, revision, change, actor, reason, at
FROM {rows}`,
	"environment text", "revision bigint", "change uuid", "actor text", "reason text", "at timestamptz")

// writeRevisions queues who made revisions.
func writeRevisions(b *pgx.Batch, made []Revision) {
	var rows []bulkRow
	for _, r := range made {
		rows = append(rows, bulkRow{r.Environment, r.Revision, r.ChangeID, r.Actor, r.Reason, r.Time})
	}
	insertRevisions.queue(b, rows)
}

func writeRevision(b *pgx.Batch, env string, revision int64, r request, at time.Time) {
	b.Queue(insertRevision, pgx.StrictNamedArgs{
		"environment": env, "revision": revision, "change": r.id, "actor": r.Actor, "reason": r.Reason, "at": at,
	})
}

// The oldest revision keeps the rows that it replaced, so that it can be
// reverted and its difference shown.
const deleteVersions = `
DELETE FROM flag_versions v
USING (
	SELECT old.environment, old.kind, old.name, old.from_revision
	FROM environments e
	JOIN flag_versions old ON old.environment = e.name AND old.to_revision < e.oldest
	ORDER BY old.environment, old.to_revision
	LIMIT @limit
) old
WHERE v.environment = old.environment AND v.kind = old.kind AND v.name = old.name AND v.from_revision = old.from_revision`

// Who wrote a version that is kept stays known.
const deleteRevisions = `
DELETE FROM revisions r
USING (
	SELECT old.environment, old.revision
	FROM environments e
	JOIN revisions old ON old.environment = e.name AND old.revision < e.oldest
	WHERE NOT EXISTS (SELECT FROM flag_versions v WHERE v.environment = old.environment AND v.from_revision = old.revision)
	LIMIT @limit
) old
WHERE r.environment = old.environment AND r.revision = old.revision`

var eraseRevisions = `
UPDATE revisions SET actor = ` + anonymous("actor") + `, reason = ` + unsaid("reason") + `
WHERE ` + named("actor") + ` OR ` + holdsName("reason")
