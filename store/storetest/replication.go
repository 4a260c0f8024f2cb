package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
)

// Replicated opens the test's own database so that commits wait, for a standby
// that never comes: soon, and only those of this DB, which requires it. It
// returns what ends the waiting, as the end of the test does too. One test of a
// process may use it at a time.
func Replicated(t testing.TB) (db *store.DB, end func()) {
	t.Helper()
	url := URL(t)
	set := func(ctx context.Context, names string) {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(ctx, statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(t.Context(), "nobody")
	end = func() { set(context.WithoutCancel(t.Context()), "") }
	t.Cleanup(end)
	// The cluster has synchronous_commit off, for everybody else.
	c := store.Config{DatabaseURL: url + "&synchronous_commit=on", MasterKey: MasterKey, AcquireTimeout: 10 * time.Second, RequireSyncReplication: true}
	for deadline := time.Now().Add(time.Minute); ; { // until Postgres has read the setting
		db, err := store.Open(t.Context(), c)
		if err == nil {
			t.Cleanup(db.Close)
			return db, end
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
