package server_test

import (
	"testing"

	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/store"
)

// TestWritesFitTheSDK: what may be written is at most half of what an SDK
// takes, so that growth in the encoding, or a smaller limit in an older SDK,
// does not cut services off.
func TestWritesFitTheSDK(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]struct{ written, taken int }{
		"environment":  {store.MaxEnvironmentBytes, feed.MaxPayload},
		"change set":   {store.MaxDefinitionBytes, feed.MaxMessage},
		"one document": {store.MaxDocumentBytes, feed.MaxMessage},
	} {
		if 2*limit.written > limit.taken {
			t.Errorf("%s: %d bytes may be written, and an SDK takes %d", name, limit.written, limit.taken)
		}
	}
}
