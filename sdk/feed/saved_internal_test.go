package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// savedAt is an environment at a revision: as many flags as the revision says.
func savedAt(t testing.TB, revision int64) saved {
	t.Helper()
	s, err := makeSaved(revision)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func makeSaved(revision int64) (saved, error) {
	var rows []eval.Row
	for i := range revision {
		rows = append(rows, eval.Row{Kind: eval.KindFlag, Name: fmt.Sprintf("flag-%d", i), From: i + 1, Document: fmt.Appendf(nil,
			`{"flag":{"defaultVariant":%q,"state":"ENABLED","variants":{"off":false,"on":true}}}`, []string{"off", "on"}[i%2])})
	}
	snapshot, err := eval.Compile(revision, rows)
	return saved{"production", snapshot, &guidonv1.PropagationKeys{Signer: "k", Keys: []*guidonv1.PropagationKey{{Id: "k", Secret: bytes.Repeat([]byte{7}, 32)}}}, nil, nil, nil}, err
}

// usable checks that a file is what was once saved, or is not used at all.
func usable(t testing.TB, what string, content []byte, want saved) (used bool) {
	t.Helper()
	got, err := decodeSaved("file", content)
	if err != nil {
		return false
	}
	if got.environment != want.environment || got.snapshot.Revision() != want.snapshot.Revision() || got.snapshot.Digest() != want.snapshot.Digest() ||
		got.keys.GetSigner() != want.keys.GetSigner() {
		t.Errorf("%s: the file is used and its values are wrong", what)
	}
	return true
}

// A checkpoint that nobody signed costs a line in the log, and not the flags
// that were saved with it.
func TestSavedCheckpointThatIsNone(t *testing.T) {
	t.Parallel()
	last := savedAt(t, 3)
	last.checkpoint = &guidonv1.AuditCheckpoint{Note: "rubbish", Verifier: "rubbish"}
	path := filepath.Join(t.TempDir(), "file")
	if err := writeSaved(path, last.encode(path)); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := New(Config{Cache: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if f.Snapshot().Revision() != 3 || f.Stats().CheckpointFailures.Load() != 1 {
		t.Errorf("revision %d with %d failures, want 3 with 1", f.Snapshot().Revision(), f.Stats().CheckpointFailures.Load())
	}
	if n := strings.Count(log.String(), "checkpoint in the last-known-good file ignored"); n != 1 {
		t.Errorf("%d lines in the log, want 1: %s", n, &log)
	}
}

// TestCacheFileDamaged is F11: cut at every byte and with every byte flipped,
// the file is used only if it is whole.
func TestCacheFileDamaged(t *testing.T) {
	t.Parallel()
	want := savedAt(t, 3)
	content := want.encode("file")
	if !usable(t, "whole", content, want) {
		t.Fatal("the file as it was saved is not used")
	}
	cases := 0
	for i := range content {
		cases += 2
		if usable(t, fmt.Sprintf("cut at %d", i), content[:i], want) {
			t.Errorf("cut at %d of %d bytes it is used", i, len(content))
		}
		flipped := bytes.Clone(content)
		flipped[i] ^= 1 << (i % 8)
		if usable(t, fmt.Sprintf("byte %d flipped", i), flipped, want) {
			t.Errorf("with byte %d flipped it is used", i)
		}
	}
	for name, other := range map[string][]byte{
		"empty": {}, "zeros": make([]byte, len(content)), "twice": append(bytes.Clone(content), content...),
		"longer": append(bytes.Clone(content), 0), "another version": bytes.Replace(content, []byte("good 1"), []byte("good 2"), 1),
	} {
		cases++
		if usable(t, name, other, want) {
			t.Errorf("%s: it is used", name)
		}
	}
	t.Logf("%d damaged files, none used", cases)
}

// Whole by its checksum, and yet not what it says it is: written by something
// that is not us.
func TestCacheFileThatLies(t *testing.T) {
	t.Parallel()
	good := savedAt(t, 3)
	for name, lie := range map[string]saved{
		"no environment": {"", good.snapshot, nil, nil, nil, nil},
	} {
		if _, err := decodeSaved("file", lie.encode("file")); err == nil {
			t.Errorf("%s: it is used", name)
		}
	}
	if _, err := compileWhole(3, good.snapshot.Digest().String(), []*guidonv1.Row{{Kind: "flag", Name: "a", FromRevision: 9, Document: []byte(`{}`)}}); err == nil {
		t.Error("a row of the future is used")
	}
	if _, err := compileWhole(3, "00", nil); !errors.Is(err, errDigest) {
		t.Errorf("another digest: %v, want errDigest", err)
	}
}

func TestCacheFileThatIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	content := savedAt(t, 2).encode(good)
	if err := writeSaved(good, content); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(good); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file, which holds keys, has mode %v, %v, want 0600", info.Mode(), err)
	}
	at := func(name string, make func(path string) error) string {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, path := range map[string]string{
		"a link":      at("link", func(path string) error { return os.Symlink(good, path) }),
		"a directory": at("directory", func(path string) error { return os.Mkdir(path, 0o700) }),
		"anybody's": at("anybodys", func(path string) error {
			return errors.Join(os.WriteFile(path, savedAt(t, 2).encode(path), 0o600), os.Chmod(path, 0o666))
		}),
		"10 GB, sparse": at("sparse", func(path string) error {
			return errors.Join(os.WriteFile(path, savedAt(t, 2).encode(path), 0o600), os.Truncate(path, 10<<30))
		}),
		"another's": at("anothers", func(path string) error { return os.WriteFile(path, content, 0o600) }),
	} {
		if _, err := readSaved(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: readSaved = %v, want a refusal", name, err)
		}
	}
	if _, err := readSaved(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: readSaved = %v, want ErrNotExist", err)
	}
	// A directory that cannot be written into is an error, and leaves nothing.
	if err := writeSaved(filepath.Join(good, "below", "a-file"), content); err == nil {
		t.Error("writeSaved below a file succeeded")
	}
	// A link is replaced, not followed.
	link := filepath.Join(dir, "link")
	if err := writeSaved(link, savedAt(t, 2).encode(link)); err != nil {
		t.Fatal(err)
	}
	if _, err := readSaved(link); err != nil {
		t.Errorf("readSaved of a link that was replaced: %v", err)
	}
}

// TestTwoProcessesShareACacheFile has many writers and a reader: whatever is
// read is whole.
func TestTwoProcessesShareACacheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{savedAt(t, 1).encode(path), savedAt(t, 40).encode(path)}
	if err := writeSaved(path, contents[0]); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, content := range contents {
		writers.Go(func() {
			for range 30 {
				if err := writeSaved(path, content); err != nil {
					t.Errorf("writeSaved: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reads := 0; ; reads++ {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content, contents[0]) && !bytes.Equal(content, contents[1]) {
			t.Fatalf("read %d found neither content whole", reads)
		}
		select {
		case <-done:
			if litter, _ := filepath.Glob(path + ".*"); len(litter) > 0 {
				t.Errorf("left behind: %v", litter)
			}
			return
		default:
		}
	}
}

// TestCacheFileOfAKilledProcess kills a process that does nothing but write the
// file, again and again at whatever step it is: there is always a whole one.
func TestCacheFileOfAKilledProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := writeSaved(path, savedAt(t, 1).encode(path)); err != nil {
		t.Fatal(err)
	}
	const rounds = 25
	for round := range rounds {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), WriterEnv+"="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// It says so each time it has written; it is killed somewhere in the next.
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(round)*100*time.Microsecond, func() { _ = child.Process.Kill() })
		_ = child.Wait() // it was killed
		if _, err := readSaved(path); err != nil {
			t.Fatalf("round %d: after kill -9 the file cannot be used: %v", round, err)
		}
	}
	litter, _ := filepath.Glob(path + ".*.tmp")
	for _, name := range litter {
		old := time.Now().Add(-2 * litterAge)
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	sweep(path)
	if left, _ := filepath.Glob(path + ".*.tmp"); len(left) > 0 {
		t.Errorf("what killed processes left is still there: %v", left)
	}
	t.Logf("%d kills, %d of them amid a write", rounds, len(litter))
}

// WriterEnv makes a test process write a file until it is killed.
const WriterEnv = "GUIDON_TEST_WRITE_FILE"

// WriteForEver is what such a process does.
func WriteForEver(path string) {
	for revision := int64(1); ; revision = revision%50 + 1 {
		s, err := makeSaved(revision)
		if err == nil {
			err = writeSaved(path, s.encode(path))
		}
		if err != nil {
			panic(err)
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			return
		}
	}
}

// BenchmarkStartFromDisk is the start of a service while no server is there.
func BenchmarkStartFromDisk(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file")
	if err := writeSaved(path, savedAt(b, 10_000).encode(path)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := readSaved(path); err != nil {
			b.Fatal(err)
		}
	}
}
