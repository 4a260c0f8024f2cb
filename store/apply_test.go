package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestPutFlagMakesARevision(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	applied := apply(t, db, put("development", "checkout", onOff))
	want := store.Applied{
		ChangeID: applied.ChangeID, Revisions: map[string]int64{"development": 2},
		Changes: []store.Changed{{
			Environment: "development", Kind: eval.KindFlag, Name: "checkout", Action: store.ActionCreated,
			After: []byte(`{"flag":{"defaultVariant":"off","state":"ENABLED","variants":{"off":false,"on":true}},` +
				`"guidon":{"kind":"release","project":"default","scope":"request","type":"boolean"}}`),
		}},
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("Apply (-want +got):\n%s", diff)
	}
	if got := variant(t, snapshot(t, db, "development", 0), "checkout"); got != "off/STATIC" {
		t.Errorf("checkout in development is %s, want off/STATIC", got)
	}
	if got := variant(t, snapshot(t, db, "production", 0), "checkout"); got != "/ERROR" {
		t.Errorf("checkout in production is %s, want an error: it was never put there", got)
	}
	if got, want := state(t, db, "production"), (written{1, 0, 0}); got != want {
		t.Errorf("production = %+v, want %+v", got, want)
	}
}

func TestOneChangeSetInSeveralEnvironments(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	applied := apply(t, db, put("staging", "a", onOff), put("development", "a", onOff), put("staging", "b", onOff))
	if diff := cmp.Diff(map[string]int64{"development": 2, "staging": 2}, applied.Revisions); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
	entries, _, err := db.Audit(t.Context(), store.AuditFilter{ChangeID: applied.ChangeID}, store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	scopes := names(entries, func(e audit.Entry) string { return e.Scope })
	if diff := cmp.Diff([]string{"development", "staging"}, sorted(scopes)); diff != "" {
		t.Errorf("environments with an entry of the change set (-want +got):\n%s", diff)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "a", onOff))
	apply(t, db, put("production", "b", onOff))
	before := state(t, db, "production")
	cs := change(store.SetState{Environment: "production", Key: "a", State: "DISABLED"})
	cs.Expect = map[string]int64{"production": 2}
	_, err := db.Apply(t.Context(), cs)
	conflict, ok := errors.AsType[*store.ConflictError](err)
	if !ok || !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Apply at a stale revision: %v, want a conflict", err)
	}
	want := &store.ConflictError{Environment: "production", Expected: 2, Actual: 3, Changed: []store.ConflictingRow{{Name: eval.Name{Kind: eval.KindFlag, Name: "b"}, Action: store.ActionCreated}}}
	if diff := cmp.Diff(want, conflict); diff != "" {
		t.Errorf("conflict (-want +got):\n%s", diff)
	}
	if got := state(t, db, "production"); got != before {
		t.Errorf("the refused change left %+v, want %+v", got, before)
	}
	cs.Expect["production"] = 3
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Errorf("Apply at the newest revision: %v", err)
	}
}

func TestNothingToChangeWritesNothing(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	first := put("development", "a", onOff)
	first.Owner, first.Tags = "team", []string{"x"}
	apply(t, db, first)
	before := state(t, db, "development")
	installation := verify(t, db, audit.Installation)
	again := first
	again.Definition = []byte(` { "variants":{"off":false,"on":true}, "defaultVariant":"off", "state":"ENABLED" } `)
	for _, ops := range [][]store.Operation{
		{again},
		{store.SetState{Environment: "development", Key: "a", State: "ENABLED"}},
		{store.SetDefaultVariant{Environment: "development", Key: "a", Variant: "off"}},
		{store.SetState{Environment: "development", Key: "a", State: "DISABLED"}, store.SetState{Environment: "development", Key: "a", State: "ENABLED"}},
	} {
		applied := apply(t, db, ops...)
		if !applied.Unchanged || applied.Revisions["development"] != before.Revision {
			t.Errorf("Apply(%+v) = %+v, want unchanged at revision %d", ops, applied, before.Revision)
		}
	}
	if got := state(t, db, "development"); got != before {
		t.Errorf("changes that change nothing left %+v, want %+v", got, before)
	}
	if got := verify(t, db, audit.Installation); got != installation {
		t.Errorf("the installation's chain went from %+v to %+v", installation, got)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	cs := change(put("development", "a", onOff))
	cs.DryRun = true
	dry, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := state(t, db, "development"), (written{1, 0, 0}); got != want {
		t.Errorf("a dry run left %+v, want %+v", got, want)
	}
	cs.DryRun = false
	wet, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if d := dry.Drafts["development"]; d.Before.Flag("a") != nil || d.After.Flag("a") == nil || len(d.Affected) != 1 {
		t.Errorf("the draft is %+v, want flag a in After and Affected", d)
	}
	wet.ChangeID, dry.Drafts = "", nil
	if diff := cmp.Diff(wet, dry); diff != "" {
		t.Errorf("the dry run said otherwise (-applied +dry):\n%s", diff)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	cs := change(put("development", "a", onOff))
	cs.IdempotencyKey = "once"
	first, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, db, store.SetState{Environment: "development", Key: "a", State: "DISABLED"})
	after := state(t, db, "development")

	cs.CorrelationID = "another request"
	again, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Changes {
		first.Changes[i].Before, first.Changes[i].After = nil, nil
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("second Apply with the key (-want +got):\n%s", diff)
	}
	other := cs
	other.Operations = []store.Operation{put("development", "b", onOff)}
	if _, err := db.Apply(t.Context(), other); !errors.Is(err, store.ErrKeyReused) {
		t.Errorf("Apply of something else with the key: %v, want ErrKeyReused", err)
	}
	if got := state(t, db, "development"); got != after {
		t.Errorf("repetitions left %+v, want %+v", got, after)
	}
	other.Actor = "grace"
	if _, err := db.Apply(t.Context(), other); err != nil {
		t.Errorf("Apply of another actor with the same key: %v", err)
	}
}

func TestIdempotencyKeyOfAnUnchangedResultIsKept(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff))
	cs := change(store.SetState{Environment: "development", Key: "a", State: "ENABLED"})
	cs.IdempotencyKey = "once"
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	apply(t, db, store.SetState{Environment: "development", Key: "a", State: "DISABLED"})
	applied, err := db.Apply(t.Context(), cs)
	if err != nil || !applied.Unchanged {
		t.Errorf("the repetition = %+v, %v, want unchanged", applied, err)
	}
	if got := variant(t, snapshot(t, db, "development", 0), "a"); got != "/DISABLED" {
		t.Errorf("a is %s: the repetition undid a later change", got)
	}
}

func TestSameIdempotencyKeyAtOnceChangesOnce(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	cs := change(put("development", "a", onOff), put("staging", "a", onOff))
	cs.IdempotencyKey = "once"
	var g errgroup.Group
	ids := make([]string, 8)
	for i := range ids {
		g.Go(func() error {
			applied, err := db.Apply(t.Context(), cs)
			ids[i] = applied.ChangeID
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("change IDs = %v, want one", ids)
		}
	}
	if got, want := state(t, db, "development"), (written{2, 1, 1}); got != want {
		t.Errorf("development = %+v, want %+v", got, want)
	}
}

func TestWritersAtOnceNumberRevisionsWithoutGaps(t *testing.T) {
	t.Parallel()
	const writers, each = 16, 8
	db := storetest.New(t)
	other, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t)}) // of another replica
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	apply(t, db, put("production", "shared", onOff), put("staging", "shared", onOff))
	var g errgroup.Group
	revisions := make(chan int64, writers*each)
	for w := range writers {
		g.Go(func() error {
			for i := range each {
				ops := []store.Operation{put("production", fmt.Sprintf("flag-%d-%d", w, i), onOff)}
				if i%3 == 0 { // two environments, named in either order
					ops = append(ops, put("staging", fmt.Sprintf("flag-%d-%d", w, i), onOff))
				}
				if w%2 == 0 && len(ops) == 2 {
					ops[0], ops[1] = ops[1], ops[0]
				}
				applied, err := []*store.DB{db, other}[w/2%2].Apply(t.Context(), change(ops...))
				if err != nil {
					return err
				}
				revisions <- applied.Revisions["production"]
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	close(revisions)
	seen := map[int64]bool{}
	for r := range revisions {
		if seen[r] {
			t.Errorf("revision %d was given twice", r)
		}
		seen[r] = true
	}
	for r := int64(3); r < 3+writers*each; r++ {
		if !seen[r] {
			t.Errorf("revision %d was given to nobody", r)
		}
	}
	if got, want := state(t, db, "production"), (written{2 + writers*each, 1 + writers*each, 1 + writers*each}); got != want {
		t.Errorf("production = %+v, want %+v", got, want)
	}
	verify(t, db, "staging")
}

func TestSameFlagAtOnceHasOneWinner(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "a", onOff))
	cs := change(store.SetState{Environment: "production", Key: "a", State: "DISABLED"})
	cs.Expect = map[string]int64{"production": 2}
	var g errgroup.Group
	results := make([]error, 8)
	for i := range results {
		g.Go(func() error {
			_, results[i] = db.Apply(t.Context(), cs)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else if !errors.Is(err, store.ErrConflict) {
			t.Errorf("a loser got %v, want a conflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

func TestSameNewKeyInTwoEnvironmentsAtOnce(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for i := range 20 {
		var g errgroup.Group
		key := fmt.Sprintf("flag-%d", i)
		for _, env := range []string{"development", "staging", "production"} {
			g.Go(func() error {
				_, err := db.Apply(t.Context(), change(put(env, key, onOff)))
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
}

func TestTimesOfRevisionsNeverGoBack(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	// As if the database's clock had been an hour ahead until now.
	sql(t, `UPDATE environments SET updated_at = updated_at + interval '1 hour' WHERE name = 'staging'`)
	environments, err := db.Environments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	apply(t, db, put("staging", "a", onOff))
	f, err := db.Flag(t.Context(), "staging", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if was := environments[1].UpdatedAt; f.UpdatedAt.Before(was) {
		t.Errorf("revision 2 is of %v, revision 1 of %v", f.UpdatedAt, was)
	}
}

// TestRepeatedChangeIsAnsweredWhenNothingIsLeftToPlan: what a promotion or a
// copy was made of may be gone when it is repeated.
func TestRepeatedChangeIsAnsweredWhenNothingIsLeftToPlan(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("development", "a", onOff))
	keyed := func(key string) store.Change {
		return store.Change{Actor: "ada", Reason: "because", IdempotencyKey: key}
	}
	calls := map[string]func() (store.Applied, error){
		"copy": func() (store.Applied, error) { return db.Copy(t.Context(), keyed("copy"), "development", "production") },
		"promotion": func() (store.Applied, error) {
			return db.Promote(t.Context(), keyed("promotion"), "development", "staging", []eval.Name{{Kind: eval.KindFlag, Name: "a"}})
		},
	}
	first := map[string]store.Applied{}
	for name, call := range calls {
		var err error
		if first[name], err = call(); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, db, store.ArchiveFlag{Key: "a"}, store.DeleteFlag{Key: "a"})
	for name, call := range calls {
		if again, err := call(); err != nil || again.ChangeID != first[name].ChangeID {
			t.Errorf("the %s again: %+v, %v, want %s", name, again, err, first[name].ChangeID)
		}
	}
	if _, err := db.Promote(t.Context(), keyed("new"), "development", "staging", []eval.Name{{Kind: eval.KindFlag, Name: "a"}}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a promotion of what is gone: %v, want ErrNotFound", err)
	}
}
