package store

import (
	"context"
	"time"
)

// Flag is one flag of one environment as of one version, with what the
// installation knows about its key.
type Flag struct {
	Environment string
	Key         string
	Project     string
	Kind        string
	Type        string
	Scope       string
	Owner       string
	Description string
	Tags        []string
	// Lifecycle is active, archived or deleted.
	Lifecycle string
	// CreatedAt is when the key was made.
	CreatedAt time.Time
	// Document is the canonical document: {"flag": …, "guidon": …}.
	Document []byte
	// FromRevision is the revision that wrote this version, ToRevision the one
	// that replaced it; 0 if none did.
	FromRevision int64
	ToRevision   int64
	// UpdatedAt, UpdatedBy, Reason and ChangeID say who wrote this version.
	UpdatedAt time.Time
	UpdatedBy string
	Reason    string
	ChangeID  string
}

// FlagFilter narrows a list of flags. The zero value lets every flag pass;
// fields that are set must all hold.
type FlagFilter struct {
	Project   string
	Kind      string
	Owner     string
	Tag       string
	Lifecycle string
	// State is ENABLED or DISABLED.
	State string
	// Query is looked for in key and description, regardless of case.
	Query string
}

// FlagVersion is one version in the history of a flag.
type FlagVersion struct {
	Revision int64
	Time     time.Time
	Actor    string
	Reason   string
	ChangeID string
	// Before and After are the canonical documents; Before is nil for the
	// first version, After for the last one of a deleted flag.
	Before, After []byte
}

// Flags lists the flags of an environment by key, with the token of the next
// page; empty if this is the last one.
func (db *DB) Flags(ctx context.Context, env string, filter FlagFilter, page Page) ([]Flag, string, error) {
	return nil, "", ErrNotFound
}

// Flag returns one flag of an environment as of a revision; 0 means newest.
func (db *DB) Flag(ctx context.Context, env, key string, revision int64) (Flag, error) {
	return Flag{}, ErrNotFound
}

// FlagHistory lists the versions of a flag in an environment, newest first.
func (db *DB) FlagHistory(ctx context.Context, env, key string, page Page) ([]FlagVersion, string, error) {
	return nil, "", ErrNotFound
}
