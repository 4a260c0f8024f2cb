package guidon

import (
	"context"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Enrich adds to what is known of the request that ctx belongs to, before the
// first flag of it is evaluated or the first call goes out. Afterwards it
// returns [propagate.ErrSealed] and changes nothing; without a request in ctx,
// [propagate.ErrNoState].
func Enrich(ctx context.Context, attributes map[string]any) error {
	return propagate.Enrich(ctx, attributes)
}

// Reroot starts a new root within the request that ctx belongs to, at the newest
// revision: once per message of a long stream or per turn of a loop. The
// correlation ID and what is known of the request stay. What is evaluated before
// and after may differ, which is the point.
func (c *Client) Reroot(ctx context.Context) context.Context { return c.propagator.Reroot(ctx) }

// CorrelationID is the ID of the request that ctx belongs to, for logs; empty
// if it belongs to none.
func CorrelationID(ctx context.Context) string { return propagate.CorrelationID(ctx) }
