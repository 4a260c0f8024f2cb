package relay_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
)

// defines is an upstream that gives one answer about definitions.
type defines struct {
	guidonv1connect.UnimplementedSyncServiceHandler
	answer *guidonv1.SyncServiceGetDefinitionResponse
}

func (d defines) GetDefinition(context.Context, *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	return d.answer, nil
}

// A definition that has not been superseded holds as far as the upstream knew,
// which may be less than what is known here.
func TestSupersededAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to, known int64 // as the upstream answers
		until           int64 // 0 for an answer that is refused
	}{
		"superseded":                 {3, 6, 5, 6},
		"current":                    {3, 0, 7, 8},
		"an upstream that is behind": {3, 0, 2, 6},
		"later":                      {6, 0, 7, 0},
		"over":                       {3, 5, 4, 0},
	} {
		_, handler := guidonv1connect.NewSyncServiceHandler(defines{answer: &guidonv1.SyncServiceGetDefinitionResponse{
			FromRevision: c.from, ToRevision: c.to, KnownRevision: c.known,
		}})
		upstream := httptest.NewServer(handler)
		defer upstream.Close()
		u := relay.New(relay.Config{URL: upstream.URL, Key: "any"})
		_, from, to, err := u.Superseded(t.Context(), "staging", "checkout", 5)
		switch {
		case c.until == 0 && !errors.Is(err, store.ErrUnavailable):
			t.Errorf("%s: %d to %d, %v; want it refused", name, from, to, err)
		case c.until != 0 && (err != nil || from != c.from || to != c.until):
			t.Errorf("%s: %d to %d, %v; want %d to %d", name, from, to, err, c.from, c.until)
		}
	}
}
