package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// collectLimit bounds the rows of each table that one step of the collector
// removes.
const collectLimit = 1000

// collectLock is the advisory lock of whoever collects.
const collectLock = 0x677569646f6e // "guidon"

// Collected is what one step of the collector did.
type Collected struct {
	// Versions and Revisions are how many rows it removed.
	Versions, Revisions int64
	// More says that there is more to remove.
	More bool
}

const lockCollector = `SELECT pg_try_advisory_xact_lock(@lock) AS had`

// Collect removes what no revision needs that an environment keeps: a revision
// stays until it was superseded for the environment's retention, 30 days at
// least. It takes one step, of a bounded number of rows. Reads of a revision that
// is not kept are [ErrRevisionCollected] from the moment that nothing keeps it,
// whether or not its rows are gone. While another replica collects, this one does
// nothing. Audit entries and the logs of emergencies stay.
func (db *DB) Collect(ctx context.Context) (Collected, error) {
	type row struct {
		Name   string
		Oldest int64
	}
	outdated, err := read[row](ctx, db, "collect", selectOutdated, nil)
	if err != nil {
		return Collected{}, err
	}
	for _, e := range outdated {
		// Each for itself: two of them under lock would get in the way of changes.
		err := db.tries(ctx, "collect", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, updateOldest, pgx.StrictNamedArgs{"name": e.Name, "oldest": e.Oldest})
			return driver(err)
		})
		if err != nil {
			return Collected{}, err
		}
	}
	var c Collected
	err = db.tries(ctx, "collect", func(ctx context.Context, tx pgx.Tx) error {
		c = Collected{}
		lock, err := writing[struct{ Had bool }](ctx, tx, lockCollector, pgx.StrictNamedArgs{"lock": collectLock})
		if err != nil || !lock[0].Had {
			return err
		}
		for _, d := range []struct {
			sql     string
			removed *int64
		}{{deleteVersions, &c.Versions}, {deleteRevisions, &c.Revisions}} {
			tag, err := tx.Exec(ctx, d.sql, pgx.StrictNamedArgs{"limit": collectLimit})
			if err != nil {
				return driver(err)
			}
			*d.removed = tag.RowsAffected()
			c.More = c.More || *d.removed == collectLimit
		}
		return nil
	})
	if err != nil {
		return Collected{}, err
	}
	return c, nil
}
