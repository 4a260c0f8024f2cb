package server

import (
	"context"
	"time"
)

// fallbackTimeout bounds how long a call waits for the database in all where it
// can answer from memory, with less.
const fallbackTimeout = time.Second

// fallback bounds what a call reads from the database though it can answer
// without: not at all while that is away, so that it does not wait for one that
// hangs. The reads are then [store.ErrUnavailable].
func (s *Server) fallback(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.hub.Away() {
		return context.WithTimeout(ctx, 0)
	}
	return context.WithTimeout(ctx, fallbackTimeout)
}
