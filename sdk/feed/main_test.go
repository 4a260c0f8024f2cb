package feed_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/guidon-flags/guidon/sdk/feed"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(feed.WriterEnv); path != "" {
		feed.WriteForEver(path)
		return
	}
	goleak.VerifyTestMain(m)
}
