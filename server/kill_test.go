package server_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// kill makes flags of staging serve their variant off.
func (g *guidon) kill(t testing.TB, keys ...string) int64 {
	t.Helper()
	req := &guidonv1.ChangeServiceKillRequest{Environment: "staging", Reason: "it burns"}
	for _, key := range keys {
		req.Kills = append(req.Kills, &guidonv1.Kill{Key: key, Variant: "off"})
	}
	res, err := g.changes(g.admin).Kill(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return res.GetRevision()
}

// TestKill: one kill of two flags is one revision, reaches the stream, is shown
// with the flag, and is outlived by edits.
func TestKill(t *testing.T) {
	t.Parallel()
	g := start(t)
	seen := g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(seen)
	killed := g.kill(t, "a", "b")
	if killed != seen+1 {
		t.Errorf("the kill made revision %d, want %d", killed, seen+1)
	}
	f.reach(killed)
	if f.emergencies == 0 {
		t.Error("nothing told of the kill ahead of the delta")
	}
	if e, ok := f.snapshot.Emergencies().After("a", seen); !ok || e.Revision != killed || e.Variant != "off" || e.Value() != false {
		t.Errorf("the stream brought emergency %+v, %v, want off at %d", e, ok, killed)
	}
	g.apply(t, "staging", setState("staging", "a", "DISABLED"))
	res, err := g.flags(g.admin).Get(t.Context(), &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	got := res.GetFlag().GetKilled()
	want := &guidonv1.Killed{Revision: killed, Variant: "off", Value: structpb.NewBoolValue(false), Reason: "it burns"}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(want, "at", "by")); diff != "" || !got.GetAt().IsValid() || !strings.HasPrefix(got.GetBy(), "key:") {
		t.Errorf("killed by %q at %v (-want +got):\n%s", got.GetBy(), got.GetAt(), diff)
	}
	if res.GetFlag().GetState() != "DISABLED" || res.GetFlag().GetDefaultVariant() != "on" {
		t.Errorf("state %s, default %s, want those of the definition", res.GetFlag().GetState(), res.GetFlag().GetDefaultVariant())
	}

	unkilled, err := g.changes(g.admin).Unkill(t.Context(), &guidonv1.ChangeServiceUnkillRequest{Environment: "staging", Keys: []string{"a", "b"}})
	if err != nil || unkilled.GetRevision() != killed+2 {
		t.Fatalf("Unkill = %v, %v", unkilled, err)
	}
	history, err := g.flags(g.admin).History(t.Context(), &guidonv1.FlagServiceHistoryRequest{Environment: "staging", Key: "a"})
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, v := range history.GetVersions() {
		versions = append(versions, v.GetFlag().GetState()+" "+v.GetFlag().GetKilled().GetVariant()+" "+v.GetReason())
	}
	if want := []string{"DISABLED  ", "DISABLED off a test", "ENABLED off it burns", "ENABLED  a test"}; !cmp.Equal(versions, want) {
		t.Errorf("history %q, want %q", versions, want)
	}
	f.reach(unkilled.GetRevision())
	if _, ok := f.snapshot.Emergencies().After("a", seen); !ok {
		t.Error("after the unkill the emergency is gone for requests of before")
	}
}

func TestBadKills(t *testing.T) {
	t.Parallel()
	g := start(t)
	never := "never"
	drained := putFlag("staging", "drained", "on")
	drained.GetPutFlag().Pierce = &never
	g.apply(t, "staging", putFlag("staging", "a", "on"), drained, putFlag("production", "a", "on"))
	key := g.key(t, store.KeyServer, "staging")
	before := g.mark(t)
	const kill, unkill = "/guidon.v1.ChangeService/Kill", "/guidon.v1.ChangeService/Unkill"
	for name, tt := range map[string]struct {
		path, body, key string
		code, says      string
	}{
		"unknown environment":         {kill, `{"environment":"nowhere","kills":[{"key":"a","variant":"off"}],"reason":"x"}`, g.admin, "not_found", "nowhere"},
		"no environment":              {kill, `{"kills":[{"key":"a","variant":"off"}],"reason":"x"}`, g.admin, "invalid_argument", "environment"},
		"no flags":                    {kill, `{"environment":"staging","reason":"x"}`, g.admin, "invalid_argument", "kills"},
		"no reason":                   {kill, `{"environment":"staging","kills":[{"key":"a","variant":"off"}],"reason":" "}`, g.admin, "invalid_argument", "reason"},
		"unknown flag":                {kill, `{"environment":"staging","kills":[{"key":"z","variant":"off"}],"reason":"x"}`, g.admin, "not_found", "z"},
		"second flag is unknown":      {kill, `{"environment":"staging","kills":[{"key":"a","variant":"off"},{"key":"z","variant":"off"}],"reason":"x"}`, g.admin, "not_found", "operation 1"},
		"unknown variant":             {kill, `{"environment":"staging","kills":[{"key":"a","variant":"z"}],"reason":"x"}`, g.admin, "invalid_argument", "variant"},
		"no variant":                  {kill, `{"environment":"staging","kills":[{"key":"a"}],"reason":"x"}`, g.admin, "invalid_argument", "variant"},
		"pierce is never":             {kill, `{"environment":"staging","kills":[{"key":"drained","variant":"off"}],"reason":"x"}`, g.admin, "failed_precondition", "new roots only"},
		"NUL":                         {kill, `{"environment":"staging","kills":[{"key":"a\u0000","variant":"off"}],"reason":"x"}`, g.admin, "invalid_argument", "kills[0].key"},
		"with a server key":           {kill, `{"environment":"staging","kills":[{"key":"a","variant":"off"}],"reason":"x"}`, key, "permission_denied", ""},
		"rehearsed":                   {kill, `{"environment":"staging","kills":[{"key":"a","variant":"off"}],"reason":"x","dryRun":true}`, g.admin, "", `"killed"`},
		"unkill, unknown environment": {unkill, `{"environment":"nowhere","keys":["a"]}`, g.admin, "not_found", "nowhere"},
		"unkill, no flags":            {unkill, `{"environment":"staging"}`, g.admin, "invalid_argument", "keys"},
		"unkill, unknown flag":        {unkill, `{"environment":"staging","keys":["z"]}`, g.admin, "not_found", "z"},
		"unkill, no reason":           {unkill, `{"environment":"production","keys":["a"]}`, g.admin, "invalid_argument", "reason"},
		"unkill, not killed":          {unkill, `{"environment":"staging","keys":["a"]}`, g.admin, "", `"unchanged"`},
		"unkill, with a server key":   {unkill, `{"environment":"staging","keys":["a"]}`, key, "permission_denied", ""},
		"apply, no variant":           {applyPath, `{"operations":[{"killFlag":{"environment":"staging","key":"a"}}]}`, g.admin, "invalid_argument", "variant"},
		"apply, unknown flag":         {applyPath, `{"operations":[{"unkillFlag":{"environment":"staging","key":"z"}}]}`, g.admin, "not_found", "z"},
		"apply, bad pierce":           {applyPath, `{"operations":[{"setAttributes":{"environment":"staging","key":"a","pierce":"x"}}]}`, g.admin, "invalid_argument", "pierce"},
	} {
		if a := g.post(t, tt.path, tt.key, tt.body); a.code() != tt.code || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %d %.300q, want %q with %q", name, a.status, a.body, tt.code, tt.says)
		}
	}
	g.unchanged(t, before)
}
