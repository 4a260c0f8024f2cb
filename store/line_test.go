package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
	tx := hold(t, "staging")
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := db.Apply(t.Context(), change(put("staging", "first", onOff))); err != nil {
			t.Error(err)
		}
	})
	storetest.Eventually(t, "the first waits", func() bool { return waiting(t, tx) == 1 })
	c := crowd{applied: make([]store.Applied, len(sets)), errs: make([]error, len(sets))}
	before := db.Stats().Groups
	var all sync.WaitGroup
	for i, cs := range sets {
		all.Go(func() { c.applied[i], c.errs[i] = db.Apply(t.Context(), cs) })
		storetest.Eventually(t, "it is in line", func() bool { return db.Stats().Waiting == i+1 })
	}
	release(t, tx)
	first.Wait()
	all.Wait()
	c.groups = db.Stats().Groups - before - 1
	return c
}

// hold is somebody else who holds environments, until the transaction ends.
func hold(t *testing.T, environments ...string) pgx.Tx {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM environments WHERE name = ANY($1) FOR UPDATE`, environments); err != nil {
		t.Fatal(err)
	}
	return tx
}

func release(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	want := []int64{5, 6, 0, 0, 7, 4, 0} // 3 is the first's, and a kill goes before the others
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
	if err != nil || again.ChangeID != c.applied[1].ChangeID || again.Revisions["staging"] != 6 {
		t.Errorf("repeated: %+v, %v, want the result of the first", again, err)
	}
	for revision := int64(2); revision <= 7; revision++ {
		snapshot(t, db, "staging", revision)
	}
	if at5, at4 := snapshot(t, db, "staging", 5), snapshot(t, db, "staging", 4); variant(t, at4, "a") != "off/STATIC" || variant(t, at5, "a") != "/DISABLED" {
		t.Errorf("a at 4 and 5: %s, %s", variant(t, at4, "a"), variant(t, at5, "a"))
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
	tx := hold(t, "staging", "production")
	var held sync.WaitGroup
	for i, environment := range []string{"staging", "production", "staging", "staging", "production"} {
		held.Go(func() {
			if _, err := db.Apply(t.Context(), change(put(environment, fmt.Sprintf("held-%d", i), onOff))); err != nil {
				t.Error(err)
			}
		})
		storetest.Eventually(t, "it waits", func() bool { return waiting(t, tx) == min(i+1, 2) && db.Stats().Waiting == max(i-1, 0) })
	}
	for i := range 6 {
		apply(t, db, put("development", fmt.Sprintf("free-%d", i), onOff))
	}
	if s := db.Stats(); s.Writes != 2 || s.Waiting != 3 {
		t.Errorf("%d connections are in use and %d change sets in line, want 2 and 3", s.Writes, s.Waiting)
	}
	release(t, tx)
	held.Wait()
	if got, want := state(t, db, "staging"), (written{4, 3, 3}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
}

// TestCloseTellsOfWhatNobodyWaitedFor: a change whose caller has left is made
// all the same, and who listens hears of it before the connections close.
func TestCloseTellsOfWhatNobodyWaitedFor(t *testing.T) {
	t.Parallel()
	db, other := patient(t), patient(t)
	var heard atomic.Int64
	listening, stop := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	beside.Go(func() { _ = other.Listen(listening, func() { heard.Add(1) }) })
	defer beside.Wait()
	defer stop()
	storetest.Eventually(t, "somebody listens", func() bool { return heard.Load() == 1 })

	tx := hold(t, "staging")
	asking, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := db.Apply(asking, change(put("staging", "left", onOff)))
		left <- err
	}()
	storetest.Eventually(t, "it waits", func() bool { return waiting(t, tx) == 1 })
	leave()
	if err := <-left; err == nil {
		t.Fatal("a caller that left was answered")
	}
	closed := make(chan struct{})
	go func() { db.Close(); close(closed) }()
	release(t, tx)
	<-closed
	storetest.Eventually(t, "the change is heard of", func() bool { return heard.Load() > 1 })
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

// TestKeysOfAGroupAreWrittenInOrder, so that two groups never wait for each
// other's.
func TestKeysOfAGroupAreWrittenInOrder(t *testing.T) {
	t.Parallel()
	db := patient(t)
	sql(t, `ALTER TABLE flags ADD COLUMN written bigserial`)
	c := gather(t, db, change(put("staging", "z", onOff)), change(put("staging", "k", onOff)), change(put("staging", "a", onOff)))
	if err := errors.Join(c.errs...); err != nil || c.groups != 1 {
		t.Fatalf("%d transactions, want 1; %v", c.groups, err)
	}
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var keys string
	if err := conn.QueryRow(t.Context(), `SELECT string_agg(key, ' ' ORDER BY written) FROM flags`).Scan(&keys); err != nil || keys != "first a k z" {
		t.Errorf("written: %s, %v, want first a k z", keys, err)
	}
}

// TestLockThatIsNotHadTakesOneConnection, however many wait for it: the other
// environments keep theirs.
func TestLockThatIsNotHadTakesOneConnection(t *testing.T) {
	t.Parallel()
	storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), MaxWrites: 3, LockTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	tx := hold(t, "staging")
	const callers = 6
	var held sync.WaitGroup
	for i := range callers {
		held.Go(func() {
			_, err := db.Apply(t.Context(), change(put("staging", fmt.Sprintf("held-%d", i), onOff)))
			if err != nil && !errors.Is(err, store.ErrContended) {
				t.Error(err)
			}
		})
	}
	storetest.Eventually(t, "each has waited in vain", func() bool { return db.Stats().Retries >= callers })
	for i := range 10 {
		apply(t, db, put("development", fmt.Sprintf("free-%d", i), onOff))
		if n := waiting(t, tx); n > 1 {
			t.Errorf("%d connections wait for staging, want 1", n)
		}
	}
	release(t, tx)
	held.Wait()
}

// TestCallerWhoLeavesTheLine learns whether the change may still be made.
func TestCallerWhoLeavesTheLine(t *testing.T) {
	t.Parallel()
	db := patient(t)
	apply(t, db, put("development", "warm", onOff)) // the actor is known
	heard := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	listen, stop := context.WithCancel(t.Context())
	defer stop()
	listening.Go(func() {
		_ = db.Listen(listen, func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	})
	<-heard

	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := db.Apply(gone, change(put("staging", "never", onOff))); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("asked for by somebody who is gone: %v, want canceled", err)
	}

	tx := hold(t, "staging")
	asked := change(put("staging", "made", onOff))
	asked.IdempotencyKey = "k"
	left := func(cs store.ChangeSet, ready func() bool) error {
		ctx, leave := context.WithCancel(t.Context())
		answer := make(chan error, 1)
		go func() {
			_, err := db.Apply(ctx, cs)
			answer <- err
		}()
		storetest.Eventually(t, "it waits", ready)
		leave()
		return <-answer
	}
	err := left(asked, func() bool { return waiting(t, tx) == 1 })
	if !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("left while it was made: %v, want an unknown outcome", err)
	}
	err = left(change(put("staging", "not-made", onOff)), func() bool { return db.Stats().Waiting == 1 })
	if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("left in line: %v, want canceled and nothing else", err)
	}
	select {
	case <-heard: // of development
	default:
	}
	release(t, tx)
	storetest.Eventually(t, "the change is made", func() bool { return state(t, db, "staging").Revision == 2 })
	select {
	case <-heard:
	case <-time.After(time.Minute):
		t.Error("nobody was notified of a change whose caller had left")
	}
	if again, err := db.Apply(t.Context(), asked); err != nil || again.Revisions["staging"] != 2 {
		t.Errorf("repeated: %+v, %v, want revision 2", again, err)
	}
	if got, want := state(t, db, "staging"), (written{2, 1, 1}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
}

// TestCallerWhoLeavesAlone does not wait for a change that waits for nobody else's,
// and does not know what became of it.
func TestCallerWhoLeavesAlone(t *testing.T) {
	t.Parallel()
	db := patient(t)
	apply(t, db, put("staging", "warm", onOff)) // the actor is known
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE changes`); err != nil {
		t.Fatal(err)
	}
	cs := change(put("staging", "a", onOff))
	cs.IdempotencyKey = "k"
	ctx, leave := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := db.Apply(ctx, cs)
		answer <- err
	}()
	storetest.Eventually(t, "it is carried out", func() bool { return waiting(t, tx) == 1 })
	leave()
	if err := <-answer; !errors.Is(err, store.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("left while it was made: %v, want an unknown outcome", err)
	}
	release(t, tx)
	if again, err := db.Apply(t.Context(), cs); err != nil || again.Revisions["staging"] != 3 {
		t.Errorf("repeated: %+v, %v, want revision 3", again, err)
	}
	if got, want := state(t, db, "staging"), (written{3, 2, 2}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
}

// TestLineIsBounded: too many are refused at once, but for kills, which go first.
func TestLineIsBounded(t *testing.T) {
	t.Parallel()
	db := patient(t)
	apply(t, db, put("staging", "bad", onOff)) // revision 2
	tx := hold(t, "staging")
	var all sync.WaitGroup
	var last, kill store.Applied
	made := func(out *store.Applied, o store.Operation) func() {
		return func() {
			applied, err := db.Apply(t.Context(), change(o))
			if err != nil {
				t.Error(err)
			}
			*out = applied
		}
	}
	var first store.Applied
	all.Go(made(&first, put("staging", "first", onOff)))
	storetest.Eventually(t, "the first waits", func() bool { return waiting(t, tx) == 1 })
	all.Go(made(&last, put("staging", "last", onOff)))
	storetest.Eventually(t, "it is in line", func() bool { return db.Stats().Waiting == 1 })
	const full = 512
	crowd, disperse := context.WithCancel(t.Context())
	defer disperse()
	for i := range full - 1 {
		all.Go(func() {
			if _, err := db.Apply(crowd, change(put("staging", fmt.Sprintf("flag-%d", i), onOff))); !errors.Is(err, context.Canceled) {
				t.Errorf("left the line: %v, want canceled", err)
			}
		})
	}
	storetest.Eventually(t, "the line is full", func() bool { return db.Stats().Waiting == full })
	_, err := db.Apply(t.Context(), change(put("staging", "one-more", onOff)))
	if n := db.Stats().Busy; !errors.Is(err, store.ErrBusy) || !errors.Is(err, store.ErrUnavailable) || n != 1 {
		t.Errorf("one more: %v and %d counted, want ErrBusy and 1", err, n)
	}
	all.Go(made(&kill, store.KillFlag{Environment: "staging", Key: "bad", Variant: "on"}))
	storetest.Eventually(t, "a kill is in line", func() bool { return db.Stats().Waiting == full+1 })
	disperse()
	storetest.Eventually(t, "the others leave", func() bool { return db.Stats().Waiting == 2 })
	release(t, tx)
	all.Wait()
	if first, kill, last := first.Revisions["staging"], kill.Revisions["staging"], last.Revisions["staging"]; first != 3 || kill != 4 || last != 5 {
		t.Errorf("revisions of the first, the kill and the last: %d, %d, %d, want 3, 4, 5", first, kill, last)
	}
}
