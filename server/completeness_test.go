package server_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// unaudited are the RPCs that write something and leave no entry, with why.
var unaudited = map[string]string{
	"SyncService/Ack": "what an instance holds is forgotten when it leaves, and is no change to what anybody sees",
}

// completeness is a case of [TestEveryWriteIsAudited].
type completeness struct {
	rpc  string // without "/guidon.v1."
	body func(*guidon) string
	// touches are the chains that get an entry, once for each; none for an RPC
	// that reads.
	touches []string
}

func fixed(body string) func(*guidon) string { return func(*guidon) string { return body } }

// Each RPC that changes something leaves exactly one entry in each chain that it
// touches, and none that reads leaves any. An RPC without a case fails the test.
func TestEveryWriteIsAudited(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.KeyWait = time.Hour }) // no key is switched meanwhile
	staging := fixed(`{"environment":"staging"}`)
	flag := fixed(`{"environment":"staging","key":"a"}`)
	first := g.apply(t, "staging", putOverridable("staging", "a"), putFlag("staging", "b", "on"), putSegment("staging", "beta", structpb.NewBoolValue(true)))
	second := g.apply(t, "staging", setState("staging", "b", "DISABLED"))
	killed := g.kill(t, "a")
	service := g.key(t, store.KeyServer, "staging")
	header := fixed(`{"header":` + strconv.Quote(g.rootedHeader(t, service, `{}`)) + `}`)
	override := `{"environment":"staging","flag":"a","variant":"on","audience":"shop.example","reason":"to see"}`
	if got := g.call(t, rpc{procedure: "/guidon.v1.OverrideService/Create"}, override, "Authorization", "Bearer "+g.admin); got != "ok" {
		t.Fatalf("the first override, whose key is made with it: %s", got) // two acts, two entries
	}
	if _, err := g.db.Apply(t.Context(), store.ChangeSet{Actor: "Ada Lovelace", Operations: []store.Operation{
		store.SetState{Environment: "staging", Key: "a", State: "ENABLED"},
	}}); err != nil {
		t.Fatal(err)
	}
	env := func(name string) []string { return []string{name} }
	installation := env(audit.Installation)

	cases := []completeness{
		{"ChangeService/Apply", fixed(`{"operations":[
			{"setState":{"environment":"staging","key":"a","state":"DISABLED"}},
			{"putFlag":{"environment":"production","key":"a","definition":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}}},
			{"describeFlag":{"key":"a","description":"new"}}],"reason":"all at once"}`), []string{audit.Installation, "production", "staging"}},
		{"ChangeService/Kill", fixed(`{"environment":"production","kills":[{"key":"a","variant":"off"}],"reason":"it burns"}`), env("production")},
		{"ChangeService/Unkill", fixed(`{"environment":"production","keys":["a"],"reason":"it is out"}`), env("production")},
		{"ChangeService/Revert", fixed(fmt.Sprintf(`{"environment":"staging","revision":"%d","reason":"no"}`, second)), env("staging")},
		{"ChangeService/Restore", fixed(fmt.Sprintf(`{"environment":"staging","revision":"%d","reason":"no"}`, second)), env("staging")},
		{"ChangeService/Promote", fixed(`{"environment":"staging","to":"production","segments":["beta"],"reason":"good"}`), env("production")},
		{"ProjectService/Create", fixed(`{"name":"billing","reason":"new"}`), installation},
		{"ProjectService/Archive", fixed(`{"name":"billing","reason":"old"}`), installation},
		// Its first key for headers is an act of its own, as a rotation is.
		{"EnvironmentService/Create", fixed(`{"name":"fresh","reason":"new"}`), []string{audit.Installation, audit.Installation}},
		{"EnvironmentService/Update", fixed(`{"name":"fresh","protected":true,"reason":"careful"}`), installation},
		{"EnvironmentService/RotatePropagationKey", fixed(`{"environment":"staging","reason":"yearly"}`), installation},
		{"ChangeService/Copy", func(g *guidon) string {
			storetest.Eventually(t, "the server knows the environment", func() bool {
				_, err := g.hub.Environment("fresh")
				return err == nil
			})
			return `{"environment":"staging","to":"fresh","reason":"fill"}`
		}, env("fresh")},
		{"AuditService/Erase", fixed(`{"person":"Ada Lovelace","reason":"asked by letter"}`), installation},
		{"KeyService/Create", fixed(`{"kind":"server","environment":"staging","name":"shop"}`), installation},
		{"KeyService/Revoke", func(g *guidon) string {
			id, _ := g.create(t, store.NewKey{Kind: store.KeyAdmin, Name: "spare"})
			return `{"id":"` + id + `"}`
		}, installation},
		{"OverrideService/Create", fixed(override), installation},
		{"OverrideService/Revoke", func(g *guidon) string {
			made, _, err := g.db.CreateOverride(t.Context(), store.NewOverride{
				Environment: "staging", Flag: "a", Variant: "on", Audience: "shop.example", Reason: "to see", Actor: "test",
			})
			if err != nil {
				t.Fatal(err)
			}
			return `{"id":"` + made.ID + `","reason":"seen"}`
		}, installation},

		{"ChangeService/DryRun", fixed(`{"operations":[{"setState":{"environment":"staging","key":"a","state":"ENABLED"}}]}`), nil},
		{"ChangeService/KillReport", fixed(fmt.Sprintf(`{"environment":"staging","revision":"%d"}`, killed)), nil},
		{"AuditService/List", fixed(`{}`), nil},
		{"AuditService/Get", fixed(`{"id":"staging/1"}`), nil},
		{"AuditService/Export", staging, nil},
		{"AuditService/Verify", staging, nil},
		{"EnvironmentService/List", fixed(`{}`), nil},
		{"EnvironmentService/Get", fixed(`{"name":"staging"}`), nil},
		{"EnvironmentService/Compare", fixed(`{"environment":"staging","other":"production"}`), nil},
		{"EvaluationService/Evaluate", flag, nil},
		{"EvaluationService/EvaluateAll", staging, nil},
		{"EvaluationService/Explain", flag, nil},
		{"FlagService/List", staging, nil},
		{"FlagService/Get", flag, nil},
		{"FlagService/History", flag, nil},
		{"FleetService/List", staging, nil},
		{"HeaderService/Verify", header, nil},
		{"HeaderService/Explain", header, nil},
		{"KeyService/List", fixed(`{}`), nil},
		{"OverrideService/List", staging, nil},
		{"ProjectService/List", fixed(`{}`), nil},
		{"RevisionService/List", staging, nil},
		{"RevisionService/Get", fixed(fmt.Sprintf(`{"environment":"staging","revision":"%d"}`, second)), nil},
		{"RevisionService/Diff", fixed(fmt.Sprintf(`{"environment":"staging","fromRevision":"%d","toRevision":"%d"}`, first, second)), nil},
		{"RevisionService/Export", staging, nil},
		{"RevisionService/Blame", flag, nil},
		{"SegmentService/List", staging, nil},
		{"SegmentService/Get", fixed(`{"environment":"staging","name":"beta"}`), nil},
		{"SyncService/Sync", staging, nil},
		{"SyncService/GetDefinition", fixed(fmt.Sprintf(`{"environment":"staging","key":"a","revision":"%d"}`, first)), nil},
		{"SyncService/GetEmergencies", staging, nil},
		{"SyncService/GetSnapshot", fixed(fmt.Sprintf(`{"environment":"staging","revision":"%d"}`, first)), nil},
		{"SyncService/GetDelta", fixed(`{"have":{"environment":"staging"}}`), nil},
		{"SyncService/Ack", fixed(`{"environment":"staging","client":{"service":"shop","instance":"shop-1"},"revision":"1"}`), nil},
	}

	left := map[string]rpc{}
	for _, r := range rpcs() {
		left[strings.TrimPrefix(r.procedure, "/guidon.v1.")] = r
	}
	total, writes := len(left), 0
	for _, c := range cases {
		r, ok := left[c.rpc]
		if !ok {
			t.Errorf("%s is no RPC, or has two cases", c.rpc)
			continue
		}
		delete(left, c.rpc)
		if writes := auth.Writes(r.procedure); writes != (len(c.touches) > 0) {
			t.Errorf("%s: the permission table says that it writes: %v", c.rpc, writes)
			continue
		}
		body := c.body(g)
		want := map[string]int64{}
		before := g.heads(t)
		if tried, ok := strings.CutSuffix(body, "}"); ok && r.tries {
			if got := g.call(t, r, tried+`,"dryRun":true}`, "Authorization", "Bearer "+g.admin); got != "ok" {
				t.Errorf("%s, tried: %s", c.rpc, got)
			}
			if got := g.since(t, before); !cmp.Equal(got, want) {
				t.Errorf("%s, tried, left entries in %v", c.rpc, got)
			}
		}
		for _, chain := range c.touches {
			writes++
			want[chain]++
		}
		if got := g.call(t, r, body, "Authorization", "Bearer "+g.admin); got != "ok" {
			t.Errorf("%s with %s: %s", c.rpc, body, got)
		}
		if got := g.since(t, before); !cmp.Equal(got, want) {
			t.Errorf("%s left entries in %v, want %v", c.rpc, got, want)
		}
	}
	for name := range left {
		t.Errorf("%s has no case: say whether it writes, and what entries it leaves", name)
	}
	for name, why := range unaudited {
		if auth.Writes("/guidon.v1."+name) || why == "" {
			t.Errorf("%s is listed as not audited, and is", name)
		}
	}
	t.Logf("%d RPCs, %d entries of those that write", total, writes)
	for _, chain := range []string{audit.Installation, "staging", "production", "fresh"} {
		if _, err := g.db.VerifyAudit(t.Context(), chain, ""); err != nil {
			t.Error(err)
		}
	}
}

// heads is how many entries each chain has.
func (g *guidon) heads(t testing.TB) map[string]int64 {
	t.Helper()
	chains, err := g.db.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, c := range chains {
		out[c.Environment] = c.Head.Seq
	}
	return out
}

// since is how many entries were added to which chains.
func (g *guidon) since(t testing.TB, before map[string]int64) map[string]int64 {
	t.Helper()
	out := g.heads(t)
	maps.DeleteFunc(out, func(chain string, seq int64) bool { return seq == before[chain] })
	for chain := range out {
		out[chain] -= before[chain]
	}
	return out
}
