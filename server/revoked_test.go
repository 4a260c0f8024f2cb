package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

// endless is a call that goes on until its key is lost: wait returns why it
// ended.
type endless struct {
	name string
	wait func() error
}

// receiver is a stream of any protocol.
type receiver interface {
	Receive() bool
	Err() error
	Close() error
}

// streaming opens a stream and reads its first message.
func streaming[T receiver](t testing.TB, name string, stream T, err error) endless {
	t.Helper()
	if err != nil || !stream.Receive() {
		t.Fatalf("%s: %v, %v", name, err, stream.Err())
	}
	t.Cleanup(func() { _ = stream.Close() })
	return endless{name, func() error {
		for stream.Receive() {
		}
		return stream.Err()
	}}
}

// everyStream opens a stream of each protocol, in each way in which it is
// spoken, and polls.
func (g *guidon) everyStream(t testing.TB, key string) (open []endless) {
	t.Helper()
	ctx := t.Context()
	for _, d := range dialects {
		client, options := d.client(t), slices.Concat(d.options, []connect.ClientOption{withKey(key)})
		own, err := guidonv1connect.NewSyncServiceClient(client, g.url, options...).Sync(ctx, &guidonv1.SyncServiceSyncRequest{})
		open = append(open, streaming(t, "Sync over "+d.name, own, err))
		v1, err := g.flagdV1(t, d, key).EventStream(ctx, asked(&evaluationv1.EventStreamRequest{}))
		open = append(open, streaming(t, "flagd.evaluation.v1 over "+d.name, v1, err))
		v2, err := g.flagdV2(t, d, key).EventStream(ctx, asked(&evaluationv2.EventStreamRequest{}))
		open = append(open, streaming(t, "flagd.evaluation.v2 over "+d.name, v2, err))
		flags, err := syncv1connect.NewFlagSyncServiceClient(client, g.url, options...).SyncFlags(ctx, asked(&syncv1.SyncFlagsRequest{}))
		open = append(open, streaming(t, "flagd.sync.v1 over "+d.name, flags, err))
	}
	bulk := parsed(t, g.post(t, ofrepBulk, key, `{}`).body)
	uri := bulk["eventStreams"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)["requestUri"].(string)
	get := func() (*http.Response, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+uri, http.NoBody)
		if err != nil {
			return nil, err
		}
		return http.DefaultClient.Do(request)
	}
	events, err := get()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = events.Body.Close() })
	lines := bufio.NewReader(events.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	open = append(open, endless{"OFREP's events", func() error {
		if _, err := io.Copy(io.Discard, lines); err != nil {
			return err
		}
		again, err := get()
		if err != nil {
			return err
		}
		defer func() { _ = again.Body.Close() }()
		if again.StatusCode == http.StatusUnauthorized {
			return connect.NewError(connect.CodeUnauthenticated, errors.New(again.Status))
		}
		return errors.New(again.Status)
	}})
	return append(open, endless{"GetDelta", func() error {
		for have := int64(0); ; {
			res, err := g.syncs(key).GetDelta(ctx, &guidonv1.SyncServiceGetDeltaRequest{
				Have: &guidonv1.SyncServiceSyncRequest{HaveRevision: have, HaveDigest: g.digest(t, "production")}, Wait: durationpb.New(25 * time.Second),
			})
			if err != nil {
				return err
			}
			have = res.GetEvents()[0].GetHello().GetRevision()
		}
	}})
}

// digest is that of an environment as it is known here.
func (g *guidon) digest(t testing.TB, environment string) string {
	t.Helper()
	e, err := g.hub.Environment(environment)
	if err != nil {
		t.Fatal(err)
	}
	return e.Head().Digest()
}

// TestRevocationEndsEveryStream: a key that is revoked ends its streams, in
// every protocol and on every replica, and those of another key stay. The
// database is asked about a key as often as if there were one stream.
func TestRevocationEndsEveryStream(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		var asked atomic.Int64
		var about atomic.Value // of string: the key that is asked about
		counted := func(o *options) {
			verify := o.server.Verify
			if verify == nil {
				verify = o.server.Store.KeyByText
			}
			o.server.Verify = func(ctx context.Context, text string) (store.Key, error) {
				if about.Load() == text {
					asked.Add(1)
				}
				return verify(ctx, text)
			}
			o.server.Recheck = 50 * time.Millisecond
		}
		replicas := []*guidon{start(counted)}
		if replicas[0].upstream == nil {
			replicas = append(replicas, startOn(t, replicas[0].db, counted))
		}
		g := replicas[0]
		revision := g.apply(t, "production", putFlag("production", "a", "on"))
		id, text := g.create(t, store.NewKey{Kind: store.KeyServer, Environment: "production", Name: "revoked"})
		other := g.key(t, store.KeyServer, "production")
		var open []endless
		var stays []*follower
		about.Store(text)
		began := time.Now()
		for _, r := range replicas {
			r.reached(t, "production", revision)
			for range 3 {
				open = append(open, r.everyStream(t, text)...)
			}
			f := r.follow(t, other, nil)
			f.reach(revision)
			stays = append(stays, f)
		}
		ended := make(chan error, len(open))
		for _, s := range open {
			go func() {
				err := s.wait()
				if connect.CodeOf(err) == connect.CodeUnauthenticated {
					err = nil
				} else {
					err = fmt.Errorf("%s ended with %w, want unauthenticated", s.name, err)
				}
				ended <- err
			}()
		}
		revokedAt := time.Now()
		if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: id, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		deadline := time.After(time.Minute)
		for n := range open {
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-deadline:
				t.Fatalf("%d of %d streams and polls ended within a minute", n, len(open))
			}
		}
		t.Logf("%d streams and polls ended within %v", len(open), time.Since(revokedAt).Round(time.Millisecond))
		// A verdict holds for a second; one look-up may be under way at either end.
		if most := int64(len(replicas)) * (2 + int64(time.Since(began)/time.Second)); asked.Load() > most {
			t.Errorf("the store was asked %d times about a key in %v, want at most %d", asked.Load(), time.Since(began), most)
		}
		next := g.apply(t, "production", putFlag("production", "a", "off"))
		for _, f := range stays {
			f.reach(next)
		}
	})
}
