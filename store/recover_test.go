package store_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// backedUp copies the test's database as it is, and returns what opens the copy:
// an older state, as after a restore.
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
	// A template must have no connections.
	for _, statement := range []string{
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + original + `'`,
		`CREATE DATABASE ` + copied + ` TEMPLATE ` + original + ` STRATEGY file_copy`,
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
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

// TestRecover: a restored database takes no changes until somebody recovers, and
// then goes on beyond every revision that was ever published.
func TestRecover(t *testing.T) {
	t.Parallel()
	first, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.NoteLineage(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, first, put("staging", "a", onOff)) // 2
	first.Close()
	restored := backedUp(t)
	db := storetest.New(t)
	apply(t, db, put("staging", "a", strings.Replace(onOff, "ENABLED", "DISABLED", 1)), put("staging", "b", onOff)) // 3, which the backup lacks
	if _, err := db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "by mistake"}); !errors.Is(err, store.ErrRecovered) {
		t.Errorf("Recover where nothing was lost: %v, want ErrRecovered", err)
	}

	old := restored()
	environments, err := old.Environments(t.Context())
	if err != nil || !environments[1].Moved {
		t.Errorf("environments of the restored database: %+v, %v, want them moved", environments, err)
	}
	if _, err := old.Apply(t.Context(), change(put("staging", "c", onOff))); !errors.Is(err, store.ErrNotRecovered) {
		t.Errorf("Apply before the recovery: %v, want ErrNotRecovered", err)
	}
	for name, asked := range map[string]store.Recovery{"nobody": {Reason: "x"}, "no reason": {Actor: "ada"}, "NUL": {Actor: "ada", Reason: "\x00"}} {
		if _, err := old.Recover(t.Context(), asked); !errors.Is(err, eval.ErrInvalid) {
			t.Errorf("Recover by %s: %v, want ErrInvalid", name, err)
		}
	}
	before := snapshot(t, old, "staging", 0)
	done, err := old.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "the disk burnt"})
	if err != nil {
		t.Fatal(err)
	}
	const next = 1 << 20
	want := []store.Recovered{{"development", 1, next}, {"production", 1, next}, {"staging", 2, next}}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Errorf("recovered (-want +got):\n%s", diff)
	}
	if _, err := old.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "again"}); !errors.Is(err, store.ErrRecovered) {
		t.Errorf("Recover again: %v, want ErrRecovered", err)
	}

	s := snapshot(t, old, "staging", 0)
	if s.Revision() != next || s.Flag("a").EffectiveFrom() != next || variant(t, s, "a") != variant(t, before, "a") {
		t.Errorf("at %d flag a is %s as of %d, want what it was, as of %d", s.Revision(), variant(t, s, "a"), s.Flag("a").EffectiveFrom(), next)
	}
	for _, revision := range []int64{3, 4, next - 1} {
		if _, _, err := old.SnapshotRows(t.Context(), "staging", revision); !errors.Is(err, store.ErrRevisionLost) {
			t.Errorf("snapshot at %d: %v, want ErrRevisionLost", revision, err)
		}
		if _, _, _, err := old.Superseded(t.Context(), "staging", "a", revision); !errors.Is(err, store.ErrRevisionLost) {
			t.Errorf("flag at %d: %v, want ErrRevisionLost", revision, err)
		}
	}
	rows, from, to, err := old.Superseded(t.Context(), "staging", "a", 2)
	if err != nil || len(rows) == 0 || from != 2 || to != 3 {
		t.Errorf("flag at 2: %d rows for [%d, %d), %v, want them until the first lost one", len(rows), from, to, err)
	}
	if rows, _, to, err = old.Superseded(t.Context(), "staging", "b", 2); err != nil || len(rows) != 0 || to != 3 {
		t.Errorf("a flag that was lost, at 2: %d rows until %d, %v, want none until 3", len(rows), to, err)
	}
	if applied := apply(t, old, put("staging", "c", onOff)); applied.Revisions["staging"] != next+1 {
		t.Errorf("the next change is revision %d, want %d", applied.Revisions["staging"], next+1)
	}
	lost, err := old.LostRevisions(t.Context(), "staging")
	if err != nil || !slices.Equal(lost, []store.LostRange{{3, next - 1}}) {
		t.Errorf("LostRevisions = %v, %v", lost, err)
	}
	for _, scope := range []string{"staging", audit.Installation} {
		if _, err := old.VerifyAudit(t.Context(), scope, ""); err != nil {
			t.Errorf("chain %q after the recovery: %v", scope, err)
		}
		entries, _, err := old.Audit(t.Context(), store.AuditFilter{Environments: []string{scope}, Action: audit.ActionRecover}, store.Page{})
		if err != nil || len(entries) != 1 || !strings.Contains(string(entries[0].Payload), `"lost":[3,1048575]`) || !saysWhy(entries[0], "the disk burnt") {
			t.Errorf("chain %q has %d entries of the recovery, %v, want one with the lost range and the reason", scope, len(entries), err)
		}
	}
}

// TestForcedRecovery: what leaves no trace is recovered from by force, and twice
// steps over twice.
func TestForcedRecovery(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for i := range int64(2) {
		done, err := db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "a snapshot of the disk", Force: true})
		if err != nil || done[0].Revision != (i+1)<<20 {
			t.Errorf("recovery %d: %+v, %v", i, done, err)
		}
	}
	if s := snapshot(t, db, "staging", 1<<20); s.Revision() != 1<<20 {
		t.Errorf("the revision of the first recovery is %d", s.Revision())
	}
}

// saysWhy reports whether an entry gives a reason.
func saysWhy(e audit.Entry, reason string) bool {
	r, err := e.Record()
	return err == nil && r.Reason == reason
}
