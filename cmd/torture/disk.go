package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// fillDisk is F7: the volume of the data fills up under the writers, and is
// freed.
func fillDisk(ctx context.Context, c *Cluster) (map[string]any, error) {
	v, err := c.mount("postgres", 160<<20, 20_000)
	if err != nil {
		return nil, err
	}
	if err := c.Begin(ctx, 2); err != nil {
		return nil, err
	}
	return c.lack(ctx, v.fill, v.free)
}

// fillLog is F7 with a volume for the write-ahead log alone, which Postgres
// cannot do without: it ends, and ends again when it starts.
func fillLog(ctx context.Context, c *Cluster) (map[string]any, error) {
	v, err := c.mount("log", 96<<20, 1000)
	if err != nil {
		return nil, err
	}
	if err := c.StartPostgres(ctx); err != nil {
		return nil, err
	}
	// It keeps few files for later, which would do for a long time.
	for _, setting := range []string{"min_wal_size = '32MB'", "max_wal_size = '48MB'"} {
		if err := c.Exec(ctx, "ALTER SYSTEM SET "+setting); err != nil {
			return nil, err
		}
	}
	if err := c.EndPostgres(ctx, syscall.SIGINT); err != nil {
		return nil, err
	}
	log := filepath.Join(c.dir, "postgres", "data", "pg_wal")
	if out, err := exec.CommandContext(ctx, "mv", log, v.path).CombinedOutput(); err != nil { // it keeps who owns them
		return nil, fmt.Errorf("mv: %w: %s", err, out)
	}
	if err := os.Symlink(filepath.Join(v.path, "pg_wal"), log); err != nil {
		return nil, err
	}
	if err := c.Begin(ctx, 2); err != nil {
		return nil, err
	}
	return c.lack(ctx, v.fill, v.free)
}

// useUpInodes is F7 with room for bytes, and for no further file.
func useUpInodes(ctx context.Context, c *Cluster) (map[string]any, error) {
	v, err := c.mount("postgres", 512<<20, 3000)
	if err != nil {
		return nil, err
	}
	if err := c.Begin(ctx, 2); err != nil {
		return nil, err
	}
	return c.lack(ctx, v.crowd, v.free)
}

// lack takes from Postgres what it needs, under writers, and gives it back.
func (c *Cluster) lack(ctx context.Context, take, giveBack func() error) (map[string]any, error) {
	if _, err := c.Follow(ctx, 10); err != nil {
		return nil, err
	}
	w := c.Write(ctx, 16, 0)
	figures := map[string]any{}
	err := func() error {
		if err := w.Await(ctx, 100); err != nil {
			return err
		}
		readers := c.read(ctx)
		if err := take(); err != nil {
			return err
		}
		// It is felt when nobody is acknowledged any more: what is left in files
		// that are there already is used up first, and may last.
		most := 30 * time.Second
		if c.settings.short {
			most = 10 * time.Second
		}
		for before, began := int64(-1), time.Now(); before != w.acked.Load() && time.Since(began) < most; {
			before = w.acked.Load()
			if err := pause(ctx, 2*time.Second); err != nil {
				return err
			}
		}
		reads, failed := readers.stop()
		figures["acked_before"], figures["retries_meanwhile"], figures["reads"] = w.acked.Load(), w.retried.Load(), reads
		if failed > 0 {
			return fmt.Errorf("%d of %d reads failed meanwhile", failed, reads)
		}
		freed := time.Now()
		if err := giveBack(); err != nil {
			return err
		}
		for want := w.acked.Load() + 100; w.acked.Load() < want; {
			select {
			case <-c.postgres.Done(): // it could not write its log, and ended
				figures["postgres_ended"] = true
				if err := c.StartPostgres(ctx); err != nil {
					return err
				}
			default:
			}
			if time.Since(freed) > patience {
				return fmt.Errorf("no changes are acknowledged %v after there was room again", patience)
			}
			if err := pause(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		figures["writable_again_ms"] = time.Since(freed).Milliseconds()
		return nil
	}()
	w.Quiesce()
	return figures, err
}

// spoilCacheVolume is F7 where applications keep their last-known-good files:
// the volume is full, then out of inodes, then read-only. They go on, and keep
// their flags again when they can.
func spoilCacheVolume(ctx context.Context, c *Cluster) (map[string]any, error) {
	v, err := c.mount("cache", 4<<20, 100)
	if err != nil {
		return nil, err
	}
	if err := c.Begin(ctx, 1); err != nil {
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
	const n = 5
	a, err := c.Applications(ctx, crowd{Groups: []group{{Name: "keeping", URL: f.url(), N: n, Cache: v.path}}})
	if err != nil {
		return nil, err
	}
	figures := map[string]any{}
	for _, trouble := range []struct {
		name       string
		make, mend func() error
	}{
		{"full", v.fill, v.free},
		{"out of inodes", v.crowd, v.free},
		{"read-only", func() error { return v.protect(ctx, true) }, func() error { return v.protect(ctx, false) }},
	} {
		if err := trouble.make(); err != nil {
			return nil, fmt.Errorf("%s: %w", trouble.name, err)
		}
		before, err := a.Report(ctx)
		if err != nil {
			return nil, err
		}
		failed := before.Groups[0].CacheFailures
		revision, err := c.Tick(ctx)
		if err != nil {
			return nil, err
		}
		if err := a.Await(ctx, "applications have the change on a volume that is "+trouble.name, func(h heard, n int) bool {
			return h.at(revision) == n && h.CacheFailures > failed
		}); err != nil {
			return nil, err
		}
		if err := trouble.mend(); err != nil {
			return nil, fmt.Errorf("%s: %w", trouble.name, err)
		}
		if revision, err = c.Tick(ctx); err != nil {
			return nil, err
		}
		saved := before.Groups[0].CacheSaves
		took, err := a.When(ctx, "applications keep their flags again", func(h heard, n int) bool {
			return h.at(revision) == n && h.CacheSaves > saved
		})
		if err != nil {
			return nil, err
		}
		figures[trouble.name+"_kept_again_ms"] = took["keeping"].Milliseconds()
		if used, err := k.without(ctx, v.path); err != nil || used != 1 {
			return nil, fmt.Errorf("%s: %d of 1 applications began with what was kept: %w", trouble.name, used, err)
		}
	}
	return figures, nil
}

// without is begin while the server is away, for everybody.
func (k *cacheFiles) without(ctx context.Context, dir string) (used int, err error) {
	k.away.Store(true)
	k.front.Cut()
	defer k.away.Store(false)
	return k.begin(ctx, []string{dir})
}

// volume is one that lives in memory, and is soon full.
type volume struct {
	path    string
	options string
}

// mount makes a volume below the cluster's directory, or skips the scenario.
func (c *Cluster) mount(name string, size, inodes int) (*volume, error) {
	v := &volume{path: filepath.Join(c.dir, name), options: fmt.Sprintf("size=%d,nr_inodes=%d,mode=711", size, inodes)}
	if err := os.Mkdir(v.path, 0o700); err != nil {
		return nil, err
	}
	if err := mountMemory(v.path, v.options); err != nil {
		return nil, skipError("cannot mount a small volume: " + err.Error())
	}
	c.volumes = append(c.volumes, v.path)
	return v, nil
}

func (v *volume) ballast() string { return filepath.Join(v.path, "ballast") }

// fill writes a file until nothing more fits.
func (v *volume) fill() error {
	if err := os.Mkdir(v.ballast(), 0o700); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(v.ballast(), "file"))
	if err != nil {
		return err
	}
	defer f.Close()
	return exhaust(func(int) error {
		_, err := f.Write(make([]byte, 4<<10))
		return err
	})
}

// crowd makes files until there are no more to be had.
func (v *volume) crowd() error {
	if err := os.Mkdir(v.ballast(), 0o700); err != nil {
		return err
	}
	return exhaust(func(i int) error {
		return os.WriteFile(filepath.Join(v.ballast(), strconv.Itoa(i)), nil, 0o600)
	})
}

// exhaust takes until there is no more.
func exhaust(take func(i int) error) error {
	const most = 1 << 20
	for i := range most {
		if err := take(i); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("there was no end after %d times", most)
}

// free gives back what was taken.
func (v *volume) free() error { return os.RemoveAll(v.ballast()) }

// protect makes the volume read-only, or not. While a file is being written it
// cannot be.
func (v *volume) protect(ctx context.Context, readOnly bool) error {
	for began := time.Now(); ; {
		err := remountMemory(v.path, v.options, readOnly)
		if !errors.Is(err, syscall.EBUSY) || time.Since(began) > patience {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}
