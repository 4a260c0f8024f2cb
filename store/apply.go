package store

import "context"

// Apply carries out a change set in one transaction and returns once it is
// committed. It refuses with [RefusedError] (what is wrong, by operation),
// [ConflictError], [ErrKeyReused], [ErrContended] or [ErrUnavailable]; then
// nothing was changed, except that after ErrUnavailable a caller that gave no
// idempotency key cannot know.
func (db *DB) Apply(ctx context.Context, cs ChangeSet) (Applied, error) {
	return Applied{}, ErrUnavailable
}
