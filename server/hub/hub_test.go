package hub_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// run starts a hub and ends it with the test.
func run(t testing.TB, config hub.Config) *hub.Hub {
	t.Helper()
	h := hub.New(config)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want context.Canceled", err)
		}
	})
	storetest.Eventually(t, "the hub is ready", func() bool { return h.Ready() == nil })
	return h
}

func environment(t testing.TB, h *hub.Hub, name string) *hub.Environment {
	t.Helper()
	e, err := h.Environment(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// put writes a flag with a state and returns the revision.
func put(t testing.TB, db *store.DB, key, state string) int64 {
	t.Helper()
	applied, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Operations: []store.Operation{store.PutFlag{
		Environment: "staging", Key: key,
		Definition: []byte(`{"state":"` + state + `","variants":{"on":true},"defaultVariant":"on"}`),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return applied.Revisions["staging"]
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if _, err := hub.New(hub.Config{Store: db}).Environment("staging"); !errors.Is(err, hub.ErrNotReady) {
		t.Errorf("before the first look: %v, want ErrNotReady", err)
	}
	if err := hub.New(hub.Config{Store: db}).Ready(); !errors.Is(err, hub.ErrNotReady) {
		t.Errorf("Ready before the first look: %v, want ErrNotReady", err)
	}
	h := run(t, hub.Config{Store: db})
	var names []string
	for e := range h.Environments() {
		names = append(names, e.Name())
		if e.Head().Revision() != 1 || e.Snapshot().Len() != 0 || e.Head().Keys().GetSigner() == "" {
			t.Errorf("%s: revision %d, %d flags, signer %q, want 1, 0 and a signer", e.Name(), e.Head().Revision(), e.Snapshot().Len(), e.Head().Keys().GetSigner())
		}
		if e.Head().Protected() != (e.Name() == "production") {
			t.Errorf("%s: protected is %v", e.Name(), e.Head().Protected())
		}
	}
	if got := strings.Join(names, " "); got != "development staging production" {
		t.Errorf("environments are %q", got)
	}
	if _, err := h.Environment("nowhere"); !errors.Is(err, hub.ErrUnknownEnvironment) {
		t.Errorf("Environment(nowhere): %v, want ErrUnknownEnvironment", err)
	}
}

// TestWithoutMasterKey: flags are served all the same; nothing can be signed.
func TestWithoutMasterKey(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	e := environment(t, run(t, hub.Config{Store: db}), "staging")
	if keys := e.Head().Keys(); len(keys.GetKeys()) != 0 {
		t.Errorf("%d keys without a master key", len(keys.GetKeys()))
	}
}

// TestOtherMasterKey: flags are served, and that the keys cannot be opened
// shows as a failure.
func TestOtherMasterKey(t *testing.T) {
	t.Parallel()
	run(t, hub.Config{Store: storetest.New(t)}) // makes the keys
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), MasterKey: store.NewMasterKey([32]byte{9})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	h := run(t, hub.Config{Store: db, PollInterval: 5 * time.Millisecond})
	if keys := environment(t, h, "staging").Head().Keys(); len(keys.GetKeys()) != 0 {
		t.Errorf("%d keys with another master key", len(keys.GetKeys()))
	}
	storetest.Eventually(t, "a look fails", func() bool { return h.Stats().LooksFailed > 0 })
}

// TestNeverGoesBack: a database that was restored to an older revision makes
// the hub not ready, and does not take back what was served.
func TestNeverGoesBack(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	h := run(t, hub.Config{Store: db, PollInterval: 5 * time.Millisecond})
	e := environment(t, h, "staging")
	put(t, db, "a", "ENABLED")
	newest := put(t, db, "a", "DISABLED")
	if err := e.Reach(t.Context(), newest); err != nil {
		t.Fatal(err)
	}

	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	set := func(revision int64) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `UPDATE environments SET revision = $1 WHERE name = 'staging'`, revision); err != nil {
			t.Fatal(err)
		}
	}
	set(newest - 1)
	storetest.Eventually(t, "the hub is not ready", func() bool { return h.Ready() != nil })
	if got := h.Ready().Error(); !strings.Contains(got, `"staging"`) || !strings.Contains(got, "at revision 2, older than revision 3") {
		t.Errorf("Ready says %q, want which environment and both revisions", got)
	}
	if e.Head().Revision() != newest || e.Snapshot().Flag("a").State() != "DISABLED" {
		t.Errorf("the environment went back to revision %d", e.Head().Revision())
	}
	set(newest)
	storetest.Eventually(t, "the hub is ready again", func() bool { return h.Ready() == nil })
}

// TestSuperseded: what a flag was just before it changed is at hand.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	h := run(t, hub.Config{Store: db, PollInterval: 5 * time.Millisecond})
	e := environment(t, h, "staging")
	var revisions []int64
	states := []string{"ENABLED", "DISABLED", "ENABLED"}
	for _, state := range states {
		revision := put(t, db, "a", state)
		if err := e.Reach(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		revisions = append(revisions, revision)
	}
	for i, want := range states {
		f, err := e.FlagAt(t.Context(), "a", revisions[i])
		if err != nil || f == nil || f.State() != want {
			t.Errorf("FlagAt(a, %d) = %v, %v, want it %s", revisions[i], f, err, want)
		}
		d, err := e.Definition(t.Context(), "a", revisions[i])
		if err != nil || d.From != revisions[i] || i < 2 && d.To != revisions[i+1] || i == 2 && d.To != 0 {
			t.Errorf("Definition(a, %d) = [%d, %d), %v, want it to end where the next begins", revisions[i], d.From, d.To, err)
		}
	}
	if reads := h.Stats().HistoryReads; reads != 0 {
		t.Errorf("%d reads of the database, want none", reads)
	}
}

// TestHistory: what was read of older revisions is kept, and needs the
// database no more; what was not read says that the database is away.
func TestHistory(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	h := run(t, hub.Config{Store: db, PollInterval: 5 * time.Millisecond})
	e := environment(t, h, "staging")
	created := put(t, db, "a", "ENABLED")
	steady := put(t, db, "b", "ENABLED")
	changed := put(t, db, "a", "DISABLED")
	if err := e.Reach(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	state := func(key string, revision int64) string {
		t.Helper()
		f, err := e.FlagAt(t.Context(), key, revision)
		if err != nil {
			t.Fatalf("FlagAt(%s, %d): %v", key, revision, err)
		}
		if f == nil {
			return "none"
		}
		return f.State()
	}
	var wg sync.WaitGroup
	snapshots := make([]*eval.Snapshot, 20)
	for i := range snapshots {
		wg.Go(func() {
			snapshots[i], _ = e.At(t.Context(), created)
		})
	}
	wg.Wait()
	for _, s := range snapshots {
		if s == nil || s != snapshots[0] || s.Revision() != created || s.Flag("a").State() != "ENABLED" || s.Flag("b") != nil {
			t.Fatalf("At(%d) = %v and %v, want one snapshot with a enabled and no b", created, s, snapshots[0])
		}
	}
	if got := state("a", steady); got != "ENABLED" {
		t.Errorf("a at %d is %s, want ENABLED", steady, got)
	}

	db.Close()
	for _, tt := range []struct {
		key      string
		revision int64
		want     string
	}{
		{"a", 0, "DISABLED"},
		{"a", changed, "DISABLED"},
		{"a", steady, "ENABLED"},  // in the range of what was read
		{"b", changed, "ENABLED"}, // unchanged since, known from the newest
		{"b", steady, "ENABLED"},
		{"nothing", changed, "none"},
	} {
		if got := state(tt.key, tt.revision); got != tt.want {
			t.Errorf("with the database away, %s at %d is %s, want %s", tt.key, tt.revision, got, tt.want)
		}
	}
	if s, err := e.At(t.Context(), created); err != nil || s != snapshots[0] {
		t.Errorf("At(%d) = %v, %v, want the one that is kept", created, s, err)
	}
	stats := h.Stats()
	if stats.HistoryReads > 20 || stats.HistoryReads == 0 || stats.HistoryHits == 0 || stats.HistoryFailed != 0 || stats.HistoryBytes == 0 || stats.Looks == 0 {
		t.Errorf("Stats = %+v, want few reads, some hits, and no failure", stats)
	}
	if s, err := e.At(t.Context(), steady); err == nil {
		t.Errorf("At(%d) = %v from a database that is away", steady, s)
	}
	if f, err := e.FlagAt(t.Context(), "b", created); f != nil || err != nil {
		t.Errorf("FlagAt(b, %d) = %v, %v, want none, as the snapshot that is kept says", created, f, err)
	}
	if _, err := e.FlagAt(t.Context(), "b", created-1); err == nil {
		t.Errorf("FlagAt(b, %d) of a database that is away: no error", created-1)
	}
	if f, err := e.FlagAt(t.Context(), "b", changed+1); !errors.Is(err, hub.ErrBehind) {
		t.Errorf("FlagAt of the future = %v, %v, want ErrBehind", f, err)
	}
	if _, err := e.At(t.Context(), -1); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("At(-1): %v, want ErrInvalid", err)
	}
}
