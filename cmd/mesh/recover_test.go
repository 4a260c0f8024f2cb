package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// While requests are under way Guidon's database is put back to a state from
// before the last change, and recovered. Requests keep together, or say that they
// cannot: a pin to what was lost is never answered with something else.
func TestRestoreAndRecover(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	old := c.header(t)
	restored := backedUp(t)
	c.redefine(t, "new", c.web, c.cart, c.stock)
	lostPin := c.header(t)
	c.define(t, "new") // and one more, so that all of them are beyond the backup

	ctx, stop := context.WithCancel(t.Context())
	requests := 0
	var load errgroup.Group
	load.Go(func() error {
		for ; ctx.Err() == nil; requests++ {
			shelves, _, err := request(t.Context(), c.web.url, nil)
			if err != nil || !whole(shelves) {
				return fmt.Errorf("request %d: %v, %w", requests, shelves, err)
			}
		}
		return nil
	})
	if err := c.guidon.stop(); err != nil {
		t.Fatal(err)
	}
	c.guidon.db = restored()
	if err := c.guidon.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.guidon.stop() }) // before its database goes
	storetest.Eventually(t, "the server sees that commits are missing", func() bool { return errors.Is(c.guidon.hub.Ready(), store.ErrNotRecovered) })
	if shelves, _ := asked(t, c.web.url, nil); shelves["web"] != "new" || !whole(shelves) {
		t.Errorf("before the recovery: %v, want what was there last", shelves)
	}
	if _, err := c.guidon.db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "restored"}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "all are beyond what was lost", func() bool {
		shelves, _ := asked(t, c.web.url, nil)
		return shelves["web"] == "old" && shelves["cart"] == "old" && shelves["stock"] == "old"
	})
	stop()
	if err := load.Wait(); err != nil || requests == 0 {
		t.Errorf("of %d requests under way one was torn: %v", requests, err)
	}

	c.cart.below = c.open(t, "stock", nil)
	for _, tt := range []struct {
		pin, header, is string
	}{{"kept", old, "old"}, {"lost", lostPin, "new"}} {
		shelves, _ := asked(t, c.cart.url, http.Header{"Guidon": {tt.header}})
		for service, saw := range shelves {
			if saw != tt.is && saw != lost {
				t.Errorf("a pin that was %s: %s sees %q, want %q or an explicit error", tt.pin, service, saw, tt.is)
			}
		}
		if tt.pin == "lost" && shelves["stock"] != lost {
			t.Errorf("who started later sees %q at a pin that was lost, want an explicit error", shelves["stock"])
		}
	}
}

// whole reports whether all that do not say that they cannot tell agree.
func whole(shelves map[string]string) bool {
	seen := map[string]bool{}
	for _, saw := range shelves {
		seen[saw] = true
	}
	delete(seen, lost)
	return len(seen) <= 1
}

// backedUp copies the test's database as it is now, and returns what opens the
// copy.
func backedUp(t *testing.T) (open func() *store.DB) {
	t.Helper()
	u, err := url.Parse(storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	original := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	admin, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.WithoutCancel(t.Context())) })
	copied := original + "_restored"
	// A template must have no connections, and Guidon makes new ones.
	storetest.Eventually(t, "a backup", func() bool {
		if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, original); err != nil {
			t.Fatal(err)
		}
		_, err := admin.Exec(t.Context(), `CREATE DATABASE `+copied+` TEMPLATE `+original+` STRATEGY file_copy`)
		return err == nil
	})
	t.Cleanup(func() {
		if _, err := admin.Exec(context.WithoutCancel(t.Context()), `DROP DATABASE `+copied+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + copied
	return func() *store.DB {
		db, err := store.Open(t.Context(), store.Config{DatabaseURL: u.String(), MasterKey: storetest.MasterKey, MaxWrites: 2, MaxReads: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		return db
	}
}
