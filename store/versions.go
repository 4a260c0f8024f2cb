package store

import (
	"context"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// SnapshotRows returns every row of an environment as of a revision, sorted by
// kind and name, and the revision it read. Revision 0 means the newest.
// A revision above the newest is ErrRevisionAhead.
func (db *DB) SnapshotRows(ctx context.Context, env string, revision int64) ([]eval.Row, int64, error) {
	return nil, 0, ErrNotFound
}

// Delta returns what leads from the snapshot at revision from to the one at
// revision to: the rows to put and the names to drop, each sorted by kind and
// name. A row that changed several times in between comes once, as it is at
// to. Both revisions must exist and from must not be above to.
func (db *DB) Delta(ctx context.Context, env string, from, to int64) (upserts []eval.Row, deletes []eval.Name, err error) {
	return nil, nil, ErrNotFound
}

// Superseded returns the rows needed to compile one flag alone as of a
// revision: the flag, the segments it reads and the settings, as they were.
// They are good for every revision in [from, to); to is 0 if that holds to
// this day. No rows means that the flag did not exist then. A revision above
// the newest is ErrRevisionAhead and must not be remembered.
func (db *DB) Superseded(ctx context.Context, env, key string, revision int64) (rows []eval.Row, from, to int64, err error) {
	return nil, 0, 0, ErrNotFound
}
