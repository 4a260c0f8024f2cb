package server_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// ways are how many relays stand between a client and the server.
var ways = map[string]int{"server": 0, "relay of a relay": 2}

// eachWay runs a test of what clients see, against a server and through relays.
// What the test starts is what its clients reach; changes are made where there
// is a database, and waited for.
func eachWay(t *testing.T, test func(t *testing.T, start func(...func(*options)) *guidon)) {
	t.Parallel()
	for name, relays := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(adjust ...func(*options)) *guidon {
				t.Helper()
				at := func(outermost bool) []func(*options) {
					own := func(o *options) { o.outermost, o.server.Recheck = outermost, 20*time.Millisecond }
					return append([]func(*options){own}, adjust...)
				}
				g := start(t, at(relays == 0)...)
				for n := range relays {
					g = g.relay(t, at(n == relays-1)...)
				}
				return g
			})
		})
	}
}

// relay runs a relay of a server, or of another relay, until the end of the
// test.
func (g *guidon) relay(t testing.TB, adjust ...func(*options)) *guidon {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	up := relay.New(relay.Config{URL: g.url, Key: g.key(t, store.KeyRelay, "production"), Log: quiet})
	o := options{
		server: server.Config{Relay: true, Verify: up.Verify, APIKeys: up.APIKeys, Log: quiet, Fleet: fleet.New(fleet.Config{}), Drain: time.Millisecond},
		hub:    hub.Config{Upstream: up, Log: quiet},
	}
	for _, f := range adjust {
		f(&o)
	}
	r := &guidon{db: g.db, admin: g.admin, upstream: g, verify: up.Verify}
	r.run(t, o, up.Run)
	return r
}

// origin is where there is a database.
func (g *guidon) origin() *guidon {
	for g.upstream != nil {
		g = g.upstream
	}
	return g
}

// knows waits until the key can be used here.
func (g *guidon) knows(t testing.TB, text string) {
	t.Helper()
	for ; g.upstream != nil; g = g.upstream {
		storetest.Eventually(t, "a relay has heard of a key", func() bool { _, err := g.verify(t.Context(), text); return err == nil })
	}
}

// reached waits until an environment is at a revision here.
func (g *guidon) reached(t testing.TB, environment string, revision int64) {
	t.Helper()
	if g.upstream == nil {
		return // it answered when it was
	}
	storetest.Eventually(t, "a relay has heard of a revision", func() bool {
		e, err := g.hub.Environment(environment)
		return err == nil && e.Head().Revision() >= revision
	})
}
