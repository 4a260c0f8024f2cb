package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// savedMagic begins the file, and names its version.
	savedMagic = "guidon last-known-good 1\n"
	// maxSaved bounds the file, in bytes.
	maxSaved = MaxPayload + 1<<20
	// savesApart is the least time between two writes.
	savesApart = time.Second
	// litterAge is how old a temporary file must be to be one that a process
	// left behind.
	litterAge = time.Hour
)

// saved is what the file holds.
type saved struct {
	environment string
	snapshot    *eval.Snapshot
	keys        *guidonv1.PropagationKeys
	overrides   *guidonv1.OverrideKeys
	apiKeys     *guidonv1.APIKeys
	checkpoint  *guidonv1.AuditCheckpoint
}

// encode is the content of the file at path: the magic, the SHA-256 of its name
// and the rest, and the rest.
func (s saved) encode(path string) []byte {
	message := &guidonv1.LastKnownGood{
		Environment: s.environment, Revision: s.snapshot.Revision(), Digest: s.snapshot.Digest().String(), PropagationKeys: s.keys,
		OverrideKeys: s.overrides, ApiKeys: s.apiKeys, AuditCheckpoint: s.checkpoint,
	}
	for row := range s.snapshot.Rows() {
		message.Rows = append(message.Rows, &guidonv1.Row{
			Kind: row.Kind.String(), Name: row.Name, FromRevision: row.From, Document: row.Document,
		})
	}
	payload, err := proto.Marshal(message)
	if err != nil {
		panic(fmt.Sprintf("feed: rows cannot be encoded: %v", err)) // they came out of a message
	}
	sum := checksum(path, payload)
	content := append([]byte(savedMagic), sum[:]...)
	return append(content, payload...)
}

// checksum covers the name, which says whose flags they are: a file that somebody
// copied to where those of another environment are looked for is none of its.
func checksum(path string, payload []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(filepath.Base(path) + "\x00"))
	h.Write(payload)
	h.Sum(sum[:0])
	return sum
}

func decodeSaved(path string, content []byte) (saved, error) {
	rest, ok := bytes.CutPrefix(content, []byte(savedMagic))
	if !ok || len(rest) < sha256.Size {
		return saved{}, errors.New("it is not a last-known-good file of this version")
	}
	payload := rest[sha256.Size:]
	if checksum(path, payload) != [sha256.Size]byte(rest) {
		return saved{}, errors.New("its checksum is not that of its name and content")
	}
	message := &guidonv1.LastKnownGood{}
	if err := proto.Unmarshal(payload, message); err != nil {
		return saved{}, err
	}
	if message.GetEnvironment() == "" {
		return saved{}, errors.New("it names no environment")
	}
	snapshot, err := compileWhole(message.GetRevision(), message.GetDigest(), message.GetRows())
	return saved{
		message.GetEnvironment(), snapshot, message.GetPropagationKeys(), message.GetOverrideKeys(), message.GetApiKeys(), message.GetAuditCheckpoint(),
	}, err
}

// compileWhole makes a snapshot of rows that came from elsewhere than a stream.
func compileWhole(revision int64, digest string, sent []*guidonv1.Row) (*eval.Snapshot, error) {
	rows, err := evalRows(sent)
	if err != nil {
		return nil, err
	}
	if err := within(rows, 0, revision); err != nil {
		return nil, err
	}
	snapshot, err := eval.Compile(revision, rows)
	if err != nil {
		return nil, err
	}
	if snapshot.Digest().String() != digest {
		return nil, errDigest
	}
	return snapshot, nil
}

// readSaved reads a file. What is not a plain file of ours alone is not read:
// whoever can write it chooses values and keys.
func readSaved(path string) (saved, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return saved{}, err
	case !info.Mode().IsRegular():
		return saved{}, errors.New("it is not a regular file")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0:
		return saved{}, errors.New("others than its owner may write it")
	case info.Size() > maxSaved:
		return saved{}, fmt.Errorf("it is larger than %d bytes", int64(maxSaved))
	}
	file, err := os.Open(path)
	if err != nil {
		return saved{}, err
	}
	defer func() { _ = file.Close() }() // it was read only
	if opened, err := file.Stat(); err != nil || !os.SameFile(info, opened) {
		return saved{}, errors.New("it was replaced while it was opened")
	}
	content, err := io.ReadAll(io.LimitReader(file, maxSaved+1))
	if err != nil {
		return saved{}, err
	}
	return decodeSaved(path, content)
}

// writeSaved replaces a file, so that whenever the process or the machine stops
// there is the old content or the new.
func writeSaved(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // which only its owner may read
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the first error counts
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename last. Windows cannot, and does not need it.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// sweep removes temporary files that processes left which were killed.
func sweep(path string) {
	names, _ := filepath.Glob(path + ".*.tmp") // fails only for a bad pattern, and then there are none
	for _, name := range names {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > litterAge {
			_ = os.Remove(name) // it is in nobody's way
		}
	}
}

// restore makes the feed begin with what the file holds, or else with the
// bootstrap. What cannot be used is counted and passed over.
func (f *Feed) restore() {
	if f.config.Cache != "" {
		sweep(f.config.Cache)
		last, err := readSaved(f.config.Cache)
		if err == nil {
			f.stats.CacheLoads.Add(1)
			f.beginWith(last.environment, last.snapshot)
			if last.keys != nil {
				f.takeKeys(last.keys)
			}
			if last.overrides != nil {
				f.takeOverrideKeys(last.overrides)
			}
			if last.apiKeys != nil {
				f.takeAPIKeys(last.apiKeys)
			}
			if err := f.witness.recall(last.environment, last.checkpoint); err != nil {
				f.stats.CheckpointFailures.Add(1)
				f.forgotten = err
			}
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			f.stats.CacheIgnored.Add(1)
			f.ignored = err
		}
	}
	if boot := f.config.Bootstrap; boot != nil {
		f.provisional.Store(boot.Environment == "")
		f.beginWith(boot.Environment, boot.Snapshot)
	}
}

// beginWith makes a snapshot that no stream brought the one to start with.
func (f *Feed) beginWith(environment string, snapshot *eval.Snapshot) {
	f.unconfirmed = environment != ""
	state := StateStale
	if f.config.Source == (nowhere{}) {
		state = StateReady // there is no server that could know better
	}
	f.appliedAt.Store(time.Now().UnixNano())
	f.snapshot.Store(snapshot)
	f.condition.Store(&condition{state: state, environment: environment})
	close(f.ready)
}

// saver keeps the file up to what is held.
type saver struct {
	feed *Feed
	// news has room for one: that there is something to save, not what.
	news   chan struct{}
	failed bool
}

func (s *saver) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run saves what is new, at most once a second and once more at the end.
func (s *saver) run(ctx context.Context) {
	for {
		select {
		case <-s.news:
			s.save(ctx)
		case <-ctx.Done():
			select {
			case <-s.news:
				s.save(ctx)
			default:
			}
			return
		}
		select {
		case <-time.After(savesApart):
		case <-ctx.Done():
		}
	}
}

func (s *saver) save(ctx context.Context) {
	f := s.feed
	// In this order, so that the three belong together: the environment changes
	// while the snapshot is provisional only.
	environment := f.condition.Load().environment
	if f.provisional.Load() || environment == "" {
		return
	}
	last := saved{environment, f.Snapshot(), f.keys.Load(), f.overrides.Load(), f.apiKeys.Load(), f.witness.kept.Load()}
	if last.snapshot == nil || f.condition.Load().environment != environment {
		return // what comes next is saved
	}
	err := writeSaved(f.config.Cache, last.encode(f.config.Cache))
	switch {
	case err == nil && s.failed:
		f.config.Log.LogAttrs(ctx, slog.LevelInfo, "flags are saved again")
	case err != nil && !s.failed:
		f.config.Log.LogAttrs(ctx, slog.LevelWarn, "flags cannot be saved", slog.Any("error", err))
	}
	s.failed = err != nil
	if err != nil {
		f.stats.CacheFailures.Add(1)
		return
	}
	f.stats.CacheSaves.Add(1)
}
