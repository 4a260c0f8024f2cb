package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// crowd is change sets that are asked for while somebody holds staging, and are
// therefore carried out together as soon as it is free.
type crowd struct {
	applied []store.Applied
	errs    []error
	groups  int64 // that it took
}

func gather(t *testing.T, db *store.DB, sets ...store.ChangeSet) crowd {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM environments WHERE name = 'staging' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := db.Apply(t.Context(), change(put("staging", "first", onOff))); err != nil {
			t.Error(err)
		}
	})
	await(t, "the first waits", func() bool { return waiting(t, tx) == 1 })
	c := crowd{applied: make([]store.Applied, len(sets)), errs: make([]error, len(sets))}
	before := db.Stats().Groups
	var all sync.WaitGroup
	for i, cs := range sets {
		all.Go(func() { c.applied[i], c.errs[i] = db.Apply(t.Context(), cs) })
		await(t, "it is in line", func() bool { return db.Stats().Waiting == i+1 })
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Wait()
	all.Wait()
	c.groups = db.Stats().Groups - before - 1
	return c
}

// patient opens the test's database with time for a crowd to gather.
func patient(t *testing.T) *store.DB {
	t.Helper()
	storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), LockTimeout: time.Minute, StatementTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// TestSeveralShareATransaction: each has its own revision, entry, result and
// failure.
func TestSeveralShareATransaction(t *testing.T) {
	t.Parallel()
	db := patient(t)
	apply(t, db, put("staging", "a", onOff), put("staging", "b", onOff)) // revision 2

	keyed := change(put("staging", "new", onOff))
	keyed.IdempotencyKey = "k"
	late := change(store.SetState{Environment: "staging", Key: "b", State: "DISABLED"})
	late.Expect = map[string]int64{"staging": 2}
	c := gather(
		t, db,
		change(store.SetState{Environment: "staging", Key: "a", State: "DISABLED"}),
		keyed,
		change(store.SetDefaultVariant{Environment: "staging", Key: "b", Variant: "none"}),
		change(store.SetState{Environment: "staging", Key: "missing", State: "DISABLED"}),
		change(put("staging", "newer", onOff)),
		change(store.KillFlag{Environment: "staging", Key: "first", Variant: "on"}),
		late,
	)
	want := []int64{4, 5, 0, 0, 6, 7, 0} // 3 is the first's
	for i, revision := range want {
		if got := c.applied[i].Revisions["staging"]; got != revision || (c.errs[i] == nil) != (revision != 0) {
			t.Errorf("%d: revision %d, %v, want %d", i, got, c.errs[i], revision)
		}
	}
	if !errors.Is(c.errs[2], eval.ErrInvalid) || !errors.Is(c.errs[3], store.ErrNotFound) {
		t.Errorf("refused: %v and %v, want invalid and not found", c.errs[2], c.errs[3])
	}
	conflict, ok := errors.AsType[*store.ConflictError](c.errs[6])
	if !ok || conflict.Actual != 7 || len(conflict.Changed) != 5 {
		t.Errorf("conflict: %+v, want one that names the four that changed in this transaction and the first", c.errs[6])
	}
	if c.groups > 2 {
		t.Errorf("%d transactions, want 1, and another for the conflict", c.groups)
	}
	if got, want := state(t, db, "staging"), (written{7, 6, 6}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
	again, err := db.Apply(t.Context(), keyed)
	if err != nil || again.ChangeID != c.applied[1].ChangeID || again.Revisions["staging"] != 5 {
		t.Errorf("repeated: %+v, %v, want the result of the first", again, err)
	}
	for revision := int64(2); revision <= 7; revision++ {
		snapshot(t, db, "staging", revision)
	}
	if at4, at3 := snapshot(t, db, "staging", 4), snapshot(t, db, "staging", 3); variant(t, at3, "a") != "off/STATIC" || variant(t, at4, "a") != "/DISABLED" {
		t.Errorf("a at 3 and 4: %s, %s", variant(t, at3, "a"), variant(t, at4, "a"))
	}
}

// TestWhatMattersToAnotherWaitsForIt: change sets that were asked for at once and
// read what others of them change see it.
func TestWhatMattersToAnotherWaitsForIt(t *testing.T) {
	t.Parallel()
	db := patient(t)
	requires := func(key, basis string) store.PutFlag {
		p := put("staging", key, onOff)
		p.Requires = &[]store.Requirement{{Flag: basis, Variants: []string{"on"}}}
		return p
	}
	apply(t, db, put("staging", "basis", onOff))
	same := change(put("staging", "twice", onOff))
	same.IdempotencyKey = "same"
	onlyOff := `{"state":"ENABLED","variants":{"off":false},"defaultVariant":"off"}`
	c := gather(
		t, db,
		change(requires("user", "basis")),
		change(put("staging", "basis", onlyOff)), // which is what user requires
		change(requires("next", "fresh")),        // there is none
		change(put("staging", "fresh", onOff)),
		change(requires("last", "fresh")), // there is one
		same, same,
		change(store.SetState{Environment: "staging", Key: "user", State: "DISABLED"}),
	)
	for i, ok := range []bool{true, false, false, true, true, true, true, true} {
		if (c.errs[i] == nil) != ok {
			t.Errorf("%d: %v", i, c.errs[i])
		}
	}
	if c.applied[5].ChangeID != c.applied[6].ChangeID {
		t.Errorf("the same change set twice: %+v and %+v", c.applied[5], c.applied[6])
	}
	if got, want := state(t, db, "staging"), (written{8, 7, 6}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
	if c.groups >= 8 {
		t.Errorf("%d transactions for 8 change sets", c.groups)
	}
}

// TestEnvironmentThatIsHeldDelaysNoOther, however many are held.
func TestEnvironmentThatIsHeldDelaysNoOther(t *testing.T) {
	t.Parallel()
	db := patient(t)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM environments WHERE name IN ('staging', 'production') FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var held sync.WaitGroup
	for i, environment := range []string{"staging", "production", "staging", "staging", "production"} {
		held.Go(func() {
			if _, err := db.Apply(t.Context(), change(put(environment, fmt.Sprintf("held-%d", i), onOff))); err != nil {
				t.Error(err)
			}
		})
		await(t, "it waits", func() bool { return waiting(t, tx) == min(i+1, 2) && db.Stats().Waiting == max(i-1, 0) })
	}
	for i := range 6 {
		apply(t, db, put("development", fmt.Sprintf("free-%d", i), onOff))
	}
	if s := db.Stats(); s.Writes != 2 || s.Waiting != 3 {
		t.Errorf("%d connections are in use and %d change sets in line, want 2 and 3", s.Writes, s.Waiting)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	held.Wait()
	if got, want := state(t, db, "staging"), (written{4, 3, 3}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
}

// TestGroupThatFailsIsTriedOneByOne: what Postgres refuses of one change set is
// that one's failure.
func TestGroupThatFailsIsTriedOneByOne(t *testing.T) {
	t.Parallel()
	db := patient(t)
	sql(t, `ALTER TABLE flag_versions ADD CHECK (name <> 'bad')`)
	c := gather(t, db, change(put("staging", "a", onOff)), change(put("staging", "bad", onOff)), change(put("staging", "b", onOff)))
	if c.errs[0] != nil || c.errs[1] == nil || c.errs[2] != nil {
		t.Errorf("outcomes: %v", c.errs)
	}
	if got, want := state(t, db, "staging"), (written{4, 3, 3}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
}
