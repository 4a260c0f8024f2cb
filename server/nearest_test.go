package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	flags "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestNearest: a flag that asks for it is answered as of the oldest revision kept
// where its pin is collected, and says so, over every protocol and by an SDK, from
// a server and through relays; others are an error as ever, and so is a pin that a
// restore has lost.
func TestNearest(t *testing.T) {
	t.Parallel()
	first := start(t)
	first.apply(t, "production", putFlag("production", "bold", "on"), putFlag("production", "plain", "on"))   // 2
	first.apply(t, "production", putFlag("production", "bold", "off"), putFlag("production", "plain", "off")) // 3
	oldest := first.apply(t, "production", putFlag("production", "other", "on"))                              // 4
	last := first.apply(t, "production", putNearest(putFlag("production", "bold", "on"), "nearest"), putFlag("production", "plain", "on"))
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	if _, err := conn.Exec(t.Context(), `UPDATE revisions SET created_at = created_at - interval '91 days' WHERE revision <= 4`); err != nil {
		t.Fatal(err)
	}
	if did, err := first.db.Collect(t.Context()); err != nil || did.Versions != 2 {
		t.Fatalf("Collect = %+v, %v, want the first versions of both", did, err)
	}
	done, err := first.db.Recover(t.Context(), store.Recovery{Actor: "ada", Reason: "a test", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	var lost int64
	for _, r := range done {
		if r.Environment == "production" {
			lost = r.Before + 1
		}
	}

	g := startOn(t, first.db) // one that remembers nothing
	between := g.relay(t)
	for name, at := range map[string]*guidon{"server": g, "relay": between, "relay of a relay": between.relay(t)} {
		key := at.key(t, store.KeyServer, "production")
		pinned := func(revision int64) string {
			return at.minted(t, "production", propagate.Header{Revision: revision, Subject: "ada", HasSubject: true})
		}
		says := fmt.Sprintf(`"pinnedRevision":2,"PIN_UNAVAILABLE":true,"nearestRevision":%d`, oldest)
		for _, c := range []struct {
			flag     string
			pin      int64
			has      []string
			hasNever string
		}{
			{"bold", 2, []string{`"variant":"off"`, says}, "errorCode"},
			{"plain", 2, []string{`"errorCode":"GENERAL"`, `"pinnedRevision":2,"PIN_UNAVAILABLE":true`}, "nearestRevision"},
			{"bold", oldest, []string{`"variant":"off"`, fmt.Sprintf(`"pinnedRevision":%d`, oldest)}, "PIN_UNAVAILABLE"},
			{"bold", last, []string{`"variant":"on"`}, "PIN_UNAVAILABLE"},
			{"bold", lost, []string{`"errorCode":"GENERAL"`, `"PIN_UNAVAILABLE":true`}, "nearestRevision"},
		} {
			// What is not at hand has 50 ms: on a busy machine the first may come too
			// late for whoever asked.
			storetest.Eventually(t, fmt.Sprintf("%s: %s at %d over OFREP has %q and no %s", name, c.flag, c.pin, c.has, c.hasNever), func() bool {
				got := at.post(t, ofrepSingle+c.flag, key, `{}`, "Guidon", pinned(c.pin)).body
				return !strings.Contains(got, c.hasNever) && !slices.ContainsFunc(c.has, func(has string) bool { return !strings.Contains(got, has) })
			})
		}
		storetest.Eventually(t, name+": all over OFREP, bold as of the nearest", func() bool {
			all := at.post(t, ofrepBulk, key, `{}`, "Guidon", pinned(2)).body
			return strings.Contains(all, says) && strings.Count(all, "nearestRevision") == 1 && strings.Count(all, "PIN_UNAVAILABLE") == 3
		})

		flagd := at.flagdV2(t, dialects[0], key)
		resolve := func(flag string) (*connect.Response[evaluationv2.ResolveBooleanResponse], error) {
			return flagd.ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: flag}, "Guidon", pinned(2)))
		}
		if got, err := resolve("plain"); err == nil || !strings.Contains(err.Error(), "could not be had") {
			t.Errorf("%s: plain over flagd = %v, %v, want an error", name, got, err)
		}
		storetest.Eventually(t, name+": bold over flagd as of the nearest", func() bool {
			got, err := resolve("bold")
			if err != nil {
				return false
			}
			m := got.Msg.GetMetadata().AsMap()
			return !got.Msg.GetValue() && m["nearestRevision"] == float64(oldest) && m["PIN_UNAVAILABLE"] == true
		})

		syncs := at.syncs(key)
		ask := &guidonv1.SyncServiceGetDefinitionRequest{Key: "bold", Revision: 2}
		if _, err := syncs.GetDefinition(t.Context(), ask); connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s: GetDefinition of what is collected: %v, want not found for those who do not ask for the nearest", name, err)
		}

		client, err := flags.Open(t.Context(), at.url, flags.WithKey(key), flags.WithMode(propagate.Internal))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		storetest.Eventually(t, "the client holds the flags", func() bool { return client.Snapshot() != nil && client.Snapshot().Flag("bold") != nil })
		evaluate := func(flag string, pin int64) propagate.Result {
			ctx := client.Propagator().Extract(t.Context(), propagate.HTTPCarrier(http.Header{"Guidon": {pinned(pin)}}))
			return client.Propagator().Evaluate(ctx, flag, eval.Boolean, nil)
		}
		storetest.Eventually(t, "an SDK takes bold as of the nearest", func() bool { // within its budget, on a busy machine
			r := evaluate("bold", 2)
			return r.Variant() == "off" && r.Nearest == oldest && r.PinUnavailable && r.Pinned == 2 && r.Origin == propagate.OriginNearest
		})
		for flag, pin := range map[string]int64{"plain": 2, "bold": lost} {
			if r := evaluate(flag, pin); r.ErrorCode() != eval.CodeGeneral || !r.PinUnavailable || r.Nearest != 0 || r.Value() != nil {
				t.Errorf("%s: an SDK evaluates %s at %d to %q (%v), want PIN_UNAVAILABLE", name, flag, pin, r.Variant(), r.Message())
			}
		}
	}
}

// putNearest makes a flag say what it asks for where its pin is not kept.
func putNearest(o *guidonv1.Operation, instead string) *guidonv1.Operation {
	o.GetPutFlag().PinUnavailable = &instead
	return o
}
