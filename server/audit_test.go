package server_test

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// A checkpoint that does not belong to the log is what a caller asks about.
func TestVerifyAgainstWhatIsRemembered(t *testing.T) {
	t.Parallel()
	g := start(t)
	var notes []string
	sign := func() {
		t.Helper()
		key, err := g.db.CheckpointKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		chains, err := g.db.Chains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chains {
			if c.Environment != "staging" {
				continue
			}
			made, err := g.db.Checkpoint(t.Context(), key, c)
			if err != nil {
				t.Fatal(err)
			}
			notes = append(notes, made.Note)
		}
	}
	client := guidonv1connect.NewAuditServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	foreignKey, err := checkpoint.NewKey("guidon-foreign", [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: checkpoint.Origin(foreignKey.Name(), "staging"), Size: 1, Root: audit.Tree{}.Root()}, foreignKey)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(environment, outcome, detail string, notes ...string) {
		t.Helper()
		res, err := client.Verify(t.Context(), &guidonv1.AuditServiceVerifyRequest{Environment: environment, Checkpoints: notes})
		if err != nil || res.GetOutcome() != outcome || !strings.Contains(res.GetDetail(), detail) {
			t.Errorf("Verify of %s = %v, %v, want %s with %q", environment, res, err, outcome, detail)
		}
	}
	verify("staging", "checkpoint", "no key that signs", foreign)
	for _, key := range []string{"a", "b"} {
		g.apply(t, "staging", gold("staging", key))
		sign()
	}
	verify("staging", "ok", "", notes[1], notes[0]) // in whatever order
	verify("staging", "checkpoint", "checkpoints[1]: checkpoint is not signed by the known key", notes[0], foreign)
	verify("production", "checkpoint", "checkpoints[0] is of another chain", notes[0])
	_, err = client.Verify(t.Context(), &guidonv1.AuditServiceVerifyRequest{Environment: "staging", Checkpoints: []string{strings.Repeat("x", 5000)}})
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("Verify with a long text: %v, want invalid argument", err)
	}
}

// From where somebody acted is in the log, and goes with the name.
func TestOrigin(t *testing.T) {
	t.Parallel()
	g := start(t)
	_, ada := g.create(t, store.NewKey{Kind: store.KeyAdmin, Name: "Ada Lovelace"})
	_, grace := g.create(t, store.NewKey{Kind: store.KeyAdmin, Name: "Grace Hopper"})
	act := func(key, flag string) {
		t.Helper()
		body := `{"operations":[{"putFlag":{"environment":"staging","key":"` + flag + `","definition":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}}}]}`
		if a := g.post(t, applyPath, key, body, "User-Agent", "a browser/7 "+strings.Repeat("x", 1000)); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
	}
	client := guidonv1connect.NewAuditServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	origins := func(filter *guidonv1.AuditServiceListRequest) (origins []string) {
		t.Helper()
		res, err := client.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range res.GetEntries() {
			origins = append(origins, e.GetOrigin())
		}
		return origins
	}
	act(ada, "a")
	act(grace, "b")
	act(ada, "c")
	want := "127.0.0.1 a browser/7 " + strings.Repeat("x", 188)
	if got := origins(&guidonv1.AuditServiceListRequest{Environment: "staging"}); len(got) != 3 || got[0] != want || got[1] != want {
		t.Errorf("the origins are %q, want %q", got, want)
	}
	if got := origins(&guidonv1.AuditServiceListRequest{Environment: "staging", Text: "127.0.0.1"}); len(got) != 3 {
		t.Errorf("%d entries are found by an address, want 3", len(got))
	}
	res, err := client.Erase(t.Context(), &guidonv1.AuditServiceEraseRequest{Person: "Ada Lovelace", Reason: "she asked"})
	if err != nil || res.GetNames() != 1 || res.GetOrigins() != 2 || res.GetReasons() != 0 {
		t.Errorf("Erase = %v, %v, want a name and two origins", res, err)
	}
	if got := origins(&guidonv1.AuditServiceListRequest{Environment: "staging"}); len(got) != 3 || got[0] != "erased" || got[1] != want || got[2] != "erased" {
		t.Errorf("after it the origins are %q", got)
	}
	for _, chain := range []string{"staging", ""} {
		res, err := client.Verify(t.Context(), &guidonv1.AuditServiceVerifyRequest{Environment: chain})
		if err != nil || res.GetOutcome() != "ok" {
			t.Errorf("Verify of %q = %v, %v", chain, res, err)
		}
	}
}
