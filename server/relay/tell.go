package relay

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/server/fleet"
)

// Tell tells the upstream, every few seconds until ctx ends, who is connected to
// this relay and what they hold: in one call, however many they are.
func (u *Upstream) Tell(ctx context.Context, f *fleet.Fleet) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	pierced := map[int64]int64{}
	failed := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		snapshot, env := u.feed.Snapshot(), u.feed.Environment()
		if snapshot == nil || !u.feed.Status().Connected {
			continue
		}
		for revision, n := range f.TakePierced(env) {
			pierced[revision] += n
		}
		err := u.tell(ctx, &guidonv1.SyncServiceAckRequest{
			Environment: env, Client: u.client, Revision: snapshot.Revision(), Digest: snapshot.Digest().String(),
			PropagationKeyIds: ids(u.keys.Load()), Pierced: pierced, Behind: f.Page(env),
		})
		switch {
		case err == nil:
			clear(pierced)
			if failed {
				u.log.LogAttrs(ctx, slog.LevelInfo, "the upstream can be told again who is connected")
			}
		case !failed && ctx.Err() == nil:
			u.log.LogAttrs(ctx, slog.LevelWarn, "the upstream cannot be told who is connected", slog.Any("error", err))
		}
		failed = err != nil
	}
}

func (u *Upstream) tell(ctx context.Context, said *guidonv1.SyncServiceAckRequest) error {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	_, err := u.api.Ack(ctx, said)
	return err
}

func ids(keys *guidonv1.PropagationKeys) []string {
	var out []string
	for _, k := range keys.GetKeys() {
		out = append(out, k.GetId())
	}
	return out
}

// newTransport is the SDK's, for calls that are polls and for one connection
// that is worth keeping.
func newTransport() *http.Transport {
	t := feed.NewTransport()
	t.ResponseHeaderTimeout = 35 * time.Second // a poll waits for news
	t.IdleConnTimeout = 90 * time.Second
	return t
}
