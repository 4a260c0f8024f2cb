package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func (g *guidon) syncs(key string) guidonv1connect.SyncServiceClient {
	return guidonv1connect.NewSyncServiceClient(http.DefaultClient, g.url, withKey(key))
}

// seen is what a replica says of the fleet of staging, in short.
func (g *guidon) seen(t testing.TB) (instances []string, seen string) {
	t.Helper()
	list := guidonv1connect.NewFleetServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	res, err := list.List(t.Context(), &guidonv1.FleetServiceListRequest{Environment: "staging"})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range res.GetInstances() {
		instances = append(instances, fmt.Sprintf("%s %s %s lag %d", i.GetService(), i.GetInstance(), i.GetProtocol(), i.GetLag()))
	}
	s := res.GetSeen()[0]
	return instances, fmt.Sprintf("%s %d/%d", s.GetEnvironment(), s.GetInstances(), s.GetConnected())
}

// TestFleetOverReplicas: an instance streams from one replica, acknowledges to
// another, and any replica says who has seen the newest revision.
func TestFleetOverReplicas(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	one, two := startOn(t, db), startOn(t, db)
	key := one.key(t, store.KeyServer, "staging")
	revision := one.apply(t, "staging", putFlag("staging", "a", "on"))
	streams := func(g *guidon, name string) {
		t.Helper()
		stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "cart", Instance: name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stream.Close() })
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		if stream.Msg().GetHello().GetAckSpread().AsDuration() <= 0 {
			t.Errorf("hello is %v, want an ack_spread", stream.Msg())
		}
	}
	streams(one, "x")
	streams(two, "y")
	acks := func(g *guidon, name string) {
		t.Helper()
		if _, err := g.syncs(key).Ack(t.Context(), &guidonv1.SyncServiceAckRequest{
			Client: &guidonv1.Client{Service: "cart", Instance: name}, Revision: revision,
		}); err != nil {
			t.Fatal(err)
		}
	}
	acks(two, "x")
	want := []string{"cart x sync lag 0", fmt.Sprintf("cart y sync lag %d", revision)}
	for name, g := range map[string]*guidon{"one": one, "two": two} {
		storetest.Eventually(t, "replica "+name+" knows both, and that x has seen the newest", func() bool {
			instances, seen := g.seen(t)
			return cmp.Equal(want, instances) && seen == "staging 1/2"
		})
	}
	acks(one, "y")
	storetest.Eventually(t, "both have seen the newest", func() bool {
		_, seen := two.seen(t)
		return seen == "staging 2/2"
	})
}

func TestAckIsChecked(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	client := &guidonv1.Client{Instance: "x"}
	for name, tt := range map[string]struct {
		request *guidonv1.SyncServiceAckRequest
		want    connect.Code
	}{
		"no instance":         {&guidonv1.SyncServiceAckRequest{Revision: 1}, connect.CodeInvalidArgument},
		"negative":            {&guidonv1.SyncServiceAckRequest{Client: client, Revision: -1}, connect.CodeInvalidArgument},
		"another environment": {&guidonv1.SyncServiceAckRequest{Client: client, Environment: "production", Revision: 1}, connect.CodePermissionDenied},
		"good":                {&guidonv1.SyncServiceAckRequest{Client: client, Revision: 1}, 0},
	} {
		_, err := g.syncs(key).Ack(t.Context(), tt.request)
		if (err == nil) != (tt.want == 0) || err != nil && connect.CodeOf(err) != tt.want {
			t.Errorf("%s: Ack = %v, want %v", name, err, tt.want)
		}
	}
}

// TestSilentInstancesAreNotWaitedFor: a client that never says what it holds is
// counted apart after a while, so that "seen by" comes to an end.
func TestSilentInstancesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	var later atomic.Int64 // nanoseconds
	g := start(t, func(o *options) {
		o.server.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	key := g.key(t, store.KeyServer, "staging")
	revision := g.apply(t, "staging", putFlag("staging", "a", "on"))
	for _, name := range []string{"sdk", "mute"} {
		stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Instance: name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = stream.Close() })
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	if _, err := g.syncs(key).Ack(t.Context(), &guidonv1.SyncServiceAckRequest{Client: &guidonv1.Client{Instance: "sdk"}, Revision: revision}); err != nil {
		t.Fatal(err)
	}
	if _, seen := g.seen(t); seen != "staging 1/2" {
		t.Errorf("at first the newest revision is seen by %s, want 1/2", seen)
	}
	later.Store(int64(2 * time.Minute))
	res, err := guidonv1connect.NewFleetServiceClient(http.DefaultClient, g.url, withKey(g.admin)).List(t.Context(), &guidonv1.FleetServiceListRequest{Environment: "staging"})
	if err != nil || len(res.GetInstances()) != 2 {
		t.Fatalf("FleetService.List = %v, %v, want both instances", res, err)
	}
	if s := res.GetSeen()[0]; s.GetInstances() != 1 || s.GetConnected() != 1 || s.GetSilent() != 1 {
		t.Errorf("after two minutes seen is %v, want 1 of 1, and 1 silent", s)
	}
}

// Streams of flagd's protocols and of OFREP are in the list while they are open,
// by what their program calls itself.
func TestFleetCountsOtherStreams(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	list := guidonv1connect.NewFleetServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	shown := func() (out []string) {
		t.Helper()
		res, err := list.List(t.Context(), &guidonv1.FleetServiceListRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(res.GetInstances()); n != 0 {
			t.Errorf("%d instances", n)
		}
		for _, s := range res.GetStreams() {
			program, _, _ := strings.Cut(s.GetClient(), "/")
			out = append(out, fmt.Sprintf("%s %s %s %d", s.GetEnvironment(), s.GetProtocol(), program, s.GetStreams()))
		}
		return out
	}
	ctx, cancel := context.WithCancel(t.Context())
	events, err := g.flagdV1(t, dialects[2], key).EventStream(ctx, asked(&evaluationv1.EventStreamRequest{}))
	if err != nil || !events.Receive() {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = events.Close() })
	flags, err := syncv1connect.NewFlagSyncServiceClient(http.DefaultClient, g.url, withKey(key)).SyncFlags(ctx, asked(&syncv1.SyncFlagsRequest{}))
	if err != nil || !flags.Receive() {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flags.Close() })
	var bulk struct {
		EventStreams []struct {
			Endpoint struct{ RequestURI string }
		}
	}
	if err := json.Unmarshal([]byte(g.post(t, ofrepBulk, key, `{}`).body), &bulk); err != nil || len(bulk.EventStreams) != 1 {
		t.Fatalf("%+v, %v", bulk, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+bulk.EventStreams[0].Endpoint.RequestURI, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "browser/1")
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if diff := cmp.Diff([]string{"staging flagd.evaluation connect-go 1", "staging flagd.sync connect-go 1", "staging ofrep browser 1"}, shown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	cancel()
	storetest.Eventually(t, "nobody is left", func() bool { return len(shown()) == 0 })
}
