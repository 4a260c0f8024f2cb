package guidon_test

import (
	"fmt"
	"testing"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
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
