package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type backgroundKey struct{}

// Background marks work that nobody waits for: checkpoints, retention, what
// replicas tell each other. What it reads and writes goes over a few connections
// of its own, so that it never stands in the way of a caller, nor callers in its.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// pool returns the connections for what ctx is about: the given ones, or those
// of the background.
func (db *DB) pool(ctx context.Context, callers *pgxpool.Pool) *pgxpool.Pool {
	if ctx.Value(backgroundKey{}) != nil {
		return db.jobs
	}
	return callers
}

// acquire takes a connection. It waits for one to be given back for the acquire
// timeout at most, then it is ErrBusy; one that is being made it waits for as
// long as ctx allows.
func (db *DB) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	for {
		waiting, cancel := context.WithTimeout(ctx, db.patience)
		conn, err := pool.Acquire(waiting)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return conn, err
		}
		if stat := pool.Stat(); stat.AcquiredConns() >= stat.MaxConns() {
			db.count.busy.Add(1)
			return nil, ErrBusy
		}
	}
}

// exec runs one statement of a write outside a transaction.
func (db *DB) exec(ctx context.Context, sql string, args pgx.StrictNamedArgs) (pgconn.CommandTag, error) {
	conn, err := db.acquire(ctx, db.pool(ctx, db.writes))
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer conn.Release()
	return conn.Exec(ctx, sql, args)
}

// openPools makes the pools of c. They connect when they are used.
func (db *DB) openPools(ctx context.Context, c Config, config *pgxpool.Config) (err error) {
	for _, p := range []struct {
		pool **pgxpool.Pool
		size int32
	}{
		{&db.reads, cmp.Or(c.MaxReads, 8)},
		{&db.writes, cmp.Or(c.MaxWrites, 8)},
		{&db.jobs, cmp.Or(c.MaxJobs, 3)},
	} {
		own := config.Copy()
		own.MaxConns = p.size
		if p.pool == &db.writes {
			// Planning a write anew each time costs more than carrying it out.
			own.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
		}
		if *p.pool, err = pgxpool.NewWithConfig(ctx, own); err != nil {
			db.closePools()
			return err
		}
	}
	db.patience = cmp.Or(c.AcquireTimeout, time.Second)
	return nil
}

func (db *DB) closePools() {
	for _, pool := range []*pgxpool.Pool{db.jobs, db.writes, db.reads} {
		if pool != nil {
			pool.Close()
		}
	}
}
