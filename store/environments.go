package store

import (
	"context"
	"time"
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
}

const selectEnvironments = `
SELECT name, revision, protected, created_at, updated_at
FROM environments
ORDER BY position, name`

// Environments lists all environments in the order of promotion: development first.
func (db *DB) Environments(ctx context.Context) ([]Environment, error) {
	return collect[Environment](ctx, db.reads, "environments", selectEnvironments, nil)
}

// Revisions returns the newest revision of every environment in one query. It
// is the poll that every reader falls back to, so it costs no more than that.
func (db *DB) Revisions(ctx context.Context) (map[string]int64, error) {
	type row struct {
		Name     string
		Revision int64
	}
	rows, err := collect[row](ctx, db.reads, "revisions", `SELECT name, revision FROM environments`, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int64, len(rows))
	for _, r := range rows {
		out[r.Name] = r.Revision
	}
	return out, nil
}
