//go:build !failpoint

package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// failpoint does nothing: see failpoint_on.go.
func failpoint(string) error { return nil }

func commit(ctx context.Context, tx pgx.Tx) error { return driver(tx.Commit(ctx)) }

// Failpoint does nothing in a program built without the tag failpoint.
func Failpoint(string) error { return nil }
