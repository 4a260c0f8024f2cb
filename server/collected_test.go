package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestCollectedRevision: whatever names a revision that is not kept is told so,
// and what is kept is answered as before.
func TestCollectedRevision(t *testing.T) {
	t.Parallel()
	first := start(t)
	first.apply(t, "staging", putFlag("staging", "a", "on"))                                             // 2
	first.apply(t, "staging", setState("staging", "a", "DISABLED"))                                      // 3
	first.apply(t, "staging", putFlag("staging", "b", "on"))                                             // 4
	first.apply(t, "staging", setState("staging", "a", "ENABLED"), setState("staging", "b", "DISABLED")) // 5
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `UPDATE revisions SET created_at = created_at - interval '91 days' WHERE revision <= 4`); err != nil {
		t.Fatal(err)
	}
	if did, err := first.db.Collect(t.Context()); err != nil || did.Versions != 1 {
		t.Fatalf("Collect = %+v, %v, want the first version of a", did, err)
	}
	g := startOn(t, first.db) // one that remembers nothing

	sync := guidonv1connect.NewSyncServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	flags := guidonv1connect.NewFlagServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	changes := guidonv1connect.NewChangeServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	ctx := t.Context()
	for name, call := range map[string]func(revision int64) error{
		"GetDefinition": func(r int64) error {
			_, err := sync.GetDefinition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{Environment: "staging", Key: "a", Revision: r})
			return err
		},
		"GetDefinition, of a flag that never was": func(r int64) error {
			_, err := sync.GetDefinition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{Environment: "staging", Key: "c", Revision: r})
			return err
		},
		"GetSnapshot": func(r int64) error {
			_, err := sync.GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: "staging", Revision: r})
			return err
		},
		"Get": func(r int64) error {
			_, err := flags.Get(ctx, &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a", Revision: r})
			return err
		},
		"Diff": func(r int64) error {
			_, err := g.revisions().Diff(ctx, &guidonv1.RevisionServiceDiffRequest{Environment: "staging", FromRevision: r})
			return err
		},
		"Restore": func(r int64) error {
			_, err := changes.Restore(ctx, &guidonv1.ChangeServiceRestoreRequest{Environment: "staging", Revision: r, Reason: "a test", DryRun: true})
			return err
		},
	} {
		for range 2 { // the answer is not remembered as another one
			if err := call(3); connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), "keeps") {
				t.Errorf("%s at 3: %v, want it not found, since it is not kept", name, err)
			}
		}
		if err := call(4); err != nil {
			t.Errorf("%s at 4: %v, want it answered", name, err)
		}
	}
	got, err := sync.GetDefinition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{Environment: "staging", Key: "c", Revision: 4})
	if err != nil || len(got.GetRows()) != 0 || got.GetFromRevision() != 4 {
		t.Errorf("a flag that never was, at 4: %v, %v, want nothing, from 4 on", got, err)
	}
}
