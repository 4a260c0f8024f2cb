package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func (g *guidon) environments(key string) guidonv1connect.EnvironmentServiceClient {
	return guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, g.url, withKey(key))
}

// awaitKeys reads events until one with propagation keys comes.
func (f *follower) awaitKeys() *guidonv1.PropagationKeys {
	f.t.Helper()
	for {
		if keys := f.receive().GetPropagationKeys(); keys != nil {
			return keys
		}
	}
}

// quickRotations has new keys sign as soon as everybody has them.
func quickRotations(o *options) {
	o.server.KeyWait, o.server.Recheck = time.Nanosecond, 5*time.Millisecond
}

// TestRotation: a new key is handed out first, and signs when the last of the
// connected instances has acknowledged it, not before.
func TestRotation(t *testing.T) {
	t.Parallel()
	g := start(t, quickRotations)
	key := g.key(t, store.KeyServer, "staging")
	f := g.follow(t, key, nil) // an instance that nobody named
	old := f.hello.GetPropagationKeys().GetSigner()
	stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "cart", Instance: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	res, err := g.environments(g.admin).RotatePropagationKey(t.Context(), &guidonv1.EnvironmentServiceRotatePropagationKeyRequest{Environment: "staging"})
	if err != nil {
		t.Fatal(err)
	}
	next := res.GetPropagationKey().GetNext()
	if next == "" || res.GetPropagationKey().GetSigner() != old || res.GetPropagationKey().GetConnected() != 2 {
		t.Fatalf("Rotate = %v, want %s to sign and two instances to be without the next", res, old)
	}
	if keys := f.awaitKeys(); keys.GetSigner() != old || len(keys.GetKeys()) != 2 {
		t.Errorf("the stream brings signer %s of %d keys, want %s of 2", keys.GetSigner(), len(keys.GetKeys()), old)
	}
	if _, err := g.syncs(key).Ack(t.Context(), &guidonv1.SyncServiceAckRequest{
		Client: &guidonv1.Client{Service: "cart", Instance: "x"}, Revision: 1, PropagationKeyIds: []string{old, next},
	}); err != nil {
		t.Fatal(err)
	}
	// One of two: it stays so for as many looks as the server makes meanwhile.
	storetest.Eventually(t, "one instance holds the key", func() bool {
		res, err := g.environments(g.admin).Get(t.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: "staging"})
		k := res.GetEnvironment().GetPropagationKey()
		if err != nil || k.GetSigner() != old || k.GetNext() != next {
			t.Fatalf("Get = %v, %v, want %s to sign until the second instance has %s", k, err, old, next)
		}
		return k.GetHeld() == 1 && k.GetConnected() == 2
	})
	f.close() // the one that never acknowledges goes
	storetest.Eventually(t, "the next key signs", func() bool {
		res, err := g.environments(g.admin).Get(t.Context(), &guidonv1.EnvironmentServiceGetRequest{Name: "staging"})
		return err == nil && res.GetEnvironment().GetPropagationKey().GetSigner() == next && res.GetEnvironment().GetPropagationKey().GetNext() == ""
	})
	if later := g.follow(t, key, nil).hello.GetPropagationKeys(); later.GetSigner() != next || len(later.GetKeys()) != 2 || later.GetKeys()[1].GetId() != old {
		t.Errorf("a later hello has signer %s of %d keys, want %s, and %s to verify", later.GetSigner(), len(later.GetKeys()), next, old)
	}
}

func TestForcedRotation(t *testing.T) {
	t.Parallel()
	g := start(t)
	f := g.follow(t, g.key(t, store.KeyServer, "production"), nil)
	res, err := g.environments(g.admin).RotatePropagationKey(t.Context(), &guidonv1.EnvironmentServiceRotatePropagationKeyRequest{
		Environment: "production", Force: true, Reason: "it leaked",
	})
	if err != nil || res.GetPropagationKey().GetNext() != "" || res.GetPropagationKey().GetSigner() == f.hello.GetPropagationKeys().GetSigner() {
		t.Fatalf("Rotate = %v, %v, want another signer", res, err)
	}
	for {
		if keys := f.awaitKeys(); keys.GetSigner() == res.GetPropagationKey().GetSigner() {
			break
		}
	}
}

func TestBadRotations(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	before := g.mark(t)
	for name, tt := range map[string]struct{ body, key, code, says string }{
		"unknown environment":  {`{"environment":"nowhere"}`, g.admin, "not_found", "nowhere"},
		"no environment":       {`{}`, g.admin, "invalid_argument", "environment"},
		"protected, no reason": {`{"environment":"production","reason":" "}`, g.admin, "invalid_argument", "reason"},
		"NUL":                  {`{"environment":"staging","reason":"\u0000"}`, g.admin, "invalid_argument", "reason"},
		"with a server key":    {`{"environment":"staging"}`, key, "permission_denied", ""},
	} {
		a := g.post(t, "/guidon.v1.EnvironmentService/RotatePropagationKey", tt.key, tt.body)
		if a.code() != tt.code || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %d %.300q, want %s with %q", name, a.status, a.body, tt.code, tt.says)
		}
	}
	g.unchanged(t, before)
}

// TestRemovedKeyLeavesTheStream: what the collector removes, streams take from
// their clients.
func TestRemovedKeyLeavesTheStream(t *testing.T) {
	t.Parallel()
	g := start(t)
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	old := f.hello.GetPropagationKeys().GetSigner()
	asked := store.Rotation{Environment: "staging", Actor: "test"}
	next, err := g.db.RotatePropagationKey(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.db.SwitchPropagationKey(t.Context(), asked, next); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the next key signs", func() bool { return f.awaitKeys().GetSigner() == next })
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `UPDATE propagation_keys SET retired_at = now() - interval '1 year' WHERE kid = $1`, old); err != nil {
		t.Fatal(err)
	}
	if n, err := g.db.RemovePropagationKeys(t.Context()); n != 1 || err != nil {
		t.Fatalf("removed %d keys, %v", n, err)
	}
	if keys := f.awaitKeys(); len(keys.GetKeys()) != 1 || keys.GetKeys()[0].GetId() != next {
		t.Errorf("the stream brings %d keys, want %s alone", len(keys.GetKeys()), next)
	}
}
