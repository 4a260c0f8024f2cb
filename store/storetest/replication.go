package storetest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Replicate makes commits wait for a standby of which there is none, in the
// sessions of whoever sets synchronous_commit to on: the cluster has it off for
// everybody else. It returns the URL of the test's database for such sessions,
// and what ends the waiting, which the end of the test does too.
// One test of a process may use it at a time.
func Replicate(t testing.TB) (url string, end func()) {
	t.Helper()
	url = URL(t)
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
	return url + "&synchronous_commit=on", end
}
