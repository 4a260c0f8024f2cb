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

// CorrelationID is the ID of the request that ctx belongs to, for logs; empty
// if it belongs to none.
func CorrelationID(ctx context.Context) string { return propagate.CorrelationID(ctx) }
