package store

import (
	"context"

	"github.com/guidon-flags/guidon/store/audit"
)

// AuditFilter narrows a list of audit entries; fields that are set must all hold.
type AuditFilter struct {
	// Environments names the chains to read; "" is the installation's, which
	// records keys and what describes a flag in all environments. Nil reads
	// every chain.
	Environments []string
	// Flag is a flag key.
	Flag string
	// Actor is matched whole.
	Actor string
	// Action is matched whole: see the Action constants of package audit.
	Action string
	// ChangeID picks the entries of one change set.
	ChangeID string
}

// Audit lists audit entries, newest first, with the token of the next page;
// empty if this is the last one. Each entry holds the very bytes that were hashed.
func (db *DB) Audit(ctx context.Context, filter AuditFilter, page Page) ([]audit.Entry, string, error) {
	return nil, "", ErrNotFound
}
