package main

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	guidonsdk "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store/storetest"
)

// Postgres is put back to a backup while a service is connected, and recovered by
// hand: the service goes on with what there is, and a request that was pinned to
// what was lost gets an explicit error, never another value.
func TestServiceOutlivesARestore(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	dev := start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile)
	r := dev.ready(t, readyFile)
	load := command(r, "import", "--environment", "development", "-")
	load.Stdin = strings.NewReader(pricing)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("import: %v: %s", err, out)
	}
	masterKey := filepath.Join(data, "master.key")
	serving := start(t, "serve", "--listen", "127.0.0.1:0", "--database-url", r.DatabaseURL, "--master-key-file", masterKey)
	at := serving.servingURL(t)
	client, err := guidonsdk.Open(t.Context(), at, guidonsdk.WithKey(r.Keys.servers["development"]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	p := client.Propagator()
	sees := func(variant string) func() bool {
		return func() bool { return p.Evaluate(p.Root(t.Context(), nil), "pricing", 0, nil).Variant() == variant }
	}
	storetest.Eventually(t, "the service to have the flag", sees("off"))

	restored := backUp(t, r.DatabaseURL)
	guidon(t, r, "flag", "set-default", "pricing", "on", "--environment", "development", "--reason", "after the backup")
	storetest.Eventually(t, "the service to have the change", sees("on"))
	lost := p.Root(t.Context(), nil)
	if got := p.Evaluate(lost, "pricing", 0, nil).Variant(); got != "on" {
		t.Fatalf("at what will be lost: %q, want on", got)
	}
	header := pinOf(lost, t)

	serving.stop(t)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	again := start(t, "serve", "--listen", u.Host, "--database-url", restored, "--master-key-file", masterKey)
	awaitStatus(t, at+"/readyz", http.StatusServiceUnavailable)
	if !sees("on")() {
		t.Error("before the recovery the service let go of what it had")
	}
	out, err := command(ready{}, "recover", "--database-url", restored, "--reason", "the disk burnt").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1048576") {
		t.Fatalf("recover: %v: %s", err, out)
	}
	awaitStatus(t, at+"/readyz", http.StatusOK)
	storetest.Eventually(t, "the service to have what there is", func() bool {
		return sees("off")() && p.Evaluate(p.Root(t.Context(), nil), "pricing", 0, nil).Pinned == 1<<20
	})

	// The process that rooted the request still has what it saw; another one has not.
	if got := p.Evaluate(lost, "pricing", 0, nil).Variant(); got != "on" {
		t.Errorf("under way, where it began: %q, want on", got)
	}
	later, err := guidonsdk.Open(t.Context(), at, guidonsdk.WithKey(r.Keys.servers["development"]), guidonsdk.WithMode(propagate.Internal))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = later.Close() }()
	storetest.Eventually(t, "another service to begin", func() bool { return later.Propagator().Evaluate(t.Context(), "pricing", 0, nil).Variant() == "off" })
	below := later.Propagator().Extract(t.Context(), header)
	if got := later.Propagator().Evaluate(below, "pricing", 0, nil); !got.PinUnavailable || got.Reason() != "ERROR" || got.Variant() != "" {
		t.Errorf("under way, below: %q for %s, want PIN_UNAVAILABLE", got.Variant(), got.Reason())
	}
	again.stop(t)
	dev.stop(t)
}

// pinOf is what a call under ctx carries.
func pinOf(ctx context.Context, t *testing.T) propagate.HTTPCarrier {
	t.Helper()
	carrier := propagate.HTTPCarrier{}
	s, ok := propagate.FromContext(ctx)
	if !ok {
		t.Fatal("no State")
	}
	value, ok := s.Header()
	if !ok {
		t.Fatal("no header")
	}
	carrier.Set(propagate.HeaderName, value)
	return carrier
}

// backUp copies a database as it is now, while servers use it, and returns the
// URL of the copy.
func backUp(t *testing.T, databaseURL string) string {
	t.Helper()
	at := func(database string) string { return strings.Replace(databaseURL, "/guidon?", "/"+database+"?", 1) }
	admin, err := pgx.Connect(t.Context(), at("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(t.Context())) }()
	// A template must have no connections, and servers make new ones.
	storetest.Eventually(t, "a backup", func() bool {
		if _, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'guidon'`); err != nil {
			t.Fatal(err)
		}
		_, err := admin.Exec(t.Context(), `CREATE DATABASE restored TEMPLATE guidon STRATEGY file_copy`)
		return err == nil
	})
	return at("restored")
}
