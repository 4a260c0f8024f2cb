package guidon_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonserver "github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// The feed decodes what the hub encodes: from a change in Postgres to a request
// that goes from one service to another, through everything that is real.
func TestRoundTripWithTheServer(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	url, key := serve(t, db)

	// Enough that does not compress for a snapshot of several chunks.
	var many []store.Operation
	for i := range 60 {
		noise := make([]byte, 6<<10)
		_, _ = rand.Read(noise) // never fails
		many = append(many, put(fmt.Sprintf("flag-%03d", i), true, hex.EncodeToString(noise)))
	}
	apply(t, db, many...)
	first := apply(t, db, put("checkout", true, ""))
	ahead := openReal(t, url, key, first)
	if got := ahead.Status(); got.Environment != "staging" || ahead.Snapshot().Len() != 61 {
		t.Fatalf("Status() = %+v with %d flags, want staging with 61", got, ahead.Snapshot().Len())
	}

	// A request is rooted while checkout is on, and then it is switched off.
	carried := propagate.HTTPCarrier{}
	ahead.Propagator().Inject(ahead.Propagator().Root(t.Context(), map[string]any{"targetingKey": "ada"}), carried)
	apply(t, db, put("checkout", false, ""))
	newest := apply(t, db, put("search", true, ""))
	storetest.Eventually(t, "the newest revision by delta", func() bool { return ahead.Snapshot().Revision() == newest })

	// Whoever starts now has never seen the pin's revision.
	late := openReal(t, url, key, newest, guidon.WithMode(propagate.Internal))
	if late.Snapshot().Digest() != ahead.Snapshot().Digest() {
		t.Error("a snapshot and the deltas before it do not lead to the same digest")
	}
	request := late.Propagator().Extract(t.Context(), carried)
	cases := map[string]struct {
		ctx  context.Context
		flag string
		on   bool
		code eval.ErrorCode
	}{
		"switched off since the pin":     {request, "checkout", true, eval.CodeNone},
		"the same since before the pin":  {request, "flag-007", true, eval.CodeNone},
		"created since the pin":          {request, "search", false, eval.CodeNone},
		"never there":                    {request, "nothing", false, eval.CodeFlagNotFound},
		"a request of now, switched off": {t.Context(), "checkout", false, eval.CodeNone},
	}
	for name, c := range cases {
		var got propagate.Result
		storetest.Eventually(t, "an answer within the budget", func() bool { // on a busy machine the first may come too late for whoever asked
			got = late.Propagator().Evaluate(c.ctx, c.flag, eval.Boolean, nil)
			return !got.PinUnavailable
		})
		if on, _ := got.Boolean(); on != c.on || got.ErrorCode() != c.code || got.PinUnavailable {
			t.Errorf("%s: %s is %v at revision %d, %q, %q", name, c.flag, on, got.Revision, got.ErrorCode(), got.Message())
		}
	}
}

// serve runs Guidon on the database until the test ends, and gives its URL and a
// server key of staging.
func serve(t *testing.T, db *store.DB) (url, key string) {
	t.Helper()
	_, text, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: "test", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h := hub.New(hub.Config{Store: db, Log: log})
	s := guidonserver.New(guidonserver.Config{Store: db, Hub: h, Log: log})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	go func() { ended <- h.Run(ctx) }()
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the server ended with %v", err)
			}
		}
	})
	return "http://" + listener.Addr().String(), text.Reveal()
}

// openReal is a client that has reached a revision.
func openReal(t *testing.T, url, key string, revision int64, opts ...guidon.Option) *guidon.Client {
	t.Helper()
	client, err := guidon.Open(t.Context(), url, append(opts, guidon.WithKey(key))...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { _ = client.Close() })
	storetest.Eventually(t, "a client at the newest revision", func() bool { return client.Status().Revision >= revision })
	return client
}

func put(key string, on bool, note string) store.Operation {
	return store.PutFlag{
		Environment: "staging", Key: key, Project: "default", Kind: "release", Scope: "request", Type: "boolean",
		Definition: fmt.Appendf(nil, `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":%q,"metadata":{"note":%q}}`,
			map[bool]string{false: "off", true: "on"}[on], note),
	}
}

// apply makes one revision of staging.
func apply(t *testing.T, db *store.DB, operations ...store.Operation) int64 {
	t.Helper()
	applied, err := db.Apply(t.Context(), store.ChangeSet{Actor: "test", Reason: "test", Operations: operations})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return applied.Revisions["staging"]
}
