package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/store/storetest"
)

func client(name string) *guidonv1.Client {
	return &guidonv1.Client{Service: "checkout", Instance: name, Sdk: "guidon-go", Version: "v1.0.0"}
}

func ack(name string, revision int64, keys ...string) *guidonv1.SyncServiceAckRequest {
	return &guidonv1.SyncServiceAckRequest{Client: client(name), Revision: revision, Digest: fmt.Sprint("d", revision), PropagationKeyIds: keys}
}

// shown is what a fleet says of an environment, in short.
func shown(t testing.TB, f *fleet.Fleet, env string) []string {
	t.Helper()
	instances, err := f.Instances(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, i := range instances {
		out = append(out, fmt.Sprintf("%s %s at %d %s by %s", i.GetInstance(), i.GetProtocol(), i.GetRevision(), i.GetDigest(), i.GetReplica()))
	}
	return out
}

// clock is a time that moves when the test says so.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestInstancesComeHoldAndGo(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_000_000, 0)}
	f := fleet.New(fleet.Config{Replica: "r", Now: c.now})
	leave := f.Connect("staging", client("a"), 3, "d3")
	f.Connect("production", client("a"), 0, "")
	f.Poll("staging", client("b"), 2, "d2")
	f.Ack("staging", ack("c", 9)) // is connected to another replica
	f.Ack("staging", ack("a", 5, "k1"))
	f.Ack("staging", ack("a", 4, "k1")) // arrived late

	if diff := cmp.Diff([]string{"a sync at 5 d5 by r", "b poll at 2 d2 by r"}, shown(t, f, "staging")); diff != "" {
		t.Errorf("staging (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a sync at 0  by r", "a sync at 5 d5 by r", "b poll at 2 d2 by r"}, shown(t, f, "")); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if got, err := f.HoldKey(t.Context(), "staging", "k1"); err != nil || got != (fleet.Count{Held: 1, Connected: 2}) || got.All() {
		t.Errorf("HoldKey = %+v, %v, want 1 of 2", got, err)
	}
	c.at = c.at.Add(2 * time.Minute)
	if diff := cmp.Diff([]string{"a sync at 5 d5 by r"}, shown(t, f, "staging")); diff != "" {
		t.Errorf("two minutes after the poll (-want +got):\n%s", diff)
	}
	leave()
	if diff := cmp.Diff([]string{}, shown(t, f, "staging")); diff != "" {
		t.Errorf("after the end of the stream (-want +got):\n%s", diff)
	}
}

func TestAcksTellWhenARevisionWasTaken(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1_000_000, 0)}
	f := fleet.New(fleet.Config{Now: c.now})
	f.Connect("staging", client("a"), 3, "d3")
	f.Connect("staging", client("b"), 3, "d3")
	late := ack("a", 5)
	late.Age = durationpb.New(2 * time.Second)
	f.Ack("staging", late)
	for revision, want := range map[int64][]fleet.Ack{
		3: {{Service: "checkout", Instance: "a", Held: true}, {Service: "checkout", Instance: "b", Held: true}},
		4: {{Service: "checkout", Instance: "a", Held: true, At: c.at.Add(-2 * time.Second)}, {Service: "checkout", Instance: "b"}},
		5: {{Service: "checkout", Instance: "a", Held: true, At: c.at.Add(-2 * time.Second)}, {Service: "checkout", Instance: "b"}},
		6: {{Service: "checkout", Instance: "a"}, {Service: "checkout", Instance: "b"}},
	} {
		got, err := f.Acks(t.Context(), "staging", revision)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Acks(%d) (-want +got):\n%s", revision, diff)
		}
	}
}

// A client says what it likes; what is kept of it is bounded.
func TestHostileClientsAreBounded(t *testing.T) {
	t.Parallel()
	f := fleet.New(fleet.Config{Limit: 10})
	for i := range 20 {
		f.Connect("staging", &guidonv1.Client{Instance: strconv.Itoa(i), Service: strings.Repeat("\xff", 1000)}, 1, "")
	}
	many := ack("0", 2)
	for i := range 1000 {
		many.PropagationKeyIds = append(many.PropagationKeyIds, strconv.Itoa(i))
	}
	many.Pierced = map[int64]int64{-1: 1, 1: -5, 2: 3}
	many.Age = durationpb.New(-time.Hour)
	for revision := range int64(100) {
		many.Revision = revision
		f.Ack("staging", many)
	}
	instances, err := f.Instances(t.Context(), "staging")
	if err != nil || len(instances) != 10 {
		t.Fatalf("%d instances, %v, want 10", len(instances), err)
	}
	for _, i := range instances {
		if len(i.GetService()) > 300 || len(i.GetPropagationKeyIds()) > 16 || len(i.GetAcks()) > 8 {
			t.Errorf("kept %d bytes, %d keys and %d acks", len(i.GetService()), len(i.GetPropagationKeyIds()), len(i.GetAcks()))
		}
	}
	if got := f.Stats().Refused; got != 10 {
		t.Errorf("Refused = %d, want 10", got)
	}
	if n, err := f.Pierced(t.Context(), "staging", 2); err != nil || n != 300 {
		t.Errorf("Pierced(2) = %d, %v, want 300", n, err)
	}
}

// TestReplicasKnowTheFleet has an instance stream from one replica and
// acknowledge to another, while a third answers who is connected.
func TestReplicasKnowTheFleet(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	replica := func(name string) (*fleet.Fleet, func()) {
		f := fleet.New(fleet.Config{Store: db, Replica: name, Interval: 10 * time.Millisecond})
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		stopped := false
		stop := func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		}
		t.Cleanup(stop)
		return f, stop
	}
	one, stopOne := replica("one")
	two, _ := replica("two")
	three, _ := replica("three")
	one.Connect("staging", client("a"), 3, "d3")
	two.Ack("staging", ack("a", 5, "k1"))
	two.Connect("staging", client("b"), 5, "d5")
	pierced := ack("b", 5)
	pierced.Pierced = map[int64]int64{5: 2}
	one.Ack("staging", pierced)
	two.Ack("staging", pierced)

	shows := func(want ...string) func() bool {
		return func() bool {
			return cmp.Equal(want, shown(t, three, "staging"))
		}
	}
	storetest.Eventually(t, "the third replica knows both", shows("a sync at 5 d5 by one", "b sync at 5 d5 by two"))
	storetest.Eventually(t, "the third replica adds up what emergencies did", func() bool {
		n, err := three.Pierced(t.Context(), "staging", 5)
		return err == nil && n == 4
	})
	storetest.Eventually(t, "the third replica knows that one of two holds the key", func() bool {
		got, err := three.HoldKey(t.Context(), "staging", "k1")
		return err == nil && got == fleet.Count{Held: 1, Connected: 2}
	})
	stopOne()
	storetest.Eventually(t, "the third replica knows that one has stopped", shows("b sync at 5 d5 by two"))

	db.Close()
	if _, err := three.Instances(t.Context(), "staging"); err == nil {
		t.Error("Instances without a database returned no error, so what is missing would be taken for gone")
	}
}

// Streams of other protocols are counted by program, over all replicas and behind
// relays, and waited for by nobody.
func TestStreamsAreCounted(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	one, two := fleet.New(fleet.Config{Replica: "one", Store: db}), fleet.New(fleet.Config{Replica: "two", Store: db})
	relay := fleet.New(fleet.Config{Replica: "relay"})
	shown := func() (out []string) {
		t.Helper()
		all, err := one.Streams(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			out = append(out, fmt.Sprintf("%s %s %q %d", s.GetEnvironment(), s.GetProtocol(), s.GetClient(), s.GetStreams()))
		}
		return out
	}
	leave := one.Attend("staging", "ofrep", "browser/1")
	one.Attend("staging", "ofrep", "browser/1")
	one.Attend("production", "flagd.sync", "")
	two.Attend("staging", "ofrep", "browser/1")
	relay.Attend("staging", "flagd.evaluation", "grpc-node")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := one.Behind("staging", client("r"), relay.Page("staging")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`production flagd.sync "" 1`, `staging flagd.evaluation "grpc-node" 1`, `staging ofrep "browser/1" 2`}, shown()); diff != "" {
		t.Errorf("of one and a relay (-want +got):\n%s", diff)
	}
	running, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	three := fleet.New(fleet.Config{Replica: "three", Store: db, Interval: 10 * time.Millisecond})
	three.Attend("staging", "ofrep", "browser/1")
	go func() { ended <- three.Run(running) }()
	storetest.Eventually(t, "another replica's are known", func() bool { return slices.Contains(shown(), `staging ofrep "browser/1" 3`) })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	_ = two.Run(ctx) // tells that nobody is left
	leave()
	if got := shown(); !slices.Contains(got, `staging ofrep "browser/1" 1`) {
		t.Errorf("once they left: %q", got)
	}
	for i := range 150 {
		one.Attend("production", "ofrep", fmt.Sprint("program ", i))
	}
	if got := shown(); len(got) != 103 || !slices.Contains(got, `production ofrep "" 51`) {
		t.Errorf("%d programs, want a hundred of each environment and the others together", len(got))
	}
	if count, err := one.HoldKey(t.Context(), "staging", "k"); err != nil || count.Connected != 0 {
		t.Errorf("%d are waited for, %v", count.Connected, err)
	}
}
