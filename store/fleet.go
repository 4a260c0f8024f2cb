package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// FleetPage is what one replica knows of the instances that are connected to it
// in one environment. The store does not look into it.
type FleetPage struct {
	Replica     string
	Environment string
	Page        []byte
	// Age is how long ago the replica last said so.
	Age time.Duration
}

const upsertFleet = `
WITH gone AS (
	DELETE FROM fleet WHERE seen_at < clock_timestamp() - interval '1 hour' AND replica <> @replica
)
INSERT INTO fleet (replica, environment, page, seen_at)
SELECT @replica, environment, page, clock_timestamp()
FROM unnest(@environments::text[], @pages::bytea[]) AS given (environment, page)
ON CONFLICT (replica, environment) DO UPDATE SET page = EXCLUDED.page, seen_at = EXCLUDED.seen_at`

// ShareFleet replaces what a replica says, in the environments named, and
// removes what replicas said that have been silent for an hour.
func (db *DB) ShareFleet(ctx context.Context, replica string, pages map[string][]byte) error {
	environments := slices.Sorted(maps.Keys(pages))
	contents := make([][]byte, 0, len(pages))
	for _, environment := range environments {
		contents = append(contents, pages[environment])
	}
	_, err := db.exec(ctx, upsertFleet, pgx.StrictNamedArgs{
		"replica": replica, "environments": environments, "pages": contents,
	})
	return dbError("share fleet", err)
}

// TouchFleet says that what a replica shared last, of that many environments, is
// still so. It reports false where that is not there any more, as after a crash
// of Postgres.
func (db *DB) TouchFleet(ctx context.Context, replica string, environments int) (bool, error) {
	tag, err := db.exec(ctx, `UPDATE fleet SET seen_at = clock_timestamp() WHERE replica = @replica`,
		pgx.StrictNamedArgs{"replica": replica})
	return tag.RowsAffected() == int64(environments), dbError("share fleet", err)
}

const selectFleet = `
SELECT replica, environment, page, clock_timestamp() - seen_at AS age
FROM fleet
WHERE replica <> @replica
ORDER BY replica, environment`

// Fleet returns what all replicas but the one named said last.
func (db *DB) Fleet(ctx context.Context, replica string) ([]FleetPage, error) {
	return read[FleetPage](ctx, db, "fleet", selectFleet, pgx.StrictNamedArgs{"replica": replica})
}
