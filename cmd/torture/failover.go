package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
)

// failOver is F15: the primary is killed and never comes back, its synchronous
// standby is promoted, and somebody says "guidon recover". Servers that ask for
// a synchronous standby lose nothing that they acknowledged, and acknowledge
// nothing while the standby stands still.
func failOver(ctx context.Context, c *Cluster) (map[string]any, error) {
	return c.failOver(ctx, "*", "--require-sync-replication")
}

// failOverAsync is F15 with a standby that Postgres does not wait for: it may
// lose what was acknowledged. Servers and applications agree again on what is
// left.
func failOverAsync(ctx context.Context, c *Cluster) (map[string]any, error) {
	c.mayLose = true
	return c.failOver(ctx, "")
}

// failOver does so again and again, each time with another standby. names are
// those that Postgres waits for.
func (c *Cluster) failOver(ctx context.Context, names string, arguments ...string) (map[string]any, error) {
	rounds, n := 10, 100
	if c.settings.short {
		rounds, n = 1, 10
	}
	if err := c.StartPostgres(ctx); err != nil {
		return nil, err
	}
	// As of the next start, here and on each standby, which is a copy.
	if err := c.Exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'"); err != nil {
		return nil, err
	}
	if err := c.StartStandby(ctx); err != nil {
		return nil, err
	}
	if err := c.Prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.follows(ctx); err != nil { // again, after the restart
		return nil, err
	}
	var ways []*front // to the primary, one for each server
	for range 3 {
		way, err := c.DatabaseOverTCP(ctx)
		if err != nil {
			return nil, err
		}
		url, err := c.databaseAt(way.address())
		if err != nil {
			return nil, err
		}
		if _, err := c.StartServer(ctx, serving{database: url, arguments: arguments}); err != nil {
			return nil, err
		}
		ways = append(ways, way)
	}
	if err := c.noteRest(ctx); err != nil {
		return nil, err
	}
	if _, err := c.Follow(ctx, n); err != nil {
		return nil, err
	}
	w := c.Write(ctx, 16, 0)
	var recovery spread
	err := func() error {
		for range rounds {
			if err := w.Await(ctx, 1+int64(c.Random.IntN(500))); err != nil {
				return err
			}
			if names != "" {
				if err := c.freeze(ctx, w); err != nil {
					return err
				}
			}
			killed := time.Now()
			if err := c.EndPostgres(ctx, syscall.SIGKILL); err != nil {
				return err
			}
			if err := c.promote(ctx); err != nil {
				return err
			}
			for _, way := range ways {
				way.Cut()
			}
			if err := c.StartStandby(ctx); err != nil { // without one, Postgres commits nothing
				return err
			}
			if err := c.recover(ctx); err != nil {
				return err
			}
			if err := w.Await(ctx, 1); err != nil {
				return err
			}
			recovery.add(time.Since(killed))
		}
		return nil
	}()
	w.Quiesce()
	return map[string]any{"failovers": rounds, "retries": w.retried.Load(), "from_kill_to_ack": recovery.summary()}, err
}

// recover is "guidon recover".
func (c *Cluster) recover(ctx context.Context) error {
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Recover(ctx, store.Recovery{Actor: "torture", Reason: "failover"})
	return err
}

// standby is a Postgres that follows the primary.
type standby struct {
	server *embedded.Server
	home   string // below the cluster's directory
}

// StartStandby makes a standby of Postgres, and waits until it streams.
func (c *Cluster) StartStandby(ctx context.Context) error {
	s := &standby{home: fmt.Sprintf("standby-%d", time.Now().UnixNano())}
	dir := filepath.Join(c.dir, s.home)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // Postgres runs as another user and must get through
		return err
	}
	config, err := pgx.ParseConfig(c.url)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	copying := exec.CommandContext(ctx, "pg_basebackup", "--pgdata", data, "--host", config.Host, "--port", strconv.Itoa(int(config.Port)),
		"--username", config.User, "--checkpoint", "fast", "--wal-method", "stream", "--write-recovery-conf", "--no-password")
	if out, err := copying.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return skipError("there is no pg_basebackup")
	} else if err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	if err := giveTo(data, filepath.Join(c.dir, c.home, "data")); err != nil {
		return err
	}
	if s.server, err = embedded.Start(ctx, embedded.Config{Dir: dir, StartTimeout: patience}); err != nil {
		return err
	}
	c.standby = s
	return c.follows(ctx)
}

// follows waits until the standby streams.
func (c *Cluster) follows(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < patience; {
		pid, err := c.receiver(ctx)
		if err != nil {
			return err
		}
		if pid != 0 {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the standby does not stream")
}

// giveTo gives a directory to whoever has another one.
func giveTo(dir, other string) error {
	info, err := os.Stat(other)
	if err != nil {
		return err
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil // it is ours, and so is the other one
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(of.Uid), int(of.Gid))) //nolint:gosec // below the cluster's own directory
	})
}

const selectReceiver = `SELECT COALESCE((SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'), 0)`

// receiver is the process of the standby that receives the log; 0 if none does.
func (c *Cluster) receiver(ctx context.Context) (pid int, err error) {
	conn, err := pgx.Connect(ctx, c.standby.server.DatabaseURL())
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return pid, conn.QueryRow(ctx, selectReceiver).Scan(&pid)
}

// freeze stops the standby for longer than a statement may take. Nothing is
// acknowledged meanwhile.
func (c *Cluster) freeze(ctx context.Context, w *Writers) error {
	pid, err := c.receiver(ctx)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	thaw := func() error { return syscall.Kill(pid, syscall.SIGCONT) }
	if err := pause(ctx, time.Second); err != nil { // what it had said already is on its way
		return errors.Join(err, thaw())
	}
	before := w.acked.Load()
	if err := pause(ctx, 7*time.Second); err != nil {
		return errors.Join(err, thaw())
	}
	if acked := w.acked.Load(); acked != before {
		return errors.Join(fmt.Errorf("%d changes were acknowledged while the standby stood still", acked-before), thaw())
	}
	if err := thaw(); err != nil {
		return err
	}
	return w.Await(ctx, 1)
}

// promote makes the standby the primary.
func (c *Cluster) promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.standby.server.DatabaseURL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote()").Scan(&promoted); err != nil || !promoted {
		return fmt.Errorf("pg_promote is %v: %w", promoted, err)
	}
	_ = c.postgres.Stop() // it was killed
	c.mu.Lock()
	defer c.mu.Unlock()
	c.postgres, c.home, c.url, c.standby = c.standby.server, c.standby.home, c.standby.server.DatabaseURL(), nil
	return nil
}
