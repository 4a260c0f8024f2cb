package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// A client that holds a revision which the database does not have is told
// nothing older, and is counted once for whoever watches.
func TestClientAheadOfTheDatabaseIsReported(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) {
		o.server.Heartbeat = 20 * time.Millisecond
		o.server.Log = nil // it logs at Error, which here is what is wanted
	})
	key := g.key(t, store.KeyServer, "staging")
	newest := g.apply(t, "staging", putFlag("staging", "a", "on"))
	stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{HaveRevision: newest + 100, HaveDigest: "d"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	for beats := 0; beats < 3 && stream.Receive(); {
		switch event := stream.Msg(); {
		case event.GetHeartbeat() != nil:
			beats++
		case event.GetSnapshot() != nil, event.GetDelta() != nil:
			t.Fatalf("a client that is ahead was sent %v", event)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if metrics := g.do(t, "GET", "/metrics", "").body; !strings.Contains(metrics, "\nguidon_sync_ahead_total 1\n") {
		t.Error("guidon_sync_ahead_total is not 1")
	}
}

// A database that lacks what this replica served is not written, by whichever
// RPC: a revision number would be used twice. What is dry is answered.
func TestNothingIsWrittenToADatabaseThatIsBehind(t *testing.T) {
	t.Parallel()
	for what, restored := range map[string]string{
		"a revision":     `UPDATE environments SET revision = revision - 1 WHERE name = 'staging'`,
		"an environment": `SET session_replication_role = replica; DELETE FROM environments WHERE name = 'qa'`,
	} {
		t.Run("without "+what, func(t *testing.T) {
			t.Parallel()
			g := start(t, func(o *options) { o.server.Log = nil })
			client, environments := g.changes(g.admin), g.environments(g.admin)
			create := func(name string) error {
				_, err := environments.Create(t.Context(), &guidonv1.EnvironmentServiceCreateRequest{Name: name, Reason: "a test"})
				return err
			}
			if err := create("qa"); err != nil {
				t.Fatal(err)
			}
			g.apply(t, "staging", putFlag("staging", "a", "on"))
			g.apply(t, "staging", setState("staging", "a", "DISABLED"))
			g.apply(t, "staging", putFlag("staging", "b", "on"))
			conn, err := pgx.Connect(t.Context(), storetest.URL(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
			if _, err := conn.Exec(t.Context(), restored); err != nil {
				t.Fatal(err)
			}
			storetest.Eventually(t, "the server is not ready", func() bool {
				return g.do(t, http.MethodGet, "/readyz", "").status == http.StatusServiceUnavailable
			})

			before := g.mark(t)
			const reason = "a test"
			kills, protected := []*guidonv1.Kill{{Key: "a", Variant: "off"}}, true
			for name, call := range map[string]func() error{
				"Apply": func() error {
					_, err := client.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{setState("staging", "a", "ENABLED")}})
					return err
				},
				"Kill": func() error {
					_, err := client.Kill(t.Context(), &guidonv1.ChangeServiceKillRequest{Environment: "staging", Kills: kills, Reason: reason})
					return err
				},
				"Unkill": func() error {
					_, err := client.Unkill(t.Context(), &guidonv1.ChangeServiceUnkillRequest{Environment: "staging", Keys: []string{"a"}, Reason: reason})
					return err
				},
				"Revert": func() error {
					_, err := client.Revert(t.Context(), &guidonv1.ChangeServiceRevertRequest{Environment: "staging", Revision: 3})
					return err
				},
				"Restore": func() error {
					_, err := client.Restore(t.Context(), &guidonv1.ChangeServiceRestoreRequest{Environment: "staging", Revision: 2})
					return err
				},
				"Promote": func() error {
					_, err := client.Promote(t.Context(), &guidonv1.ChangeServicePromoteRequest{Environment: "staging", To: "development", Flags: []string{"a"}})
					return err
				},
				"Copy": func() error {
					_, err := client.Copy(t.Context(), &guidonv1.ChangeServiceCopyRequest{Environment: "staging", To: "development"})
					return err
				},
				"Create": func() error { return create("qa") },
				"Update": func() error {
					_, err := environments.Update(t.Context(), &guidonv1.EnvironmentServiceUpdateRequest{Name: "staging", Protected: &protected, Reason: reason})
					return err
				},
			} {
				if err := call(); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "guidon recover") {
					t.Errorf("%s: %v, want unavailable and the advice", name, err)
				}
			}
			g.unchanged(t, before)
			if _, err := client.Revert(t.Context(), &guidonv1.ChangeServiceRevertRequest{Environment: "staging", Revision: 3, DryRun: true}); err != nil {
				t.Errorf("a dry run: %v", err)
			}
		})
	}
}
