//go:build !failpoint

package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// failpoint does nothing: see failpoint_on.go.
func failpoint(string) error { return nil }

// commit sends what is queued, and COMMIT with it.
func commit(ctx context.Context, conn *pgx.Conn, b *pgx.Batch) error {
	queueCommit(b)
	return driver(conn.SendBatch(ctx, b).Close())
}

// Failpoint does nothing in a program built without the tag failpoint.
func Failpoint(string) error { return nil }
