package store

import (
	"context"
	"errors"
	"time"
)

// Why a well-formed API key is refused.
var (
	// ErrKeyUnknown says that the installation has no such key.
	ErrKeyUnknown = errors.New("unknown API key")
	// ErrKeyExpired says that the key's time is over.
	ErrKeyExpired = errors.New("expired API key")
	// ErrKeyRevoked says that somebody revoked the key.
	ErrKeyRevoked = errors.New("revoked API key")
)

// Key is what the database knows of an API key.
type Key struct {
	ID   string
	Kind KeyKind
	// Environment is the one the key is good for; empty for an admin key,
	// which is good for all.
	Environment string
	Name        string
	// Hint is the last four characters of the text.
	Hint      string
	CreatedAt time.Time
	CreatedBy string
	// ExpiresAt, RevokedAt and LastUsedAt are zero for never. LastUsedAt is
	// true to the minute.
	ExpiresAt, RevokedAt, LastUsedAt time.Time
}

// NewKey asks for an API key.
type NewKey struct {
	Kind KeyKind
	// Environment is required for every kind but admin, which has none.
	Environment string
	// Name is what people will know the key by. Required.
	Name string
	// Expires is when the key stops working; zero for never.
	Expires time.Time
	// Actor and Reason are for the audit log. Actor is required.
	Actor, Reason string
	// CorrelationID ties the audit entry to the request.
	CorrelationID string
}

// CreateKey makes an API key and returns its text, which nobody can ask for
// again.
func (db *DB) CreateKey(ctx context.Context, n NewKey) (Key, KeyText, error) {
	return Key{}, KeyText{}, ErrUnavailable
}

// Keys lists all API keys, newest first, revoked and expired ones too.
func (db *DB) Keys(ctx context.Context, page Page) ([]Key, string, error) {
	return nil, "", ErrUnavailable
}

// RevokeKey ends an API key at once. Revoking a revoked key changes nothing.
func (db *DB) RevokeKey(ctx context.Context, id, actor, reason string) (Key, error) {
	return Key{}, ErrNotFound
}

// KeyByText returns the key that a caller presents, or ErrKeyMalformed,
// ErrKeyUnknown, ErrKeyExpired or ErrKeyRevoked. A malformed one costs no
// query. The time of use is noted at most once a minute.
func (db *DB) KeyByText(ctx context.Context, text string) (Key, error) {
	return Key{}, ErrKeyUnknown
}
