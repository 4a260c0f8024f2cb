package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

// spoilCache is F11: applications are killed while they write their
// last-known-good file, and the file is damaged in every way. An application
// that starts from it without a server has right values or none.
func spoilCache(ctx context.Context, c *Cluster) (map[string]any, error) {
	rounds, sample := 100, 0
	if c.settings.short {
		rounds, sample = 6, 150
	}
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	if err := c.publishAlways(ctx); err != nil {
		return nil, err
	}
	var away atomic.Bool
	s := c.Pick(0)
	f, err := c.Front(ctx, func(ctx context.Context) (net.Conn, error) {
		if away.Load() {
			return nil, errNoServer
		}
		return dialTCP(ctx, s.address)
	})
	if err != nil {
		return nil, err
	}
	k := &cacheFiles{cluster: c, front: f, away: &away, right: map[string]bool{}}
	shared := filepath.Join(c.dir, "cache")
	w := c.WriteSlowly(ctx, 1, 0, 20*time.Millisecond, watchedEnvironment)
	started := 0
	for range rounds {
		began, err := k.killWriting(ctx, shared)
		if err != nil {
			w.Quiesce()
			return nil, err
		}
		if began {
			started++
		}
	}
	w.Quiesce()
	if started == 0 {
		return nil, errors.New("no application ever began with its file")
	}
	variants, err := k.spoil(ctx, shared, sample)
	if err != nil {
		return nil, err
	}
	used, err := k.begin(ctx, variants)
	if err != nil {
		return nil, err
	}
	away.Store(false)
	_, err = c.Follow(ctx, 2)
	return map[string]any{
		"killed_while_writing": 2 * rounds, "began_with_the_file": started, "damaged_files": len(variants), "used": used,
		"ignored": len(variants) - used, "wrong": 0, "panics": 0,
	}, err
}

// cacheFiles are last-known-good files, and the way to the server by which they
// are named.
type cacheFiles struct {
	cluster *Cluster
	front   *front
	away    *atomic.Bool
	right   map[string]bool // what was compared with Postgres: "digest at revision"
}

// killWriting kills two processes that keep their flags in one directory, and
// says whether the next one, without a server, began with flags. They must be
// right.
func (k *cacheFiles) killWriting(ctx context.Context, dir string) (began bool, err error) {
	c := k.cluster
	k.away.Store(false)
	var writing []*Applications
	for range 2 {
		a, err := c.Applications(ctx, crowd{Groups: []group{{Name: "writing", URL: k.front.url(), N: 1, Cache: dir}}})
		if err != nil {
			return false, err
		}
		writing = append(writing, a)
	}
	// A file is written a second after the flags changed.
	if err := pause(ctx, time.Duration(900+c.Random.IntN(300))*time.Millisecond); err != nil {
		return false, err
	}
	for _, a := range writing {
		c.StopApplications(a)
	}
	k.away.Store(true)
	k.front.Cut()
	before, err := filepath.Glob(filepath.Join(dir, "*.guidon"))
	if err != nil {
		return false, err
	}
	used, err := k.begin(ctx, []string{dir})
	if err == nil && len(before) > 0 && used == 0 {
		err = errors.New("a process that was killed left a file that cannot be used")
	}
	return used > 0, err
}

// begin starts an application with each directory, without a server, and counts
// those that have flags. They must be right.
func (k *cacheFiles) begin(ctx context.Context, dirs []string) (used int, err error) {
	const most = 200 // applications in a process
	for len(dirs) > 0 {
		some := dirs[:min(most, len(dirs))]
		dirs = dirs[len(some):]
		var all crowd
		for _, dir := range some {
			all.Groups = append(all.Groups, group{Name: dir, URL: k.front.url(), N: 1, Cache: dir})
		}
		a, err := k.cluster.LaunchApplications(ctx, all)
		if err != nil {
			return used, err
		}
		// They had their files before they answer; but have them evaluate, too.
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return used, err
		}
		now, err := a.Report(ctx)
		if err != nil {
			return used, err
		}
		for _, h := range now.Groups {
			if len(h.Broken) > 0 {
				return used, fmt.Errorf("with %s: %s", filepath.Base(h.Name), h.Broken[0])
			}
			for held := range h.Held {
				if held == "nothing" {
					continue
				}
				used++
				if err := k.compare(ctx, held); err != nil {
					return used, fmt.Errorf("with %s: %w", filepath.Base(h.Name), err)
				}
			}
		}
		k.cluster.StopApplications(a)
	}
	return used, nil
}

// compare holds what an application began with against Postgres.
func (k *cacheFiles) compare(ctx context.Context, held string) error {
	if k.right[held] {
		return nil
	}
	digest, text, _ := strings.Cut(held, " at ")
	var revision int64
	if _, err := fmt.Sscan(text, &revision); err != nil {
		return err
	}
	res, err := guidonv1connect.NewSyncServiceClient(k.cluster.http, k.cluster.Pick(0).URL, k.cluster.keyed()).
		GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: watchedEnvironment, Revision: revision})
	if err != nil {
		return fmt.Errorf("it began with revision %d: %w", revision, err)
	}
	if res.GetDigest() != digest {
		return fmt.Errorf("it began with %s, revision %d is %s", held, revision, res.GetDigest())
	}
	k.right[held] = true
	return nil
}

// spoil makes damaged copies of a directory's file, a sample or all that there
// are, each in a directory of its own.
func (k *cacheFiles) spoil(ctx context.Context, dir string, sample int) (dirs []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.guidon"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("there are %d files, want one: %w", len(files), err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	foreign, err := k.foreign(ctx)
	if err != nil {
		return nil, err
	}
	at := func(name string) (string, error) {
		dir := filepath.Join(k.cluster.dir, "spoilt", name)
		dirs = append(dirs, dir)
		return filepath.Join(dir, filepath.Base(files[0])), os.MkdirAll(dir, 0o700) //nolint:gosec // below the cluster's own directory
	}
	put := func(name string, content []byte) {
		path, failed := at(name)
		err = errors.Join(err, failed, os.WriteFile(path, content, 0o600)) //nolint:gosec // below the cluster's own directory
	}
	every := k.cluster.Random.Perm(len(good))
	if sample > 0 {
		every = every[:min(sample, len(every))]
	}
	for _, i := range every {
		put(fmt.Sprint("truncated at ", i), good[:i])
		flipped := append([]byte(nil), good...)
		flipped[i] ^= byte(1 << k.cluster.Random.IntN(8))
		put(fmt.Sprint("flipped at ", i), flipped)
	}
	put("zeros", make([]byte, len(good)))
	put("twice", append(append([]byte(nil), good...), good...))
	put("of another environment", foreign)
	//nolint:gosec // below the cluster's own directory
	for name, create := range map[string]func(path string) error{
		"a directory":      func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":           func(path string) error { return os.Symlink(files[0], path) },
		"a link to itself": func(path string) error { return os.Symlink(path, path) },
		"10 GB": func(path string) error {
			return errors.Join(os.WriteFile(path, good, 0o600), os.Truncate(path, 10<<30))
		},
		"without permission": func(path string) error { return os.WriteFile(path, good, 0) },
	} {
		path, failed := at(name)
		err = errors.Join(err, failed, create(path))
	}
	return dirs, err
}

// foreign is the file of an application of another environment.
func (k *cacheFiles) foreign(ctx context.Context) ([]byte, error) {
	c := k.cluster
	db, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	const environment = "production"
	if _, err := c.try(ctx, c.Pick(0), apply(setFlag(environment, always, 2), environment)); err != nil {
		return nil, err
	}
	_, key, err := db.CreateKey(ctx, store.NewKey{Kind: store.KeyServer, Environment: environment, Name: "other", Actor: "torture"})
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.dir, "foreign")
	k.away.Store(false)
	a, err := c.LaunchApplications(ctx, crowd{Groups: []group{{Name: environment, URL: k.front.url(), Key: key.Reveal(), N: 1, Cache: dir}}})
	if err != nil {
		return nil, err
	}
	defer func() {
		c.StopApplications(a)
		k.away.Store(true)
		k.front.Cut()
	}()
	for began := time.Now(); time.Since(began) < patience; {
		files, err := filepath.Glob(filepath.Join(dir, "*.guidon"))
		if err != nil {
			return nil, err
		}
		if len(files) == 1 {
			return os.ReadFile(files[0])
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("an application wrote no file")
}
