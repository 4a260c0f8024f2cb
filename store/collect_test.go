package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// age makes the revisions of staging up to one as old as it takes.
func age(t *testing.T, upTo int64, by string) {
	t.Helper()
	sql(t, fmt.Sprintf(`UPDATE revisions SET created_at = created_at - interval '%s' WHERE environment = 'staging' AND revision <= %d`, by, upTo))
}

// collect takes steps until there is nothing to remove.
func collect(t testing.TB, db *store.DB) store.Collected {
	t.Helper()
	var all store.Collected
	for {
		did, err := db.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all.Versions, all.Revisions = all.Versions+did.Versions, all.Revisions+did.Revisions
		if !did.More {
			return all
		}
	}
}

// atRevision are the reads that name a revision of staging.
func atRevision(ctx context.Context, db *store.DB) map[string]func(revision int64) error {
	return map[string]func(revision int64) error{
		"SnapshotRows": func(r int64) error { _, _, err := db.SnapshotRows(ctx, "staging", r); return err },
		"Superseded":   func(r int64) error { _, _, _, err := db.Superseded(ctx, "staging", "flag-0", r); return err },
		"Superseded, of a flag that never was": func(r int64) error {
			_, _, _, err := db.Superseded(ctx, "staging", "never", r)
			return err
		},
		"Flag":    func(r int64) error { _, err := db.Flag(ctx, "staging", "never", r); return err },
		"Delta":   func(r int64) error { _, _, err := db.Delta(ctx, "staging", r, r); return err },
		"whole":   func(r int64) error { _, _, err := db.Delta(ctx, "staging", 0, r); return err },
		"Revert":  func(r int64) error { _, err := db.Revert(ctx, revertAs, "staging", r); return err },
		"Restore": func(r int64) error { _, err := db.Restore(ctx, revertAs, "staging", r); return err },
	}
}

var revertAs = store.Change{Actor: "ada", Reason: "because", DryRun: true}

// TestCollectARandomHistory: whatever happened, what is kept reads as before and
// what is not is refused.
func TestCollectARandomHistory(t *testing.T) {
	t.Parallel()
	const env = "staging"
	db := storetest.New(t)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	execute := func(r *rapid.T, statement string, args ...any) {
		if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
			r.Fatal(err)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		for _, statement := range erase {
			execute(r, statement)
		}
		execute(r, `INSERT INTO revisions SELECT name, 1, NULL, 'guidon', '', now() FROM environments
			ON CONFLICT (environment, revision) DO UPDATE SET created_at = EXCLUDED.created_at`)
		model := history(r, db, conn, env)
		newest := int64(len(model) - 1)
		oldest := rapid.Int64Range(1, newest).Draw(r, "oldest")
		execute(r, `UPDATE revisions SET created_at = created_at - interval '91 days' WHERE environment = $1 AND revision <= $2`, env, oldest)
		collect(t, db)

		for revision := int64(1); revision < oldest; revision++ {
			for name, call := range atRevision(t.Context(), db) {
				if err := call(revision); !errors.Is(err, store.ErrRevisionCollected) {
					r.Fatalf("%s at %d: %v, want ErrRevisionCollected: %d is the oldest", name, revision, err, oldest)
				}
			}
		}
		for revision := oldest; revision <= newest; revision++ {
			got, _, err := db.SnapshotRows(t.Context(), env, revision)
			if err != nil {
				r.Fatal(err)
			}
			if diff := cmp.Diff(model[revision], rowsOf(got)); diff != "" {
				r.Fatalf("snapshot at %d (-want +got):\n%s", revision, diff)
			}
			for from := oldest; from <= revision; from++ {
				checkDelta(r, db, env, model, from, revision)
			}
			_, from, _, err := db.Superseded(t.Context(), env, "never", revision)
			if err != nil || from < oldest {
				r.Fatalf("a flag that never was is known not to have been since %d (%v), and %d is the oldest", from, err, oldest)
			}
		}
		checkSuperseded(r, db, env, model, rapid.Int64Range(oldest, newest).Draw(r, "superseded"))
		var needless int
		err := conn.QueryRow(t.Context(), `
			SELECT (SELECT count(*) FROM flag_versions WHERE environment = $1 AND to_revision < $2)
				+ (SELECT count(*) FROM revisions r WHERE environment = $1 AND revision < $2 AND NOT EXISTS (
					SELECT FROM flag_versions v WHERE v.environment = r.environment AND v.from_revision = r.revision))`, env, oldest).Scan(&needless)
		if err != nil || needless != 0 {
			r.Fatalf("%d rows are there that nothing needs (%v)", needless, err)
		}
	})
}

// TestCollectByRetention: an environment keeps revisions for as many days as it
// says after they were superseded.
func TestCollectByRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		retention int
		age       string
		collected bool
	}{
		"younger than it":         {90, "89 days", false},
		"older":                   {90, "91 days", true},
		"older than a short one":  {30, "31 days", true},
		"within the shortest":     {30, "29 days", false},
		"older, but the one kept": {3650, "3000 days", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			apply(t, db, put("staging", "a", onOff)) // 2
			apply(t, db, put("staging", "b", onOff)) // 3
			update := store.EnvironmentUpdate{Name: "staging", Retention: &c.retention, Actor: "ada", Reason: "because"}
			if _, err := db.UpdateEnvironment(t.Context(), update); err != nil {
				t.Fatal(err)
			}
			age(t, 3, c.age)
			collect(t, db)
			if _, _, err := db.SnapshotRows(t.Context(), "staging", 2); errors.Is(err, store.ErrRevisionCollected) != c.collected {
				t.Errorf("revision 2: %v, want it collected: %t", err, c.collected)
			}
			if _, _, err := db.SnapshotRows(t.Context(), "staging", 3); err != nil {
				t.Errorf("the newest revision: %v", err)
			}
		})
	}
}

// TestCollectedIsNotForgotten: who wrote what is served stays known, the oldest
// revision can be reverted, and the audit log is whole.
func TestCollectedIsNotForgotten(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	value := func(n int) store.PutFlag {
		return put("staging", "a", fmt.Sprintf(`{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, n))
	}
	apply(t, db, put("staging", "killed", onOff))    // 2
	apply(t, db, value(1))                           // 3
	apply(t, db, kill("killed", "off"))              // 4
	apply(t, db, put("staging", "old", onOff))       // 5
	apply(t, db, value(2))                           // 6
	apply(t, db, value(3))                           // 7
	apply(t, db, put("staging", "newcomer", onOff))  // 8
	before := snapshot(t, db, "staging", 6).Digest() // and 6 is to be the oldest
	age(t, 6, "200 days")
	if did := collect(t, db); did != (store.Collected{Versions: 0, Revisions: 1}) {
		t.Errorf("collected %+v, want revision 1, which no version names", did)
	}
	if got := snapshot(t, db, "staging", 6).Digest(); got != before {
		t.Errorf("revision 6 has digest %v, before it had %v", got, before)
	}
	if got := emergencies(t, db, 6); got != "4 killed off=false" {
		t.Errorf("the log at 6 is %q, want the kill", got)
	}
	if applied, err := db.Revert(t.Context(), store.Change{Actor: "ada", Reason: "because", DryRun: true}, "staging", 6); err == nil || applied.ChangeID != "" {
		t.Errorf("reverting 6, which 7 changed again: %+v, %v, want a conflict", applied, err)
	}
	for key, want := range map[string][]string{
		"a":        {"7 2→3", "6 1→2", "3 same"},
		"old":      {"5 same"},
		"killed":   {"4 same", "2 same"},
		"newcomer": {"8 created"},
	} {
		versions, _, err := db.FlagHistory(t.Context(), "staging", key, store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		got := names(versions, func(v store.FlagVersion) string {
			switch {
			case v.Before == nil:
				return fmt.Sprintf("%d created", v.Revision)
			case string(v.Before) == string(v.After):
				return fmt.Sprintf("%d same", v.Revision)
			}
			return fmt.Sprintf("%d %v→%v", v.Revision, valueOf(t, v.Before), valueOf(t, v.After))
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("history of %s (-want +got):\n%s", key, diff)
		}
	}
	flags, _, err := db.Flags(t.Context(), "staging", store.FlagFilter{}, store.Page{})
	if err != nil || len(flags) != 4 || slices.ContainsFunc(flags, func(f store.Flag) bool { return f.UpdatedBy != "ada" }) {
		t.Errorf("flags = %+v (%v), want four and who wrote them", flags, err)
	}
	log, _, err := db.RevisionLog(t.Context(), "staging", store.Page{})
	if diff := cmp.Diff([]string{"8 1", "7 1", "6 1"}, names(log, func(r store.Revision) string { return fmt.Sprint(r.Revision, " ", r.Changes) })); diff != "" {
		t.Errorf("revisions (%v, -want +got):\n%s", err, diff)
	}
	sql(t, `UPDATE environments SET created_at = created_at - interval '300 days'`)
	for days, want := range map[int]error{0: nil, 199: nil, 201: store.ErrRevisionCollected, 301: store.ErrNotFound} {
		if _, err := db.RevisionAt(t.Context(), "staging", time.Now().AddDate(0, 0, -days)); !errors.Is(err, want) {
			t.Errorf("%d days ago: %v, want %v", days, err, want)
		}
	}
	age(t, 6, "-200 days") // the log says when they were made
	if _, err := db.VerifyAudit(t.Context(), "staging", ""); err != nil {
		t.Errorf("VerifyAudit: %v", err)
	}
}

func valueOf(t *testing.T, document []byte) any {
	t.Helper()
	s, err := eval.Compile(1, []eval.Row{{Kind: eval.KindFlag, Name: "a", From: 1, Document: document}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Evaluate("a", nil, 0).Value()
}

// TestCollectInSteps: a step removes a bounded number of rows, and none while
// another replica collects or the database is not where it was left.
func TestCollectInSteps(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if err := db.NoteLineage(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, db, put("staging", "a", onOff)) // 2
	sql(t,
		`UPDATE environments SET revision = 2500 WHERE name = 'staging'`,
		`INSERT INTO revisions SELECT 'staging', n, NULL, 'ada', '', now() FROM generate_series(3, 2500) n`,
		`INSERT INTO flag_versions SELECT 'staging', 'flag', 'b', n, n + 1, '{}', sha256('{}'), '{}' FROM generate_series(2, 2499) n`)
	age(t, 2500, "91 days")

	sql(t, `UPDATE installation SET lineage = 'elsewhere'`)
	if did, err := db.Collect(t.Context()); err != nil || did != (store.Collected{}) {
		t.Errorf("in a database that was restored: %+v, %v, want nothing", did, err)
	}
	sql(t, `UPDATE installation SET lineage = guidon_lineage()`)

	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(x'677569646f6e'::bigint)`); err != nil {
		t.Fatal(err)
	}
	if did, err := db.Collect(t.Context()); err != nil || did != (store.Collected{}) {
		t.Errorf("beside another replica: %+v, %v, want nothing", did, err)
	}
	if _, _, err := db.SnapshotRows(t.Context(), "staging", 2499); !errors.Is(err, store.ErrRevisionCollected) {
		t.Errorf("what is about to go: %v, want ErrRevisionCollected", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	var steps []store.Collected
	for len(steps) == 0 || steps[len(steps)-1].More {
		did, err := db.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, did)
	}
	want := []store.Collected{{Versions: 1000, Revisions: 1000, More: true}, {Versions: 1000, Revisions: 1000, More: true}, {Versions: 497, Revisions: 497}}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if rows, _, err := db.SnapshotRows(t.Context(), "staging", 0); err != nil || len(rows) != 1 {
		t.Errorf("the newest revision has %d rows (%v), want the open one", len(rows), err)
	}
}
