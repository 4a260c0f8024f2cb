package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestRecovery: a server whose database was moved is not ready and takes no
// change; after the recovery it goes on, its clients with it, and what was lost
// is nobody's to resolve.
func TestRecovery(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	g := startOn(t, db)
	seen := g.apply(t, "staging", putFlag("staging", "a", "on"))
	key := g.key(t, store.KeyServer, "staging")
	f := g.follow(t, key, nil)
	f.reach(seen)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	// The same rows on another timeline.
	if _, err := conn.Exec(t.Context(), `UPDATE installation SET lineage = 'elsewhere'`); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the server is not ready", func() bool {
		a := g.do(t, http.MethodGet, "/readyz", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "guidon recover")
	})
	before := g.mark(t)
	_, err = g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{setState("staging", "a", "DISABLED")}})
	if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "guidon recover") {
		t.Errorf("Apply: %v, want unavailable and the advice", err)
	}
	g.unchanged(t, before)
	if a := g.post(t, evaluatePath, key, `{"key":"a"}`); a.status != http.StatusOK {
		t.Errorf("Evaluate meanwhile: %d %s, want an answer", a.status, a.body)
	}

	done, err := db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "failover"})
	if err != nil {
		t.Fatal(err)
	}
	next := done[2].Revision
	f.reach(next)
	if f.snapshots != 2 || f.snapshot.Flag("a").EffectiveFrom() != next {
		t.Errorf("the client got %d snapshots, and a is as of %d, want a second snapshot as of %d", f.snapshots, f.snapshot.Flag("a").EffectiveFrom(), next)
	}
	storetest.Eventually(t, "the server is ready", func() bool { return g.do(t, http.MethodGet, "/readyz", "").status == http.StatusOK })
	f.reach(g.apply(t, "staging", setState("staging", "a", "DISABLED")))
	for revision, want := range map[int64]connect.Code{seen: 0, seen + 1: connect.CodeNotFound, next - 1: connect.CodeNotFound, next: 0} {
		_, err := g.syncs(key).GetDefinition(t.Context(), &guidonv1.SyncServiceGetDefinitionRequest{Key: "a", Revision: revision})
		if (err == nil) != (want == 0) || err != nil && connect.CodeOf(err) != want {
			t.Errorf("GetDefinition at %d: %v, want %v", revision, err, want)
		}
		if _, err = g.syncs(key).GetSnapshot(t.Context(), &guidonv1.SyncServiceGetSnapshotRequest{Revision: revision}); (err == nil) != (want == 0) {
			t.Errorf("GetSnapshot at %d: %v, want %v", revision, err, want)
		}
	}
}

// TestClientProvesALoss: a client that holds what the database does not have
// shows that commits are missing; after the recovery it is given everything anew.
func TestClientProvesALoss(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	g := startOn(t, db)
	seen := g.apply(t, "staging", putFlag("staging", "a", "on"))
	key := g.key(t, store.KeyServer, "staging")
	f := g.follow(t, key, nil)
	f.reach(seen)
	ahead, err := f.snapshot.With(seen+7, []eval.Row{{
		Kind: eval.KindFlag, Name: "lost", From: seen + 7, Document: []byte(`{"flag":{"state":"ENABLED","variants":{"on":true}},"guidon":{}}`),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	later := g.follow(t, key, ahead)
	storetest.Eventually(t, "the server is not ready", func() bool {
		a := g.do(t, http.MethodGet, "/readyz", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "a client proved revision")
	})
	if err := g.hub.Ready(); err == nil || !strings.Contains(err.Error(), store.ErrNotRecovered.Error()) {
		t.Errorf("Ready = %v, want ErrNotRecovered", err)
	}
	done, err := db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "restored", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	later.reach(done[2].Revision)
	if later.snapshot.Flag("lost") != nil || later.snapshot.Flag("a") == nil {
		t.Error("the client that was ahead still has what was lost")
	}
	storetest.Eventually(t, "the server is ready", func() bool { return g.hub.Ready() == nil })
}

// TestAbsurdClaimsProveNothing: a revision that no installation could have lost.
func TestAbsurdClaimsProveNothing(t *testing.T) {
	t.Parallel()
	g := start(t)
	e, err := g.hub.Environment("staging")
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int64{-1, 0, 1, 1 << 40} {
		e.Claim(revision)
	}
	if err := g.hub.Ready(); err != nil {
		t.Errorf("Ready = %v", err)
	}
}
