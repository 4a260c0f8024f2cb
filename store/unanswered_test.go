package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestCommitThatWasNotAnsweredIsFoundByTheNextTry(t *testing.T) {
	t.Parallel()
	direct := storetest.New(t)
	var lose atomic.Int32 // as many answers to a COMMIT
	wire := &wire{t: t, heard: func(said []byte) fate {
		if commits(said) && lose.Add(-1) >= 0 {
			return unanswered
		}
		return carried
	}}
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: wire.through(), MasterKey: storetest.MasterKey})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	apply(t, db, put("staging", "a", onOff))

	lose.Store(1)
	applied := apply(t, db, store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})
	if lose.Load() > 0 {
		t.Fatal("no answer was lost: this test shows nothing")
	}
	if applied.Revisions["staging"] != 3 || applied.Unchanged {
		t.Errorf("Apply = %+v, want revision 3", applied)
	}
	if got, want := state(t, direct, "staging"), (written{3, 2, 1}); got != want {
		t.Errorf("staging = %+v, want %+v: once", got, want)
	}
	lose.Store(1)
	k, text, err := db.CreateKey(t.Context(), serverKey("once"))
	if err != nil {
		t.Fatal(err)
	}
	if found, err := direct.KeyByText(t.Context(), text.Reveal()); err != nil || found.ID != k.ID || !found.CreatedAt.Equal(k.CreatedAt) {
		t.Errorf("KeyByText = %+v, %v, want %+v", found, err, k)
	}
	if head := verify(t, direct, audit.Installation); head.Seq != 1 {
		t.Errorf("the installation's chain has %d entries, want 1", head.Seq)
	}
}

func TestLockThatIsNotHadIsContention(t *testing.T) {
	t.Parallel()
	storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), LockTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM environments WHERE name = 'production' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Apply(t.Context(), change(put("production", "a", onOff))); !errors.Is(err, store.ErrContended) || db.Stats().Retries != 4 {
		t.Errorf("Apply while somebody holds production: %v, want ErrContended after 4 retries (%+v)", err, db.Stats())
	}
	apply(t, db, put("staging", "a", onOff)) // the others go on
	if got, want := state(t, db, "production"), (written{1, 0, 0}); got != want {
		t.Errorf("production = %+v, want %+v: readable and unchanged", got, want)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(t, db, put("production", "a", onOff))
}

func TestOldResultsAreRemoved(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	cs := change(put("staging", "a", onOff))
	cs.IdempotencyKey = "old"
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	sql(t, `UPDATE changes SET created_at = created_at - interval '31 days'`)
	apply(t, db, put("staging", "b", onOff))
	// Until a change set drew the lot to remove it, the key answers as it did; then
	// it is free again, and the same change set is looked at anew.
	for i := range 1000 {
		applied, err := db.Apply(t.Context(), cs)
		if err != nil {
			t.Fatal(err)
		}
		if applied.Unchanged {
			return
		}
		apply(t, db, store.SetState{Environment: "staging", Key: "b", State: []string{"DISABLED", "ENABLED"}[i%2]})
	}
	t.Error("a thousand change sets removed nothing of 31 days ago")
}
