package message_test

import (
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	"github.com/guidon-flags/guidon/sdk/propagate/message"
)

// Only messages to topics of the zone carry the state.
func TestTopics(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	topics, err := message.NewTopics(p, "orders", "shop.*")
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]bool{"orders": true, "shop.mail": true, "shop.": true, "orders2": false, "shop": false, "partner.orders": false, "": false} {
		headers := map[string]any{}
		if got := topics.Inject(p.Root(t.Context(), nil), topic, message.Table(&headers)); got != want || (headers["guidon"] != nil) != want {
			t.Errorf("%q: %v with %v, want %v", topic, got, headers, want)
		}
	}
	for _, names := range [][]string{nil, {""}, {"*"}, {"a*b"}, {"a**"}} {
		if _, err := message.NewTopics(p, names...); err == nil || !strings.Contains(err.Error(), "topic") {
			t.Errorf("NewTopics(%q): %v, want an error", names, err)
		}
	}
}
