package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// rows is one environment at one revision.
type rows map[eval.Name]eval.Row

func rowsOf(list []eval.Row) rows {
	out := rows{}
	for _, r := range list {
		out[eval.Name{Kind: r.Kind, Name: r.Name}] = r
	}
	return out
}

// erase starts the test's database over, but for the audit log, which cannot
// be.
var erase = []string{
	`TRUNCATE flag_versions, flags, changes`,
	`DELETE FROM revisions WHERE revision > 1`,
	`UPDATE environments SET revision = 1, oldest = 1`,
}

// remove ends a row in a revision of its own, as deleting a flag does.
func remove(t *rapid.T, conn *pgx.Conn, env string, name eval.Name) {
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`UPDATE environments SET revision = revision + 1 WHERE name = @env`,
			`INSERT INTO revisions SELECT name, revision, NULL, 'ada', '', now() FROM environments WHERE name = @env`,
			`UPDATE flag_versions SET to_revision = (SELECT revision FROM environments WHERE name = @env)
				WHERE environment = @env AND kind = @kind AND name = @name AND to_revision IS NULL`,
		} {
			if _, err := tx.Exec(ctx, sql, pgx.NamedArgs{"env": env, "kind": name.Kind.String(), "name": name.Name}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// history writes a random history of an environment and returns what its
// snapshots must be, by revision.
func history(t *rapid.T, db *store.DB, conn *pgx.Conn, env string) []rows {
	now := rows{}
	model := []rows{nil, {}}
	number := rapid.IntRange(0, 4)
	write := func(ops ...store.Operation) {
		applied, err := db.Apply(context.Background(), change(ops...))
		if err != nil {
			t.Fatal(err)
		}
		if applied.Unchanged {
			return
		}
		last := rows{} // of several operations on a row the last one counts
		for _, c := range applied.Changes {
			last[eval.Name{Kind: c.Kind, Name: c.Name}] = eval.Row{Kind: c.Kind, Name: c.Name, From: applied.Revisions[env], Document: c.After}
		}
		for name, row := range last {
			if string(now[name].Document) != string(row.Document) {
				now[name] = row
			}
		}
		model = append(model, maps.Clone(now))
	}
	putSegment := func() store.Operation {
		return store.PutSegment{Environment: env, Name: "segment", Condition: fmt.Appendf(nil, `{"==":[1,%d]}`, number.Draw(t, "segment"))}
	}
	write(putSegment())
	for range rapid.IntRange(1, 8).Draw(t, "revisions") {
		var ops []store.Operation
		for range rapid.IntRange(1, 3).Draw(t, "operations") {
			key := fmt.Sprintf("flag-%d", number.Draw(t, "key"))
			switch rapid.IntRange(0, 5).Draw(t, "operation") {
			case 0:
				ops = append(ops, putSegment())
			case 1, 2:
				ops = append(ops, put(env, key, fmt.Sprintf(
					`{"state":"ENABLED","variants":{"a":%d,"b":9},"targeting":{"if":[{"$ref":"segment"},"a","b"]}}`, number.Draw(t, "value"))))
			default:
				ops = append(ops, put(env, key, fmt.Sprintf(`{"state":"ENABLED","variants":{"a":%d},"defaultVariant":"a"}`, number.Draw(t, "value"))))
			}
		}
		write(ops...)
		name := eval.Name{Kind: eval.KindFlag, Name: fmt.Sprintf("flag-%d", rapid.IntRange(0, 15).Draw(t, "remove"))}
		if _, there := now[name]; there {
			remove(t, conn, env, name)
			delete(now, name)
			model = append(model, maps.Clone(now))
		}
	}
	return model
}

func TestSnapshotsAndDeltasOfARandomHistory(t *testing.T) {
	t.Parallel()
	const env = "staging"
	db := storetest.New(t)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rapid.Check(t, func(r *rapid.T) {
		for _, sql := range erase {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				r.Fatal(err)
			}
		}
		model := history(r, db, conn, env)
		for to := int64(1); to < int64(len(model)); to++ {
			got, _, err := db.SnapshotRows(t.Context(), env, to)
			if err != nil {
				r.Fatal(err)
			}
			if diff := cmp.Diff(model[to], rowsOf(got)); diff != "" {
				r.Fatalf("snapshot at %d (-want +got):\n%s", to, diff)
			}
			for from := int64(0); from <= to; from++ {
				checkDelta(r, db, env, model, from, to)
			}
		}
		newest := int64(len(model) - 1)
		checkSuperseded(r, db, env, model, rapid.Int64Range(1, newest).Draw(r, "superseded"))
		if got, revision, err := db.SnapshotRows(t.Context(), env, 0); err != nil || revision != newest || !cmp.Equal(model[newest], rowsOf(got)) {
			r.Fatalf("newest snapshot is revision %d (%v), want %d as there", revision, err, newest)
		}
	})
}

func checkDelta(t *rapid.T, db *store.DB, env string, model []rows, from, to int64) {
	upserts, deletes, err := db.Delta(context.Background(), env, from, to)
	if err != nil {
		t.Fatal(err)
	}
	got := maps.Clone(model[from])
	if got == nil {
		got = rows{}
	}
	for _, name := range deletes {
		if _, there := got[name]; !there {
			t.Fatalf("delta %d→%d drops %v, which is not there", from, to, name)
		}
		delete(got, name)
	}
	for _, r := range upserts {
		name := eval.Name{Kind: r.Kind, Name: r.Name}
		if old, there := got[name]; there && old.From == r.From {
			t.Fatalf("delta %d→%d puts %v, which is there", from, to, name)
		}
		got[name] = r
	}
	if diff := cmp.Diff(model[to], got); diff != "" {
		t.Fatalf("delta %d→%d (-want +got):\n%s", from, to, diff)
	}
	order := []eval.Kind{eval.KindFlag, eval.KindSegment, eval.KindSettings, eval.KindEmergency}
	if !slices.IsSortedFunc(upserts, func(a, b eval.Row) int {
		if a.Kind != b.Kind {
			return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
		}
		return strings.Compare(a.Name, b.Name)
	}) {
		t.Fatalf("delta %d→%d is not sorted", from, to)
	}
}

// checkSuperseded compiles each flag alone and compares it with the whole
// snapshot, over all revisions it is said to be good for.
func checkSuperseded(t *rapid.T, db *store.DB, env string, model []rows, revision int64) {
	for i := range 5 {
		key := fmt.Sprintf("flag-%d", i)
		alone, from, to, err := db.Superseded(context.Background(), env, key, revision)
		if err != nil {
			t.Fatal(err)
		}
		if revision < from || to != 0 && revision >= to {
			t.Fatalf("%s at %d is good for [%d, %d)", key, revision, from, to)
		}
		if to == 0 {
			to = int64(len(model))
		}
		small, err := eval.Compile(revision, alone)
		if err != nil {
			t.Fatal(err)
		}
		for at := from; at < to; at++ {
			whole, err := eval.Compile(at, slices.Collect(maps.Values(model[at])))
			if err != nil {
				t.Fatal(err)
			}
			got, want := small.Evaluate(key, nil, 0), whole.Evaluate(key, nil, 0)
			if got.Variant() != want.Variant() || got.Reason() != want.Reason() || !cmp.Equal(got.Value(), want.Value()) {
				t.Fatalf("%s as of %d evaluates at %d to %v %v, want %v %v", key, revision, at, got.Variant(), got.Value(), want.Variant(), want.Value())
			}
		}
	}
}

func TestRevisionsThatAreNotThere(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	ctx := t.Context()
	calls := map[string]func(env string, revision int64) error{
		"SnapshotRows": func(env string, r int64) error { _, _, err := db.SnapshotRows(ctx, env, r); return err },
		"Delta":        func(env string, r int64) error { _, _, err := db.Delta(ctx, env, 1, r); return err },
		"Superseded":   func(env string, r int64) error { _, _, _, err := db.Superseded(ctx, env, "a", r); return err },
		"Flag":         func(env string, r int64) error { _, err := db.Flag(ctx, env, "a", r); return err },
	}
	for name, call := range calls {
		if err := call("staging", 3); !errors.Is(err, store.ErrRevisionAhead) {
			t.Errorf("%s at a revision ahead: %v, want ErrRevisionAhead", name, err)
		}
		if err := call("staging", -1); !errors.Is(err, eval.ErrInvalid) {
			t.Errorf("%s at revision -1: %v, want ErrInvalid", name, err)
		}
		if err := call("nowhere", 2); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of an unknown environment: %v, want ErrNotFound", name, err)
		}
	}
	if _, _, err := db.SnapshotRows(ctx, "nowhere", 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("SnapshotRows of an unknown environment: %v, want ErrNotFound", err)
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	environments, err := db.Environments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := names(environments, func(e store.Environment) string { return fmt.Sprintf("%s %d %t", e.Name, e.Revision, e.Protected) })
	if diff := cmp.Diff([]string{"development 1 false", "staging 2 false", "production 1 true"}, got); diff != "" {
		t.Errorf("environments (-want +got):\n%s", diff)
	}
	if e := environments[1]; !e.UpdatedAt.After(e.CreatedAt) {
		t.Errorf("staging was updated at %v, created at %v", e.UpdatedAt, e.CreatedAt)
	}
	revisions, err := db.Revisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"development": 1, "staging": 2, "production": 1}, revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
}
