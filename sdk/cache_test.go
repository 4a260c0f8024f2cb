package guidon_test

import (
	"errors"
	"os"
	"testing"
	"testing/fstest"

	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// A service that starts while its server is down has the flags and the keys that
// it had, and one with another key does not.
func TestCacheOutlivesServerAndProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, boolean("checkout", true))
	first := ready(t, s, guidon.WithCache(dir))
	if err := first.Close(); err != nil { // which saves
		t.Fatal(err)
	}
	s.kill()

	again, err := guidon.Open(t.Context(), s.url(), guidon.WithKey(serverKey), guidon.WithCache(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	if got := again.Status(); got.State != feed.StateStale || got.Revision != 1 || got.Environment != "production" {
		t.Errorf("Status() right after Open = %+v, want stale, production at 1", got)
	}
	if err := openfeature.SetNamedProviderAndWait(t.Name(), again.Provider()); err != nil {
		t.Fatal(err)
	}
	if !openfeature.NewClient(t.Name()).Boolean(t.Context(), "checkout", false, openfeature.EvaluationContext{}) {
		t.Error("checkout is off, want the value that was saved")
	}
	other, err := guidon.Open(t.Context(), s.url(), guidon.WithCache(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if other.Snapshot() != nil {
		t.Error("a client with another key got the flags of the first")
	}
}

func TestBootstrapWithoutServer(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"flags.json": {Data: []byte(`{"flags": {"checkout": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on"}}}`)}}
	client, err := guidon.Open(t.Context(), "", guidon.WithBootstrap(files))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := openfeature.SetNamedProviderAndWait(t.Name(), client.Provider()); err != nil {
		t.Fatal(err)
	}
	if !openfeature.NewClient(t.Name()).Boolean(t.Context(), "checkout", false, openfeature.EvaluationContext{}) {
		t.Error("checkout is off, want what was bundled")
	}
	if got := client.Status(); got.State != feed.StateReady {
		t.Errorf("Status() = %+v, want ready", got)
	}
	for name, opts := range map[string][]guidon.Option{
		"nothing": nil, "no files": {guidon.WithBootstrap(fstest.MapFS{})}, "a directory without a name": {guidon.WithCache("")},
		"files that are not there": {guidon.WithBootstrap(os.DirFS("testdata/nowhere"))},
	} {
		if c, err := guidon.Open(t.Context(), "", opts...); err == nil {
			t.Errorf("%s: Open succeeded", name)
			t.Error(errors.Join(c.Close()))
		}
	}
}
