package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// member is a flag for the members of a segment.
func member(environment, key, segment string) *guidonv1.Operation {
	return putDefinition(environment, key, map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
		"targeting": map[string]any{"if": []any{map[string]any{"$ref": segment}, "on", "off"}},
	})
}

func segmentOf(environment, name string) *guidonv1.Operation {
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{
		Environment: environment, Name: name, Condition: structpb.NewBoolValue(true),
	}}}
}

// restricted makes a server key for some projects of an environment.
func (g *guidon) restricted(t testing.TB, environment string, projects ...string) string {
	t.Helper()
	_, text := g.create(t, store.NewKey{Kind: store.KeyServer, Environment: environment, Name: "test", Projects: projects})
	return text
}

// names are the rows of a snapshot.
func names(s *eval.Snapshot) []string {
	var out []string
	for row := range s.Rows() {
		if row.Kind != eval.KindSettings {
			out = append(out, row.Kind.String()+"/"+row.Name)
		}
	}
	return out
}

// TestViewOfProjects: a stream with a restricted key brings its projects' flags
// and what they read, has digests of its own and every revision, and is given
// keys that do not sign.
func TestViewOfProjects(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		basis := inProject("core", putFlag("production", "basis", "on"))
		needy := inProject("shop", putFlag("production", "needy", "on"))
		needy.GetPutFlag().Requires = &guidonv1.Requirements{Requirements: []*guidonv1.Requirement{{Flag: "basis", Variants: []string{"on"}}}}
		first := g.apply(t, "production",
			segmentOf("production", "people"), segmentOf("production", "robots"), basis,
			inProject("core", member("production", "secret", "robots")), inProject("shop", member("production", "cart", "people")), needy)
		key := g.restricted(t, "production", "shop")
		f, whole := g.follow(t, key, nil), g.follow(t, g.key(t, store.KeyServer, "production"), nil)
		if keys := f.hello.GetPropagationKeys(); keys.GetSigner() != "" || len(keys.GetKeys()) == 0 {
			t.Errorf("hello has the signer %q and %d keys, want none that signs", keys.GetSigner(), len(keys.GetKeys()))
		}
		f.reach(first)
		whole.reach(first)
		if got, want := names(f.snapshot), []string{"flag/basis", "flag/cart", "flag/needy", "segment/people"}; !slices.Equal(got, want) {
			t.Errorf("the view holds %q, want %q", got, want)
		}
		if f.snapshot.Digest() == whole.snapshot.Digest() {
			t.Error("the view has the digest of the environment")
		}
		for flag := range f.snapshot.Flags() {
			if flag.Err() != nil {
				t.Errorf("in the view %s: %v", flag.Key(), flag.Err())
			}
		}

		// A change to others is a revision without rows.
		digest := f.snapshot.Digest()
		foreign := g.apply(t, "production", inProject("core", putFlag("production", "secret", "off")))
		f.reach(foreign)
		if f.snapshots != 1 || f.deltas != 1 || f.snapshot.Digest() != digest || f.snapshot.Revision() != foreign {
			t.Errorf("after a change to others: %d snapshots, %d deltas, revision %d, want an empty delta to %d", f.snapshots, f.deltas, f.snapshot.Revision(), foreign)
		}
		own := g.apply(t, "production", inProject("shop", putFlag("production", "young", "on")))
		f.reach(own)
		if f.deltas != 2 || f.snapshot.Flag("young") == nil {
			t.Errorf("after a change of its own: %d deltas, holds %q", f.deltas, names(f.snapshot))
		}
		// A client that comes back gets the rest as one delta.
		back := f.snapshot
		g.apply(t, "production", inProject("core", putFlag("production", "basis", "off")))
		last := g.apply(t, "production", setState("production", "secret", "DISABLED"))
		f.reach(last) // its revisions have been made
		again := g.follow(t, key, back)
		again.reach(last)
		if again.snapshots != 0 || again.deltas != 1 {
			t.Errorf("two revisions behind: %d snapshots, %d deltas, want one merged delta", again.snapshots, again.deltas)
		}
		// What it did not read before may be older than what it has.
		older := g.apply(t, "production", inProject("shop", member("production", "young", "robots")))
		again.reach(older)
		if again.snapshots != 1 || again.snapshot.Flag("young").Err() != nil {
			t.Errorf("with a segment that others had: %d snapshots, %v", again.snapshots, again.snapshot.Flag("young").Err())
		}

		// Over a poll it is the same.
		poll, err := g.syncs(key).GetDelta(t.Context(), &guidonv1.SyncServiceGetDeltaRequest{Have: &guidonv1.SyncServiceSyncRequest{}})
		if err != nil || poll.GetEvents()[0].GetHello().GetPropagationKeys().GetSigner() != "" ||
			poll.GetEvents()[len(poll.GetEvents())-1].GetSnapshot().GetDigest() != again.snapshot.Digest().String() {
			t.Errorf("GetDelta = %v, %v, want the view", poll, err)
		}
		res, err := g.syncs(key).GetSnapshot(t.Context(), &guidonv1.SyncServiceGetSnapshotRequest{Revision: first})
		if err != nil || res.GetDigest() != digest.String() {
			t.Errorf("GetSnapshot at %d has digest %s, %v, want %s", first, res.GetDigest(), err, digest)
		}
	})
}

// TestForeignFlagIsUnknown: whatever a restricted key asks of another project's flag
// is answered as for one that never was.
func TestForeignFlagIsUnknown(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		first := g.apply(t, "production", inProject("core", putFlag("production", "secret", "on")), inProject("shop", putFlag("production", "cart", "on")))
		newest := g.apply(t, "production", inProject("core", putFlag("production", "secret", "off")), inProject("shop", putFlag("production", "cart", "off")))
		key := g.restricted(t, "production", "shop")
		syncs := g.syncs(key)
		for _, revision := range []int64{0, first, newest} {
			for _, nearest := range []bool{false, true} {
				definition := func(flag string) *guidonv1.SyncServiceGetDefinitionResponse {
					res, err := syncs.GetDefinition(t.Context(), &guidonv1.SyncServiceGetDefinitionRequest{Key: flag, Revision: revision, Nearest: nearest})
					if err != nil {
						t.Fatal(err)
					}
					return res
				}
				if got, want := definition("secret"), definition("nothing"); !proto.Equal(got, want) || len(got.GetRows()) != 0 {
					t.Errorf("GetDefinition at %d is %v, of what never was %v", revision, got, want)
				}
				if len(definition("cart").GetRows()) == 0 {
					t.Errorf("GetDefinition at %d does not know the key's own flag", revision)
				}
			}
		}
		g.apply(t, "production", setState("production", "cart", "ENABLED"))
		bodies := func(path, flag, body string) string {
			a := g.post(t, path, key, body)
			return strings.ReplaceAll(a.body, flag, "FLAG")
		}
		for _, revision := range []string{`"0"`, `"2"`} {
			evaluate := func(flag string) string {
				return bodies("/guidon.v1.EvaluationService/Evaluate", flag, `{"key":"`+flag+`","revision":`+revision+`}`)
			}
			if got, want := evaluate("secret"), evaluate("nothing"); got != want || !strings.Contains(got, "FLAG_NOT_FOUND") {
				t.Errorf("Evaluate at %s: %s, of what never was %s", revision, got, want)
			}
			explain := func(flag string) string {
				return bodies("/guidon.v1.EvaluationService/Explain", flag, `{"key":"`+flag+`","revision":`+revision+`}`)
			}
			if got, want := explain("secret"), explain("nothing"); got != want || !strings.Contains(got, "FLAG_NOT_FOUND") {
				t.Errorf("Explain at %s: %s, of what never was %s", revision, got, want)
			}
			if all := g.post(t, "/guidon.v1.EvaluationService/EvaluateAll", key, `{"revision":`+revision+`}`); strings.Contains(all.body, "secret") || !strings.Contains(all.body, "cart") {
				t.Errorf("EvaluateAll at %s: %s", revision, all.body)
			}
		}
		if got, want := bodies(ofrepSingle+"secret", "secret", `{}`), bodies(ofrepSingle+"nothing", "nothing", `{}`); got != want || !strings.Contains(got, "FLAG_NOT_FOUND") {
			t.Errorf("OFREP: %s, of what never was %s", got, want)
		}
		if all := g.post(t, ofrepBulk, key, `{}`); strings.Contains(all.body, "secret") || !strings.Contains(all.body, `"cart"`) {
			t.Errorf("OFREP, all: %s", all.body)
		}
		selected := g.post(t, ofrepBulk, key, `{}`, "Flagd-Selector", "flagSetId=core")
		if strings.Contains(selected.body, "secret") {
			t.Errorf("OFREP, by selector: %s", selected.body)
		}
		_, err := g.flagdV2(t, dialects[0], key).ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "secret"}))
		_, never := g.flagdV2(t, dialects[0], key).ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: "nothing"}))
		if err == nil || never == nil || connect.CodeOf(err) != connect.CodeOf(never) || strings.ReplaceAll(err.Error(), "secret", "nothing") != never.Error() {
			t.Errorf("flagd: %v, of what never was %v", err, never)
		}
		fetched, err := syncv1connect.NewFlagSyncServiceClient(http.DefaultClient, g.url, withKey(key)).
			FetchAllFlags(t.Context(), asked(&syncv1.FetchAllFlagsRequest{}))
		if err != nil || strings.Contains(fetched.Msg.GetFlagConfiguration(), "secret") || !strings.Contains(fetched.Msg.GetFlagConfiguration(), "cart") {
			t.Errorf("flagd's document: %v, %v", fetched, err)
		}
	})
}

// TestPinnedProjects: a service without an engine gets its own flags at the pin
// of a request, and nothing of others, whatever the header carries.
func TestPinnedProjects(t *testing.T) {
	t.Parallel()
	g := start(t)
	pinned := g.apply(t, "staging", inProject("core", putFlag("staging", "secret", "on")), inProject("shop", putFlag("staging", "cart", "on")))
	header := g.rootedHeader(t, g.key(t, store.KeyServer, "staging"), `{"targetingKey":"ann"}`)
	g.apply(t, "staging", putFlag("staging", "cart", "off"))
	g.kill(t, "secret")
	key := g.restricted(t, "staging", "shop")
	for flag, want := range map[string]string{"cart": `"variant":"on"`, "secret": "FLAG_NOT_FOUND"} {
		if got := g.post(t, ofrepSingle+flag, key, `{}`, "Guidon", header); !strings.Contains(got.body, want) {
			t.Errorf("%s at the pin: %s, want %s", flag, got.body, want)
		}
	}
	all := g.post(t, ofrepBulk, key, `{}`, "Guidon", header)
	if strings.Contains(all.body, "secret") || !strings.Contains(all.body, `"cart"`) {
		t.Errorf("all at pin %d: %s", pinned, all.body)
	}
}

// TestEmergenciesOfProjects: a view has those of its flags, also when they are
// gone, and the kills of others only as revisions.
func TestEmergenciesOfProjects(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", inProject("core", putFlag("staging", "secret", "on")), inProject("shop", putFlag("staging", "cart", "on")))
	key := g.restricted(t, "staging", "shop")
	f := g.follow(t, key, nil)
	f.reach(g.kill(t, "secret"))
	if f.emergencies != 0 || f.snapshot.Emergencies().Newest() != 0 {
		t.Errorf("the kill of another project's flag came along: %q", names(f.snapshot))
	}
	killed := g.kill(t, "cart")
	f.reach(killed)
	if f.emergencies != 1 || f.snapshot.Emergencies().Newest() != killed {
		t.Errorf("%d emergencies came, the newest of %d, want one of %d", f.emergencies, f.snapshot.Emergencies().Newest(), killed)
	}
	for _, flag := range []string{"cart", "secret"} {
		g.remove(t, flag)
	}
	f.reach(g.apply(t, "staging", inProject("core", putFlag("staging", "other", "on"))))
	if got, want := names(f.snapshot), []string{"emergency/cart"}; !slices.Equal(got, want) {
		t.Errorf("after its flag is gone the view holds %q, want %q", got, want)
	}
	res, err := g.syncs(key).GetEmergencies(t.Context(), &guidonv1.SyncServiceGetEmergenciesRequest{})
	if err != nil || len(res.GetRows()) != 1 || res.GetRows()[0].GetName() != "cart" || res.GetRevision() != f.snapshot.Revision() {
		t.Errorf("GetEmergencies = %v, %v", res, err)
	}
}

// remove archives a flag of staging and deletes it.
func (g *guidon) remove(t testing.TB, key string) {
	t.Helper()
	g.apply(t, "staging", &guidonv1.Operation{Operation: &guidonv1.Operation_ArchiveFlag{ArchiveFlag: &guidonv1.ArchiveFlag{Key: key}}})
	g.apply(t, "staging", &guidonv1.Operation{Operation: &guidonv1.Operation_DeleteFlag{DeleteFlag: &guidonv1.DeleteFlag{Key: key}}})
}

// TestWhatRestrictedKeysMayNot: what cannot leave out other projects, and what
// signs.
func TestWhatRestrictedKeysMayNot(t *testing.T) {
	t.Parallel()
	g := start(t)
	first := g.apply(t, "staging", inProject("core", putFlag("staging", "secret", "on")), inProject("shop", putFlag("staging", "cart", "on")))
	key := g.restricted(t, "staging", "shop")
	for path, body := range map[string]string{
		statePath: `{}`, "/guidon.v1.FlagService/List": `{}`, "/guidon.v1.FlagService/Get": `{"key":"secret"}`,
		"/guidon.v1.SegmentService/List": `{}`, "/guidon.v1.HeaderService/Explain": `{"header":"x"}`, "/guidon.v1.HeaderService/Verify": `{"header":"x"}`,
		"/guidon.v1.EnvironmentService/Get": `{}`,
	} {
		if a := g.post(t, path, key, body); a.code() != "permission_denied" {
			t.Errorf("%s: %d %s, want permission_denied", path, a.status, a.body)
		}
	}
	if a := g.do(t, http.MethodGet, "/guidon/v1/environments/staging/revisions/2", "", "X-API-Key", key); a.code() != "permission_denied" {
		t.Errorf("revision %d whole: %d %s, want permission_denied", first, a.status, a.body)
	}
}

// TestViewOfClientKeys: a restricted client key sees the client-visible flags of
// its projects.
func TestViewOfClientKeys(t *testing.T) {
	t.Parallel()
	g := start(t)
	visible := true
	put := func(project, key string, shown *bool) *guidonv1.Operation {
		o := inProject(project, putFlag("staging", key, "on"))
		o.GetPutFlag().ClientVisible = shown
		return o
	}
	g.apply(t, "staging", put("core", "secret", &visible), put("shop", "cart", &visible), put("shop", "inside", nil))
	_, key := g.create(t, store.NewKey{Kind: store.KeyClient, Environment: "staging", Name: "app", Projects: []string{"shop"}})
	all := g.post(t, ofrepBulk, key, `{}`)
	if strings.Contains(all.body, `"secret"`) || strings.Contains(all.body, `"inside"`) || !strings.Contains(all.body, `"cart"`) {
		t.Errorf("all: %s", all.body)
	}
}

// TestViewsAreShared: who sees the same gets the same bytes.
func TestViewsAreShared(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Heartbeat = time.Minute })
	g.apply(t, "staging", inProject("core", putFlag("staging", "secret", "on")), inProject("shop", putFlag("staging", "cart", "on")))
	e, err := g.hub.Environment("staging")
	if err != nil {
		t.Fatal(err)
	}
	one := viewOf(e, "shop", "core")
	if one != viewOf(e, "core", "shop", "core") || one == viewOf(e, "shop") || viewOf(e) != e.Head() {
		t.Error("the same projects have two heads, or others the same")
	}
	if one.Keys() != viewOf(e, "shop", "core").Keys() {
		t.Error("the same keys are two messages")
	}
	for i := range 300 { // more than are kept
		viewOf(e, "shop", string(rune('a'+i%26))+strings.Repeat("x", i))
	}
	if again := viewOf(e, "shop", "core"); again.Digest() != one.Digest() {
		t.Errorf("made anew it has digest %s, want %s", again.Digest(), one.Digest())
	}
}

func viewOf(e *hub.Environment, projects ...string) *hub.Head {
	return e.HeadFor(hub.NewProjects(projects))
}
