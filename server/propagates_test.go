package server_test

import (
	"strings"
	"testing"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"

	"github.com/guidon-flags/guidon/store"
)

// Clients of flagd and OFREP keep what is STATIC for whatever they ask next, which
// may have a pin: to a key whose callers have pins nothing of the kind is said,
// but for flags that no pin is for.
func TestPropagatingKeys(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		local := putFlag("production", "local", "on")
		local.GetPutFlag().Scope = "local"
		revision := g.apply(t, "production", putFlag("production", "a", "on"), local)
		_, propagating, err := g.db.CreateKey(t.Context(), store.NewKey{
			Kind: store.KeyServer, Environment: "production", Name: "cart", Actor: "test", Propagates: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			key, flag, flagd, ofrep string
		}{
			{g.key(t, store.KeyServer, "production"), "a", "STATIC", "STATIC"},
			{propagating.Reveal(), "a", "PINNED", "TARGETING_MATCH"},
			{propagating.Reveal(), "local", "STATIC", "STATIC"},
		} {
			for _, d := range dialects {
				got, err := g.flagdV2(t, d, tt.key).ResolveBoolean(t.Context(), asked(&evaluationv2.ResolveBooleanRequest{FlagKey: tt.flag}))
				if err != nil || !got.Msg.GetValue() || got.Msg.GetReason() != tt.flagd {
					t.Errorf("%s: %s = %v, %v, want reason %s", d.name, tt.flag, got, err, tt.flagd)
				}
			}
			want := `"key":"` + tt.flag + `","reason":"` + tt.ofrep + `"`
			if got := g.post(t, ofrepSingle+tt.flag, tt.key, `{}`); !strings.Contains(got.body, want) {
				t.Errorf("over OFREP: %s, want %s", got.body, want)
			}
			if got := g.post(t, ofrepBulk+atLeast(revision), tt.key, `{}`); !strings.Contains(got.body, want) {
				t.Errorf("over OFREP, all: %s, want %s", got.body, want)
			}
		}
	})
}

// Other kinds have no requests of their own.
func TestOnlyServerKeysPropagate(t *testing.T) {
	t.Parallel()
	g := start(t)
	for kind, want := range map[string]string{"server": "", "client": "invalid_argument", "relay": "invalid_argument"} {
		a := g.post(t, "/guidon.v1.KeyService/Create", g.admin, `{"kind":"`+kind+`","environment":"staging","name":"x","propagates":true}`)
		if a.code() != want || want == "" && !strings.Contains(a.body, `"propagates":true`) || want != "" && !strings.Contains(a.body, "propagates") {
			t.Errorf("a %s key that propagates: %d %s", kind, a.status, a.body)
		}
	}
}
