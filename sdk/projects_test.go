package guidon_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// owned is put for another project than the default.
func owned(project, key string, on bool) store.Operation {
	o := put(key, on, "").(store.PutFlag)
	o.Project = project
	return o
}

// A service whose key is restricted to some projects follows the requests of
// others, evaluates its own flags at their pin, and passes their headers on to
// the byte; it mints none, and knows nothing of other projects.
func TestRestrictedService(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	url, key := serve(t, db)
	first := apply(t, db, owned("core", "secret", true), owned("shop", "cart", true), owned("shop", "doomed", true))
	_, text, err := db.CreateKey(t.Context(), store.NewKey{
		Kind: store.KeyServer, Environment: "staging", Name: "shop", Actor: "test", Projects: []string{"shop"},
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := openReal(t, url, key, first, guidon.WithMode(propagate.Internal))
	shop := openReal(t, url, text.Reveal(), first, guidon.WithMode(propagate.Internal))
	if got := shop.Snapshot(); got.Flag("secret") != nil || got.Flag("cart") == nil || got.Digest() == whole.Snapshot().Digest() {
		t.Errorf("the service holds %d flags with digest %s", got.Len(), got.Digest())
	}

	// Requests of before, one of which knows of a kill in another project.
	carried, warned := propagate.HTTPCarrier{}, propagate.HTTPCarrier{}
	root := whole.Propagator().Root(t.Context(), map[string]any{"targetingKey": "ada"})
	whole.Propagator().Inject(root, carried)
	apply(t, db, store.KillFlag{Environment: "staging", Key: "secret", Variant: "off"})
	killed := apply(t, db, owned("shop", "cart", false))
	storetest.Eventually(t, "the kill", func() bool { return whole.Snapshot().Revision() == killed })
	whole.Propagator().Inject(root, warned)
	if h, err := propagate.Decode(warned.Values(propagate.HeaderName)[0]); err != nil || h.Known == 0 || len(h.Decisions) != 1 {
		t.Fatalf("the header %v, %v does not tell of the kill", h, err)
	}
	doomed := apply(t, db, store.KillFlag{Environment: "staging", Key: "doomed", Variant: "off"})
	newest := apply(t, db, owned("core", "other", true)) // nothing that the service sees
	storetest.Eventually(t, "a revision that is empty here", func() bool { return shop.Status().Revision == newest })
	if n := shop.FeedStats().DigestMismatches.Load(); n != 0 {
		t.Errorf("%d deltas did not have their digest", n)
	}

	p := shop.Propagator()
	for name, carrier := range map[string]propagate.HTTPCarrier{"of before": carried, "that knows of the kill": warned} {
		ctx := p.Extract(t.Context(), carrier)
		for flag, want := range map[string]string{"cart": "on pin ", "doomed": "off emergency ", "secret": " none FLAG_NOT_FOUND", "nothing": " none FLAG_NOT_FOUND"} {
			var got propagate.Result
			storetest.Eventually(t, "an answer within the budget", func() bool {
				got = p.Evaluate(ctx, flag, eval.Boolean, nil)
				return !got.PinUnavailable
			})
			if said := fmt.Sprintf("%s %s %s", got.Variant(), got.Origin, got.ErrorCode()); said != want {
				t.Errorf("a request %s: %s is %q, want %q", name, flag, said, want)
			}
		}
		forwarded := propagate.HTTPCarrier{}
		p.Inject(ctx, forwarded)
		if got, want := forwarded.Values(propagate.HeaderName), carrier.Values(propagate.HeaderName); len(got) != 1 || got[0] != want[0] {
			t.Errorf("a request %s went on with %q, came with %q", name, got, want)
		}
		if value, ok := p.Seen(ctx); ok {
			t.Errorf("a request %s is answered with %q, which it cannot sign", name, value)
		}
		// The next service knows more, and tells: of the kill in the service's own
		// project, too, which it could not sign.
		next := whole.Propagator().Extract(t.Context(), forwarded)
		if got := whole.Propagator().Evaluate(next, "doomed", eval.Boolean, nil); got.Variant() != "off" || got.Revision != doomed {
			t.Errorf("below, doomed is %q of revision %d, want off of %d", got.Variant(), got.Revision, doomed)
		}
	}

	// What it roots stays here, and is counted.
	minted := propagate.HTTPCarrier{}
	own := p.Root(t.Context(), map[string]any{"targetingKey": "ada"})
	p.Inject(own, minted)
	if values := minted.Values(propagate.HeaderName); len(values) != 0 {
		t.Errorf("minted %q", values)
	}
	if got := p.Evaluate(own, "cart", eval.Boolean, nil); got.Variant() != "off" {
		t.Errorf("in a request of its own cart is %q, want off", got.Variant())
	}
	if n := p.Stats().Events[propagate.NotMinted]; n == 0 {
		t.Error("that no header was minted was not counted")
	}
}

// Overrides reach an edge whose key is restricted: for its own flags it takes
// them, for those of other projects it does not know the flag, and hands nothing
// on, for it signs nothing. Behind an edge that signs it does as that says.
func TestOverridesAtARestrictedEdge(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	url, key := serve(t, db)
	overridable := func(project, flag string) store.Operation {
		o, yes := owned(project, flag, false).(store.PutFlag), true
		o.Overridable = &yes
		return o
	}
	first := apply(t, db, overridable("core", "secret"), overridable("shop", "cart"), owned("shop", "plain", false))
	_, text, err := db.CreateKey(t.Context(), store.NewKey{
		Kind: store.KeyServer, Environment: "staging", Name: "shop", Actor: "test", Projects: []string{"shop"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, admin, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyAdmin, Name: "admin", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	shop, whole := openReal(t, url, text.Reveal(), first), openReal(t, url, key, first) // the server has its flags then
	overrides := guidonv1connect.NewOverrideServiceClient(http.DefaultClient, url, connect.WithInterceptors(auth.Bearer(admin.Reveal())))
	var tokens, ids []string
	for _, flag := range []string{"secret", "cart"} {
		made, err := overrides.Create(t.Context(), &guidonv1.OverrideServiceCreateRequest{
			Environment: "staging", Flag: flag, Variant: "on", Audience: "shop.example", Reason: "a test",
		})
		if err != nil {
			t.Fatal(err)
		}
		tokens, ids = append(tokens, made.GetOverride().GetToken()), append(ids, made.GetOverride().GetId())
	}
	inside := openReal(t, url, text.Reveal(), first, guidon.WithMode(propagate.Internal))

	// request is what a handler behind the middleware of an edge finds, and what it
	// would send on.
	request := func(edge *guidon.Client) (said map[string]string, sent propagate.HTTPCarrier) {
		said, sent = map[string]string{}, propagate.HTTPCarrier{}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example/", http.NoBody)
		r.Header["Guidonoverride"] = tokens
		edge.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			for _, flag := range []string{"secret", "cart", "plain"} {
				got := edge.Propagator().Evaluate(r.Context(), flag, eval.Boolean, nil)
				said[flag] = fmt.Sprintf("%s %s %s", got.Variant(), got.Origin, got.ErrorCode())
			}
			edge.Propagator().Inject(r.Context(), sent)
		})).ServeHTTP(httptest.NewRecorder(), r)
		return said, sent
	}
	for name, c := range map[string]struct {
		edge *guidon.Client
		want map[string]string
		sent bool
	}{
		"restricted": {shop, map[string]string{"secret": " none FLAG_NOT_FOUND", "cart": "on override ", "plain": "off pin "}, false},
		"whole":      {whole, map[string]string{"secret": "on override ", "cart": "on override ", "plain": "off pin "}, true},
	} {
		var said map[string]string
		var sent propagate.HTTPCarrier
		storetest.Eventually(t, "the edge has heard of the key of the tokens", func() bool { said, sent = request(c.edge); return said["cart"] == "on override " })
		if diff := cmp.Diff(c.want, said); diff != "" || (len(sent.Values(propagate.HeaderName)) > 0) != c.sent {
			t.Errorf("at the %s edge, which sends %v (-want +got):\n%s", name, sent, diff)
		}
		if !c.sent {
			continue
		}
		ctx, forwarded := inside.Propagator().Extract(t.Context(), sent), propagate.HTTPCarrier{}
		for flag, want := range map[string]string{"secret": " none FLAG_NOT_FOUND", "cart": "on override ", "plain": "off pin "} {
			got := inside.Propagator().Evaluate(ctx, flag, eval.Boolean, nil)
			if said := fmt.Sprintf("%s %s %s", got.Variant(), got.Origin, got.ErrorCode()); said != want {
				t.Errorf("behind the edge %s is %q, want %q", flag, said, want)
			}
		}
		inside.Propagator().Inject(ctx, forwarded)
		if got, want := forwarded.Values(propagate.HeaderName), sent.Values(propagate.HeaderName); !slices.Equal(got, want) {
			t.Errorf("%q went on with %q", want, got)
		}
	}
	if n := shop.Propagator().Stats().Overrides[propagate.OverrideNotApplicable]; n == 0 {
		t.Error("that an override of another project's flag does not apply was not counted")
	}
	if _, err := overrides.Revoke(t.Context(), &guidonv1.OverrideServiceRevokeRequest{Id: ids[1], Reason: "seen"}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the restricted edge has heard that the override is over", func() bool { said, _ := request(shop); return said["cart"] == "off pin " })
}
