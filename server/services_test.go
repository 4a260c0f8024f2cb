package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func (g *guidon) flags(key string) guidonv1connect.FlagServiceClient {
	return guidonv1connect.NewFlagServiceClient(http.DefaultClient, g.url, withKey(key))
}

func TestFlagGet(t *testing.T) {
	t.Parallel()
	g := start(t)
	operation := gold("staging", "new-pricing")
	put := operation.GetPutFlag()
	owner, description := "payments", "The prices of next year."
	put.Owner, put.Description, put.Tags, put.Project = &owner, &description, []string{"q3"}, "shop"
	created := g.apply(t, "staging", operation)
	g.apply(t, "staging", setState("staging", "new-pricing", "DISABLED"))
	for _, tt := range []struct {
		revision int64
		state    string
		wrote    int64
	}{{0, "DISABLED", created + 1}, {created, "ENABLED", created}} {
		res, err := g.flags(g.admin).Get(t.Context(), &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "new-pricing", Revision: tt.revision})
		if err != nil {
			t.Fatal(err)
		}
		f := res.GetFlag()
		if !f.GetUpdatedAt().IsValid() || !strings.HasPrefix(f.GetUpdatedBy(), "key:") {
			t.Errorf("updated at %v by %q, want a time and a key", f.GetUpdatedAt(), f.GetUpdatedBy())
		}
		want := &guidonv1.Flag{
			Key: "new-pricing", Environment: "staging", Project: "shop", Kind: "release", Scope: "request", Type: "boolean",
			State: tt.state, DefaultVariant: "off", Definition: withState(t, put.GetDefinition(), tt.state), Owner: owner, Description: description,
			Tags: []string{"q3"}, Revision: tt.wrote, Reads: []string{"plan"}, NotTravelling: []string{"plan"},
		}
		if diff := cmp.Diff(want, f, protocmp.Transform(), protocmp.IgnoreFields(&guidonv1.Flag{}, "updated_at", "updated_by")); diff != "" {
			t.Errorf("Get at %d (-want +got):\n%s", tt.revision, diff)
		}
	}
}

// withState is a definition with another state.
func withState(t testing.TB, definition *structpb.Struct, state string) *structpb.Struct {
	t.Helper()
	members := definition.AsMap()
	members["state"] = state
	return contextOf(t, members)
}

// TestFlagListPages: whatever the size of a page, the pages together are all
// flags, each once, by key and then in the environments' order.
func TestFlagListPages(t *testing.T) {
	t.Parallel()
	g := start(t)
	var want []string
	var operations []*guidonv1.Operation
	for i := range 23 {
		key := fmt.Sprintf("flag%02d", i)
		for n, environment := range []string{"development", "staging", "production"} {
			if (i+n)%3 == 0 && n > 0 || i > 15 && n == 1 { // not every flag is everywhere
				continue
			}
			want = append(want, key+"/"+environment)
			operations = append(operations, putFlag(environment, key, "on"))
		}
	}
	g.apply(t, "staging", operations...)
	for _, size := range []int32{1, 2, 3, 7, 22, 23, 24, 1000, 0} {
		var got []string
		token, pages := "", 0
		for {
			res, err := g.flags(g.admin).List(t.Context(), &guidonv1.FlagServiceListRequest{PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			pages++
			keys := map[string]bool{}
			for _, f := range res.GetFlags() {
				got, keys[f.GetKey()] = append(got, f.GetKey()+"/"+f.GetEnvironment()), true
			}
			if size > 0 && len(keys) > int(size) {
				t.Errorf("a page of %d keys, asked for %d", len(keys), size)
			}
			if token = res.GetNextPageToken(); token == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", size, got, want)
		}
		if size >= 23 && pages != 1 {
			t.Errorf("%d pages of %d for 23 keys", pages, size)
		}
	}
}

func TestFlagListFilters(t *testing.T) {
	t.Parallel()
	g := start(t)
	described := putFlag("staging", "b", "on")
	description := "Shows a Banner."
	described.GetPutFlag().Description, described.GetPutFlag().Project = &description, "shop"
	g.apply(t, "staging", putFlag("staging", "banner", "on"), described, putFlag("staging", "old", "on"), putFlag("production", "c", "on"))
	g.apply(t, "staging", &guidonv1.Operation{Operation: &guidonv1.Operation_ArchiveFlag{ArchiveFlag: &guidonv1.ArchiveFlag{Key: "old"}}})
	for name, tt := range map[string]struct {
		request *guidonv1.FlagServiceListRequest
		key     string
		want    string
	}{
		"all":                       {&guidonv1.FlagServiceListRequest{}, g.admin, "[b banner c]"},
		"archived too":              {&guidonv1.FlagServiceListRequest{IncludeArchived: true}, g.admin, "[b banner c old]"},
		"one environment":           {&guidonv1.FlagServiceListRequest{Environment: "production"}, g.admin, "[c]"},
		"a project":                 {&guidonv1.FlagServiceListRequest{Project: "shop"}, g.admin, "[b]"},
		"text in key or words":      {&guidonv1.FlagServiceListRequest{Query: "BANNER"}, g.admin, "[b banner]"},
		"a server key sees its own": {&guidonv1.FlagServiceListRequest{}, g.key(t, store.KeyServer, "staging"), "[b banner]"},
	} {
		res, err := g.flags(tt.key).List(t.Context(), tt.request)
		if err != nil {
			t.Fatal(err)
		}
		keys := []string{}
		for _, f := range res.GetFlags() {
			keys = append(keys, f.GetKey())
		}
		if fmt.Sprint(keys) != tt.want {
			t.Errorf("%s: %v, want %s", name, keys, tt.want)
		}
	}
}

func TestFlagHistory(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	for i := range 4 {
		_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
			Operations: []*guidonv1.Operation{setState("staging", "a", []string{"DISABLED", "ENABLED"}[i%2])}, Reason: fmt.Sprintf("turn %d", i),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for token := ""; ; {
		res, err := g.flags(g.admin).History(t.Context(), &guidonv1.FlagServiceHistoryRequest{Environment: "staging", Key: "a", PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range res.GetVersions() {
			got = append(got, fmt.Sprintf("%d-%d %s %s", v.GetFlag().GetRevision(), v.GetToRevision(), v.GetFlag().GetState(), v.GetReason()))
			if v.GetChangeId() == "" || !v.GetFlag().GetUpdatedAt().IsValid() || v.GetFlag().GetUpdatedBy() == "" {
				t.Errorf("version %v does not say who made it when", v)
			}
		}
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	want := []string{"6-0 ENABLED turn 3", "5-6 DISABLED turn 2", "4-5 ENABLED turn 1", "3-4 DISABLED turn 0", "2-3 ENABLED a test"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("History (-want +got):\n%s", diff)
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	g := start(t)
	revision := g.apply(t, "production", putFlag("production", "a", "on"))
	client := guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	var names []string
	for token := ""; ; {
		res, err := client.List(t.Context(), &guidonv1.EnvironmentServiceListRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range res.GetEnvironments() {
			names = append(names, e.GetName())
		}
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if fmt.Sprint(names) != "[development staging production]" {
		t.Errorf("environments %v", names)
	}
	res, err := client.Get(t.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: "production"})
	if err != nil {
		t.Fatal(err)
	}
	e := res.GetEnvironment()
	snapshot, err := g.hub.Environment("production")
	if err != nil {
		t.Fatal(err)
	}
	if e.GetRevision() != revision || e.GetFlagCount() != 1 || !e.GetProtected() || e.GetDigest() != snapshot.Snapshot().Digest().String() {
		t.Errorf("production is %v", e)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", gold("staging", "new-pricing"))
	want := &guidonv1.Settings{Travel: []*guidonv1.TravelAttribute{{Attribute: "plan", Alias: "p"}}, Fractional: "v2"}
	g.apply(t, "staging", &guidonv1.Operation{Operation: &guidonv1.Operation_PutSettings{PutSettings: &guidonv1.PutSettings{Environment: "staging", Settings: want}}})
	client := guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	res, err := client.Get(t.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: "staging"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, res.GetEnvironment().GetSettings(), protocmp.Transform()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	flag, err := g.flags(g.admin).Get(t.Context(), &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "new-pricing"})
	if err != nil || len(flag.GetFlag().GetNotTravelling()) != 0 {
		t.Errorf("with plan on the allow-list: %v, %v, want nothing that does not travel", flag.GetFlag().GetNotTravelling(), err)
	}
}

func TestSegment(t *testing.T) {
	t.Parallel()
	g := start(t)
	condition := structpb.NewStructValue(contextOf(t, map[string]any{"==": []any{map[string]any{"var": "plan"}, "gold"}}))
	g.apply(t, "staging",
		&guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{Environment: "staging", Name: "rich", Condition: condition}}},
		putDefinition("staging", "new-pricing", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"if": []any{map[string]any{"$ref": "rich"}, "on"}},
		}))
	res, err := g.evaluations(g.admin).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{
		Environment: "staging", Key: "new-pricing", Context: contextOf(t, map[string]any{"plan": "gold"}),
	})
	if err != nil || res.GetResolution().GetVariant() != "on" {
		t.Errorf("Evaluate through a segment = %v, %v, want on", res, err)
	}
}

func TestDryRunAndNothingToDo(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	before := g.mark(t)
	for _, request := range []*guidonv1.ChangeServiceApplyRequest{
		{Operations: []*guidonv1.Operation{setState("staging", "a", "DISABLED")}, DryRun: true},
		{Operations: []*guidonv1.Operation{setState("staging", "a", "ENABLED")}},
	} {
		res, err := g.changes(g.admin).Apply(t.Context(), request)
		if err != nil || len(res.GetChanges()) != 1 {
			t.Fatalf("Apply = %v, %v, want one change", res, err)
		}
		if want := map[bool]string{true: "changed", false: "unchanged"}[request.GetDryRun()]; res.GetChanges()[0].GetAction() != want {
			t.Errorf("dry run %v: %v, want %s", request.GetDryRun(), res.GetChanges()[0], want)
		}
	}
	g.unchanged(t, before)
}

func TestAudit(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	a := g.post(t, applyPath, g.admin, `{"operations":[{"setState":{"environment":"staging","key":"a","state":"DISABLED"}}],"reason":"it broke"}`,
		"X-Correlation-ID", "incident-2026-11-23")
	if a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	client := guidonv1connect.NewAuditServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	list := func(request *guidonv1.AuditServiceListRequest) []*guidonv1.AuditEntry {
		t.Helper()
		res, err := client.List(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		return res.GetEntries()
	}
	entries := list(&guidonv1.AuditServiceListRequest{Environment: "staging"})
	if len(entries) != 2 {
		t.Fatalf("%d entries, want 2: %v", len(entries), entries)
	}
	e := entries[0]
	if e.GetRevision() != 3 || e.GetSequence() != 2 || e.GetReason() != "it broke" || e.GetCorrelationId() != "incident-2026-11-23" ||
		!strings.HasPrefix(e.GetActor(), "key:") || len(e.GetHash()) != 64 || e.GetChangeId() == "" || !e.GetOccurredAt().IsValid() {
		t.Errorf("newest entry is %v", e)
	}
	want := []*guidonv1.AuditChange{{Kind: "flag", Name: "a", Action: "changed", Fields: []*guidonv1.FieldChange{
		{Path: "$.flag.state", Before: structpb.NewStringValue("ENABLED"), After: structpb.NewStringValue("DISABLED")},
	}}}
	if diff := cmp.Diff(want, e.GetChanges(), protocmp.Transform()); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if created := entries[1].GetChanges(); len(created) != 2 || created[0].GetAction() != "created" ||
		len(created[0].GetFields()) != 1 || created[0].GetFields()[0].GetBefore() != nil {
		t.Errorf("the first entry's changes are %v, want two flags created whole", created)
	}
	if got := list(&guidonv1.AuditServiceListRequest{Flag: "b"}); len(got) != 1 || got[0].GetRevision() != 2 {
		t.Errorf("entries about flag b: %v, want that of revision 2", got)
	}
	if got := list(&guidonv1.AuditServiceListRequest{Actor: "nobody"}); len(got) != 0 {
		t.Errorf("entries by nobody: %v", got)
	}
	if got := list(&guidonv1.AuditServiceListRequest{}); len(got) < 3 { // the making of the admin key too
		t.Errorf("%d entries in all chains, want at least 3", len(got))
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	g := start(t)
	client := guidonv1connect.NewKeyServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	created, err := client.Create(t.Context(), &guidonv1.KeyServiceCreateRequest{
		Kind: "server", Environment: "staging", Name: "checkout", ExpiresAt: timestamppb.New(expires),
	})
	if err != nil {
		t.Fatal(err)
	}
	k, text := created.GetKey(), created.GetText()
	if !strings.HasPrefix(text, "gdn_server_") || !strings.HasSuffix(text, k.GetHint()) || len(k.GetHint()) != 4 || k.GetKind() != "server" ||
		k.GetEnvironment() != "staging" || k.GetName() != "checkout" || !k.GetExpiresAt().AsTime().Equal(expires) || !strings.HasPrefix(k.GetCreatedBy(), "key:") {
		t.Errorf("created %v", k)
	}
	if _, err := g.evaluations(text).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "a"}); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	listed, err := client.List(t.Context(), &guidonv1.KeyServiceListRequest{})
	if err != nil || len(listed.GetKeys()) != 2 {
		t.Fatalf("List = %v, %v, want two keys", listed, err)
	}
	if strings.Contains(fmt.Sprint(listed), text[11:30]) {
		t.Error("a list shows the text of a key")
	}
	revoked, err := client.Revoke(t.Context(), &guidonv1.KeyServiceRevokeRequest{Id: k.GetId()})
	if err != nil || !revoked.GetKey().GetRevokedAt().IsValid() {
		t.Errorf("Revoke = %v, %v, want a time of revocation", revoked, err)
	}
	storetest.Eventually(t, "the revoked key is refused", func() bool {
		_, err := g.evaluations(text).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "a"})
		return connect.CodeOf(err) == connect.CodeUnauthenticated
	})
}

func TestErase(t *testing.T) {
	t.Parallel()
	g := start(t)
	keys := guidonv1connect.NewKeyServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	made, err := keys.Create(t.Context(), &guidonv1.KeyServiceCreateRequest{Kind: "admin", Name: "Ada Lovelace"})
	if err != nil {
		t.Fatal(err)
	}
	if a := g.post(t, applyPath, made.GetText(), `{"operations":[{"putFlag":{"environment":"staging","key":"a","definition":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}}}],"reason":"ada lovelace wants it"}`); a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	client := guidonv1connect.NewAuditServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	newest := func() *guidonv1.AuditEntry {
		t.Helper()
		res, err := client.List(t.Context(), &guidonv1.AuditServiceListRequest{Environment: "staging"})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetEntries()[0]
	}
	if e := newest(); !strings.HasSuffix(e.GetActor(), " Ada Lovelace") || e.GetReason() != "ada lovelace wants it" {
		t.Errorf("the entry is by %q because %q", e.GetActor(), e.GetReason())
	}
	request := &guidonv1.AuditServiceEraseRequest{Person: "Ada Lovelace", Reason: "she asked", DryRun: true}
	for range 2 {
		res, err := client.Erase(t.Context(), request)
		if err != nil || res.GetNames() != 1 || res.GetReasons() != 1 || res.GetRows() < 3 {
			t.Fatalf("Erase = %v, %v, want a name, a reason, and rows of a key, a flag, a revision and a change set", res, err)
		}
		request.DryRun = false
	}
	if _, err := client.Erase(t.Context(), request); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("Erase of nobody: %v, want not found", err)
	}
	if e := newest(); !strings.HasSuffix(e.GetActor(), " erased") || e.GetReason() != "erased" {
		t.Errorf("the entry is by %q because %q, want both erased", e.GetActor(), e.GetReason())
	}
	for _, chain := range []string{"staging", ""} {
		res, err := client.Verify(t.Context(), &guidonv1.AuditServiceVerifyRequest{Environment: chain})
		if err != nil || res.GetOutcome() != "ok" {
			t.Errorf("Verify of %q = %v, %v", chain, res, err)
		}
	}
}
