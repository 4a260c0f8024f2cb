package server_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

func (g *guidon) overrides(key string) guidonv1connect.OverrideServiceClient {
	return guidonv1connect.NewOverrideServiceClient(http.DefaultClient, g.url, withKey(key))
}

// putOverridable is an operation that puts a flag which overrides may force.
func putOverridable(environment, key string) *guidonv1.Operation {
	operation, yes := putFlag(environment, key, "off"), true
	operation.GetPutFlag().Overridable = &yes
	return operation
}

// awaitOverrides reads events until one with override keys comes.
func (f *follower) awaitOverrides() *guidonv1.OverrideKeys {
	f.t.Helper()
	for {
		if keys := f.receive().GetOverrideKeys(); keys != nil {
			return keys
		}
	}
}

// TestOverride: a token verifies with the key that the stream brings, and its
// revocation comes the same way, at once.
func TestOverride(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putOverridable("staging", "a"))
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	if keys := f.hello.GetOverrideKeys(); keys == nil || len(keys.GetKeys())+len(keys.GetRevokedOverrides()) != 0 {
		t.Errorf("hello with override keys %v, want none, said", keys)
	}
	made, err := g.overrides(g.admin).Create(t.Context(), &guidonv1.OverrideServiceCreateRequest{
		Environment: "staging", Flag: "a", Variant: "on", Audience: "shop.example.com", Lifetime: durationpb.New(24 * time.Hour), Reason: "to see",
	})
	if err != nil {
		t.Fatal(err)
	}
	o := made.GetOverride()
	keys := f.awaitOverrides()
	if len(keys.GetKeys()) != 1 || len(keys.GetRevokedOverrides()) != 0 {
		t.Fatalf("the stream brings %v, want one key", keys)
	}
	signed, signature, _ := strings.Cut(o.GetToken(), ";s=:")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(signature, ":"))
	if err != nil || !ed25519.Verify(keys.GetKeys()[0].GetPublicKey(), []byte("guidon-override/1\n"+signed), raw) {
		t.Errorf("token %s does not verify with the key of the stream: %v", o.GetToken(), err)
	}
	if !strings.Contains(signed, `;i="`+keys.GetKeys()[0].GetId()+`"`) || !strings.Contains(signed, `;n="`+o.GetId()+`";`) {
		t.Errorf("token %s, want key %s and override %s in it", signed, keys.GetKeys()[0].GetId(), o.GetId())
	}

	listed, err := g.overrides(g.admin).List(t.Context(), &guidonv1.OverrideServiceListRequest{Environment: "staging"})
	if err != nil || len(listed.GetOverrides()) != 1 || listed.GetOverrides()[0].GetToken() != o.GetToken() {
		t.Errorf("List = %v, %v, want the override with the same token", listed, err)
	}
	if _, err := g.overrides(g.admin).Revoke(t.Context(), &guidonv1.OverrideServiceRevokeRequest{Id: o.GetId(), Reason: "seen"}); err != nil {
		t.Fatal(err)
	}
	if keys := f.awaitOverrides(); !slices.Equal(keys.GetRevokedOverrides(), []string{o.GetId()}) || len(keys.GetKeys()) != 1 {
		t.Errorf("after the revocation the stream brings %v, want the override's ID", keys)
	}
	if later := g.follow(t, g.key(t, store.KeyServer, "staging"), nil); !slices.Equal(later.hello.GetOverrideKeys().GetRevokedOverrides(), []string{o.GetId()}) {
		t.Errorf("a later hello says %v, want the override's ID", later.hello.GetOverrideKeys())
	}
	if listed, err = g.overrides(g.admin).List(t.Context(), &guidonv1.OverrideServiceListRequest{}); err != nil || len(listed.GetOverrides()) != 0 {
		t.Errorf("List = %v, %v, want no live override", listed, err)
	}
	listed, err = g.overrides(g.admin).List(t.Context(), &guidonv1.OverrideServiceListRequest{IncludeEnded: true})
	if err != nil || len(listed.GetOverrides()) != 1 || listed.GetOverrides()[0].GetToken() != "" || listed.GetOverrides()[0].GetRevokedAt() == nil {
		t.Errorf("List of all = %v, %v, want the revoked override without a token", listed, err)
	}
	if other := g.follow(t, g.key(t, store.KeyServer, "production"), nil); len(other.hello.GetOverrideKeys().GetKeys()) != 0 {
		t.Errorf("another environment knows of %v", other.hello.GetOverrideKeys())
	}
}

// TestOverrideOfALongName: whoever made it, the token can be written.
func TestOverrideOfALongName(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putOverridable("staging", "a"))
	_, text, err := g.db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyAdmin, Name: strings.Repeat("“", 66), Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	made, err := g.overrides(text.Reveal()).Create(t.Context(), &guidonv1.OverrideServiceCreateRequest{
		Environment: "staging", Flag: "a", Variant: "on", Audience: "localhost",
	})
	if err != nil || len(made.GetOverride().GetToken()) > 1024 {
		t.Errorf("a token of %d bytes, %v", len(made.GetOverride().GetToken()), err)
	}
}

func TestBadOverrides(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putOverridable("staging", "a"), putFlag("staging", "b", "on"), putOverridable("production", "a"))
	before := g.mark(t)
	const create, list, revoke = "/guidon.v1.OverrideService/Create", "/guidon.v1.OverrideService/List", "/guidon.v1.OverrideService/Revoke"
	asked := func(more string) string {
		return `{"environment":"staging","flag":"a","variant":"on","audience":"shop.example.com"` + more + `}`
	}
	for name, tt := range map[string]struct {
		path, body string
		code       string
		says       string
	}{
		"unknown environment":       {create, strings.Replace(asked(""), "staging", "nowhere", 1), "not_found", "nowhere"},
		"no environment":            {create, strings.Replace(asked(""), "staging", "", 1), "invalid_argument", "environment"},
		"unknown flag":              {create, strings.Replace(asked(""), `"a"`, `"z"`, 1), "not_found", `\"z\"`},
		"not overridable":           {create, strings.Replace(asked(""), `"a"`, `"b"`, 1), "failed_precondition", "not overridable"},
		"bad flag key":              {create, strings.Replace(asked(""), `"a"`, `"a b"`, 1), "invalid_argument", "flag"},
		"unknown variant":           {create, strings.Replace(asked(""), `"on"`, `"maybe"`, 1), "invalid_argument", "maybe"},
		"no variant":                {create, strings.Replace(asked(""), `"on"`, `""`, 1), "invalid_argument", "variant"},
		"audience with a port":      {create, strings.Replace(asked(""), `.com`, `.com:80`, 1), "invalid_argument", "audience"},
		"audience is a URL":         {create, strings.Replace(asked(""), `shop.`, `https://shop.`, 1), "invalid_argument", "audience"},
		"no audience":               {create, strings.Replace(asked(""), `shop.example.com`, ``, 1), "invalid_argument", "audience"},
		"a day and a second":        {create, asked(`,"lifetime":"86401s"`), "invalid_argument", "lifetime"},
		"no time":                   {create, asked(`,"lifetime":"0s"`), "invalid_argument", "lifetime"},
		"negative time":             {create, asked(`,"lifetime":"-60s"`), "invalid_argument", "lifetime"},
		"half a minute":             {create, asked(`,"lifetime":"30s"`), "invalid_argument", "lifetime"},
		"all the time there is":     {create, asked(`,"lifetime":"315576000000s"`), "invalid_argument", "lifetime"},
		"more than that":            {create, asked(`,"lifetime":"315576000001s"`), "invalid_argument", "out of range"},
		"protected, no reason":      {create, strings.Replace(asked(""), "staging", "production", 1), "invalid_argument", "reason"},
		"NUL":                       {create, asked(`,"reason":"\u0000"`), "invalid_argument", "reason"},
		"unknown field":             {create, asked(`,"host":"x"`), "invalid_argument", "host"},
		"list, unknown environment": {list, `{"environment":"nowhere"}`, "not_found", "nowhere"},
		"list, page":                {list, `{"pageSize":1001}`, "invalid_argument", "page_size"},
		"list, token":               {list, `{"pageToken":"%%%"}`, "invalid_argument", "page_token"},
		"revoke, unknown":           {revoke, `{"id":"01a208dc-dc3b-78ca-b50e-483f46a91d3a"}`, "not_found", ""},
		"revoke, not an ID":         {revoke, `{"id":"x"}`, "not_found", ""},
		"revoke, nothing":           {revoke, `{}`, "not_found", ""},
	} {
		a := g.post(t, tt.path, g.admin, tt.body)
		if a.code() != tt.code || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %d %.300q, want %s with %q", name, a.status, a.body, tt.code, tt.says)
		}
	}
	if _, err := g.overrides(g.key(t, store.KeyServer, "staging")).List(t.Context(), &guidonv1.OverrideServiceListRequest{}); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("List with a server key: %v, want permission_denied", err)
	}
	before.entries++ // the key
	g.unchanged(t, before)
}
