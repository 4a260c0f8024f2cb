package feed_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// savedBy runs a feed until its file holds the newest revision of h.
func savedBy(t *testing.T, h *history, path string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, _, s := started(t, h, feed.Config{Cache: path, Keys: func(*guidonv1.PropagationKeys) bool { return true }})
		s.send(t, keysEvent("k1"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.Stats().CacheSaves.Load() == 0 {
			t.Fatal("nothing was saved")
		}
	})
}

// A process that starts while no server can be reached has the values, the
// environment and the keys that it had, and goes on from there.
func TestStartsFromTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "file")
	var h history
	h.put(true, "checkout")
	h.put(true, "search")
	savedBy(t, &h, path)
	h.put(false, "checkout")
	synctest.Test(t, func(t *testing.T) {
		var signer string
		src := newSource()
		f := run(t, feed.Config{Source: src, Cache: path, Keys: func(k *guidonv1.PropagationKeys) bool { signer = k.GetSigner(); return true }})
		if err := f.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := feed.Status{State: feed.StateStale, Environment: "production", Revision: 2}
		if diff := cmp.Diff(want, f.Status()); diff != "" || signer != "k1" || !value(t, f, "checkout") {
			t.Errorf("with signer %q, Status() (-want +got):\n%s", signer, diff)
		}
		for range 3 {
			(<-src.opened).fail <- errRefused
		}
		if !value(t, f, "checkout") {
			t.Error("the values are gone after streams that failed")
		}
		s := <-src.opened
		if s.have.GetHaveRevision() != 2 || s.have.GetHaveDigest() != h.digest(t, 2) {
			t.Errorf("the stream is asked for from %v, want revision 2", s.have)
		}
		s.send(t, hello(3), h.delta(t, 2, 3, "identity"))
		if f.Status().State != feed.StateReady || value(t, f, "checkout") {
			t.Errorf("Status() = %+v, want ready at revision 3", f.Status())
		}
	})
}

// A file that cannot be used is as good as none; it is counted and replaced.
func TestFileThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var h history
	h.put(true, "checkout")
	synctest.Test(t, func(t *testing.T) {
		f, _, _ := started(t, &h, feed.Config{Cache: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if f.Stats().CacheIgnored.Load() != 1 || !strings.Contains(log.String(), "last-known-good file ignored") {
			t.Errorf("CacheIgnored = %d, log %q", f.Stats().CacheIgnored.Load(), &log)
		}
	})
	savedBy(t, &h, path)
	synctest.Test(t, func(t *testing.T) {
		if f := feed.New(feed.Config{Cache: path}); f.Snapshot().Revision() != 1 {
			t.Error("the file was not replaced")
		}
	})
}

// A file of another environment holds until the stream brings the flags of this
// one, and no longer, whatever their revision.
func TestFileOfAnotherEnvironment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	var h history
	for range 5 {
		h.put(true, "checkout")
	}
	savedBy(t, &h, path)
	other := h[:2] // a lower revision
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Source: src, Cache: path})
		hello := hello(2)
		hello.GetHello().Environment = "staging"
		(<-src.opened).send(t, hello)
		s := <-src.opened
		if s.have.GetHaveRevision() != 0 {
			t.Errorf("the stream is asked for from revision %d, want from nothing", s.have.GetHaveRevision())
		}
		s.send(t, hello)
		s.send(t, other.snapshot(t, 2, "gzip", 1)...)
		if got := f.Status(); got.Environment != "staging" || got.Revision != 2 || got.State != feed.StateReady {
			t.Errorf("Status() = %+v, want staging at 2", got)
		}
		if f.Stats().Foreign.Load() != 1 {
			t.Errorf("Foreign = %d, want 1", f.Stats().Foreign.Load())
		}
	})
	savedIs(t, path, "staging", 2)
}

func savedIs(t *testing.T, path, environment string, revision int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(feed.Config{Cache: path})
		if f.Environment() != environment || f.Snapshot().Revision() != revision {
			t.Errorf("the file holds %s at %d, want %s at %d", f.Environment(), f.Snapshot().Revision(), environment, revision)
		}
	})
}

// A disk that takes nothing costs a line in the log and no more.
func TestFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var h history
	h.put(true, "checkout")
	h.put(false, "checkout")
	synctest.Test(t, func(t *testing.T) {
		f, _, s := started(t, &h, feed.Config{Cache: filepath.Join(file, "below"), Log: slog.New(slog.NewTextHandler(&log, nil))})
		time.Sleep(2 * time.Second)
		s.send(t, keysEvent("k2"))
		h.put(true, "checkout")
		s.send(t, h.delta(t, 2, 3, "gzip"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := f.Stats().CacheFailures.Load(); n < 2 || strings.Count(log.String(), "flags cannot be saved") != 1 {
			t.Errorf("CacheFailures = %d, log %q; want 2 or more and one line", n, &log)
		}
		if !value(t, f, "checkout") {
			t.Error("the values did not follow")
		}
	})
}

// document is a flagd document with one flag.
func document(key, variant string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(`{"flags": {"` + key + `": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "` + variant + `"}}}`)}
}

func TestBootstrapOfDocuments(t *testing.T) {
	t.Parallel()
	boot, err := feed.ReadBootstrap(fstest.MapFS{"a.json": document("checkout", "on"), "more/b.json": document("search", "off"), "README.md": {}})
	if err != nil {
		t.Fatal(err)
	}
	var h history
	h.put(false, "checkout")
	synctest.Test(t, func(t *testing.T) {
		alone := run(t, feed.Config{Bootstrap: boot})
		synctest.Wait()
		if !value(t, alone, "checkout") || value(t, alone, "search") || alone.Status().State != feed.StateReady {
			t.Errorf("without a server Status() = %+v, want ready with both flags", alone.Status())
		}
		src := newSource()
		var told []string
		f := run(t, feed.Config{Source: src, Bootstrap: boot, Changed: func(keys []string) { told = keys }})
		synctest.Wait()
		if !value(t, f, "checkout") || f.Status().State != feed.StateStale {
			t.Errorf("before the stream Status() = %+v, want stale with the flags", f.Status())
		}
		s := <-src.opened
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "gzip", 1)...) // no newer revision than the documents have
		if value(t, f, "checkout") || f.Snapshot().Flag("search") != nil {
			t.Error("the server's flags did not replace the bootstrap")
		}
		if diff := cmp.Diff([]string{"checkout", "search"}, told); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
	})
}

// An empty environment does not take the flags away that a process began with.
func TestEmptySnapshotLeavesTheBootstrap(t *testing.T) {
	t.Parallel()
	boot, err := feed.ReadBootstrap(fstest.MapFS{"a.json": document("checkout", "on")})
	if err != nil {
		t.Fatal(err)
	}
	h := history{nil}
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Source: src, Bootstrap: boot})
		s := <-src.opened
		s.send(t, hello(1))
		s.send(t, h.snapshot(t, 1, "identity", 1)...)
		if !value(t, f, "checkout") || f.Stats().Emptied.Load() != 1 {
			t.Errorf("Emptied = %d, want 1 and the flag", f.Stats().Emptied.Load())
		}
	})
}

func TestBootstrapOfAnExport(t *testing.T) {
	t.Parallel()
	var h history
	h.put(true, "checkout")
	h.put(true, "search")
	type row struct {
		Kind     string          `json:"kind"`
		Name     string          `json:"name"`
		From     int64           `json:"from_revision"`
		Document json.RawMessage `json:"document"`
	}
	export := func(digest string) *fstest.MapFile {
		var rows []row
		for _, r := range h.rows(2) {
			rows = append(rows, row{r.Kind.String(), r.Name, r.From, r.Document})
		}
		content, err := json.Marshal(map[string]any{"environment": "production", "revision": 2, "digest": digest, "rows": rows})
		if err != nil {
			t.Fatal(err)
		}
		return &fstest.MapFile{Data: content}
	}
	boot, err := feed.ReadBootstrap(fstest.MapFS{"flags.json": export(h.digest(t, 2))})
	if err != nil {
		t.Fatal(err)
	}
	h.put(false, "checkout")
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		f := run(t, feed.Config{Source: src, Bootstrap: boot})
		s := <-src.opened
		if s.have.GetHaveRevision() != 2 {
			t.Errorf("the stream is asked for from revision %d, want 2", s.have.GetHaveRevision())
		}
		s.send(t, hello(3), h.delta(t, 2, 3, "gzip"))
		if f.Status().Revision != 3 {
			t.Errorf("Status() = %+v, want revision 3", f.Status())
		}
	})
	for name, files := range map[string]fstest.MapFS{
		"another digest": {"a.json": export(h.digest(t, 1))}, "two exports": {"a.json": export(h.digest(t, 2)), "b.json": export(h.digest(t, 2))},
		"nothing": {"README.md": {}}, "no JSON": {"a.json": {Data: []byte("{")}}, "not flags": {"a.json": {Data: []byte(`{"fruit": 1}`)}},
		"a flag twice": {"a.json": document("a", "on"), "b.json": document("a", "on")}, "a flag that cannot be": {"a.json": document("a", "maybe")},
	} {
		if _, err := feed.ReadBootstrap(files); err == nil {
			t.Errorf("%s: ReadBootstrap succeeded", name)
		}
	}
}
