package guidon

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// CacheKey returns a text that is the same for two requests of this environment
// only if every one of the flags gives both the same variant, for the same
// reason and by the same definition of its values. A cache between services, or
// in one, adds it to its key in place of the guidon header: never Vary on that,
// which is different for each request.
//
// The flags are evaluated, which seals the request's state. call is the
// evaluation context, as for an evaluation, and may be nil.
func (c *Client) CacheKey(ctx context.Context, call map[string]any, flags ...string) string {
	text := []byte("guidon-cache/1")
	for _, flag := range slices.Compact(slices.Sorted(slices.Values(flags))) {
		r := c.propagator.Evaluate(ctx, flag, eval.Any, call)
		from := int64(0) // of what the value belongs to
		if f := r.Flag(); f != nil {
			from = f.EffectiveFrom()
		}
		for _, part := range []string{flag, r.Variant(), string(r.ErrorCode()), strconv.FormatInt(from, 10)} {
			text = append(append(text, 0), part...)
		}
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}
