package relay_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// process is a server or a relay, as a process would run it.
type process struct {
	address string
	hub     *hub.Hub
	stop    func() // ends it and waits; it may be called early
}

func (p *process) url() string { return "http://" + p.address }

// run runs a server at an address ("" for any) until the end of the test.
func run(t *testing.T, address string, config server.Config, beside ...func(context.Context) error) *process {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	config.Drain = time.Millisecond
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, len(beside)+2)
	for _, f := range append(beside, config.Hub.Run) {
		go func() { _ = f(ctx); done <- nil }()
	}
	go func() { done <- server.New(config).Serve(ctx, l) }()
	stopped := false
	p := &process{address: l.Addr().String(), hub: config.Hub, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	}}
	t.Cleanup(p.stop)
	return p
}

func quiet(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

func startServer(t *testing.T, db *store.DB, address string) *process {
	t.Helper()
	f := fleet.New(fleet.Config{Store: db, Interval: 50 * time.Millisecond})
	return run(t, address, server.Config{
		Store: db, Log: quiet(t), Fleet: f, Heartbeat: 200 * time.Millisecond, Recheck: 100 * time.Millisecond,
		Hub: hub.New(hub.Config{Store: db, Log: quiet(t)}),
	}, f.Run)
}

func startRelay(t *testing.T, address, upstream, key, cache string) *process {
	t.Helper()
	up := relay.New(relay.Config{URL: upstream, Key: key, Cache: cache, Version: "test", Log: quiet(t)})
	f := fleet.New(fleet.Config{})
	return run(t, address, server.Config{
		Relay: true, Verify: up.Verify, APIKeys: up.APIKeys, Log: quiet(t), Fleet: f,
		Heartbeat: 200 * time.Millisecond, Recheck: 100 * time.Millisecond,
		Hub: hub.New(hub.Config{Upstream: up, Log: quiet(t)}),
	}, up.Run, func(ctx context.Context) error { return up.Tell(ctx, f) })
}

func key(t *testing.T, db *store.DB, kind store.KeyKind) (id, text string) {
	t.Helper()
	env := "staging"
	if kind == store.KeyAdmin {
		env = ""
	}
	k, secret, err := db.CreateKey(t.Context(), store.NewKey{Kind: kind, Environment: env, Name: "test", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return k.ID, secret.Reveal()
}

// put publishes a flag and returns the revision.
func put(t *testing.T, p *process, admin, flag, variant string) int64 {
	t.Helper()
	definition, err := structpb.NewStruct(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": variant,
	})
	if err != nil {
		t.Fatal(err)
	}
	changes := guidonv1connect.NewChangeServiceClient(http.DefaultClient, p.url(), connect.WithInterceptors(auth.Bearer(admin)))
	res, err := changes.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{{
		Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{Environment: "staging", Key: flag, Definition: definition}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetRevisions()["staging"]
}

// connected is a client of a process.
func connected(t *testing.T, p *process, text, service string) *guidon.Client {
	t.Helper()
	c, err := guidon.Open(t.Context(), p.url(), guidon.WithKey(text), guidon.WithService(service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func holds(c *guidon.Client, revision int64) func() bool {
	return func() bool { s := c.Snapshot(); return s != nil && s.Revision() == revision }
}

// TestChain has an application behind two relays: it gets every revision with
// the server's digest, resolves older pins, and the server knows of it.
func TestChain(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, admin := key(t, db, store.KeyAdmin)
	_, relays := key(t, db, store.KeyRelay)
	id, text := key(t, db, store.KeyServer)
	s := startServer(t, db, "")
	storetest.Eventually(t, "the server is ready", func() bool { return s.hub.Ready() == nil })
	first := put(t, s, admin, "checkout", "on")
	near := startRelay(t, "", s.url(), relays, "")
	far := startRelay(t, "", near.url(), relays, "")
	c := connected(t, far, text, "cart")
	storetest.Eventually(t, "the application has the first revision", holds(c, first))

	var last int64
	for _, variant := range []string{"off", "on", "off"} {
		last = put(t, s, admin, "checkout", variant)
		storetest.Eventually(t, "the application has the next revision", holds(c, last))
	}
	e, err := s.hub.Environment("staging")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Snapshot().Digest(), e.Snapshot().Digest(); got != want {
		t.Errorf("the digest behind two relays is %s, the server's %s", got, want)
	}
	if e, err = far.hub.Environment("staging"); err != nil || e.Head().CommittedAt().IsZero() {
		t.Errorf("the far relay does not know when revision %d was committed (%v)", last, err)
	}
	// A pin at the first revision, at a relay and at an application that never
	// saw the first revision themselves.
	late := startRelay(t, "", near.url(), relays, "")
	storetest.Eventually(t, "the relay that came late is ready", func() bool { return late.hub.Ready() == nil })
	if e, err = late.hub.Environment("staging"); err != nil {
		t.Fatal(err)
	}
	flag, err := e.FlagAt(t.Context(), "checkout", first)
	if err != nil || flag == nil {
		t.Fatalf("FlagAt(%d) at a late relay: %v, %v", first, flag, err)
	}
	if on, ok := flag.Evaluate(nil, 0).Boolean(); !ok || !on {
		t.Errorf("checkout at revision %d is %v, want on", first, on)
	}
	if old, err := e.At(t.Context(), first); err != nil || old.Revision() != first {
		t.Errorf("At(%d) at a late relay: %v", first, err)
	}

	list := guidonv1connect.NewFleetServiceClient(http.DefaultClient, s.url(), connect.WithInterceptors(auth.Bearer(admin)))
	storetest.Eventually(t, "the server knows that the application has seen the newest", func() bool {
		res, err := list.List(t.Context(), &guidonv1.FleetServiceListRequest{Environment: "staging"})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range res.GetInstances() {
			if i.GetService() == "cart" && strings.HasPrefix(i.GetReplica(), "relay ") && i.GetRevision() == last {
				return true
			}
		}
		return false
	})

	// A key that is revoked at the server ends its streams at the far relay.
	if _, err := db.RevokeKey(t.Context(), store.Revocation{ID: id, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the stream of a revoked key has ended", func() bool { return !c.Status().Connected && c.Status().LastError != "" })
	if c.Snapshot() == nil {
		t.Error("with its key the application lost its flags")
	}
}

// TestRelayOutlivesItsUpstream: it serves who comes while the upstream is lost,
// and after its own restart from the cache, with the keys it knew; and it goes
// on when the upstream is back.
func TestRelayOutlivesItsUpstream(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, admin := key(t, db, store.KeyAdmin)
	_, relays := key(t, db, store.KeyRelay)
	_, text := key(t, db, store.KeyServer)
	s := startServer(t, db, "")
	storetest.Eventually(t, "the server is ready", func() bool { return s.hub.Ready() == nil })
	revision := put(t, s, admin, "checkout", "on")
	cache := t.TempDir()
	r := startRelay(t, "", s.url(), relays, cache)
	storetest.Eventually(t, "the relay serves", holds(connected(t, r, text, "first"), revision))
	s.stop()
	storetest.Eventually(t, "the relay serves while the upstream is lost", holds(connected(t, r, text, "second"), revision))
	r.stop()

	again := startRelay(t, r.address, s.url(), relays, cache)
	c := connected(t, again, text, "third")
	storetest.Eventually(t, "the relay serves from its cache", holds(c, revision))
	storetest.Eventually(t, "the application is ready", func() bool { return c.Status().State == feed.StateReady })
	_, unknown := key(t, storetest.New(t), store.KeyServer)
	stranger := connected(t, again, unknown, "stranger")
	storetest.Eventually(t, "a key that nobody knows is refused", func() bool { return strings.Contains(stranger.Status().LastError, "unauthenticated") })
	if stranger.Snapshot() != nil {
		t.Error("a key that nobody knows got flags")
	}

	back := startServer(t, db, s.address)
	storetest.Eventually(t, "the server is ready again", func() bool { return back.hub.Ready() == nil })
	next := put(t, back, admin, "checkout", "off")
	storetest.Eventually(t, "the application gets what was published meanwhile", holds(c, next))
}

// TestStalenessReachesTheEndOfTheChain: who is behind two relays learns that the
// server is gone, though the stream of each goes on.
func TestStalenessReachesTheEndOfTheChain(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	_, admin := key(t, db, store.KeyAdmin)
	_, relays := key(t, db, store.KeyRelay)
	_, text := key(t, db, store.KeyServer)
	s := startServer(t, db, "")
	storetest.Eventually(t, "the server is ready", func() bool { return s.hub.Ready() == nil })
	revision := put(t, s, admin, "checkout", "on")
	near := startRelay(t, "", s.url(), relays, "")
	far := startRelay(t, "", near.url(), relays, "")
	c := connected(t, far, text, "cart")
	storetest.Eventually(t, "the application has the revision", holds(c, revision))
	s.stop()
	storetest.Eventually(t, "the application is stale, and connected", func() bool {
		status := c.Status()
		return status.State == feed.StateStale && status.Connected && status.Age > 5*time.Second
	})
	e, err := far.hub.Environment("staging")
	if err != nil || e.Age() < 5*time.Second {
		t.Errorf("the far relay counts the environment as current (%v)", err)
	}
	back := startServer(t, db, s.address)
	storetest.Eventually(t, "the application is ready again", func() bool { return c.Status().State == feed.StateReady })
	back.stop()
}
