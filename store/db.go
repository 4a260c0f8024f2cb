package store

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says which database to open and how.
type Config struct {
	// DatabaseURL is a postgres:// URL or a keyword/value string. Required.
	DatabaseURL string
	// DirectURL is used for LISTEN, which a transaction-mode connection pooler
	// cannot carry. Defaults to DatabaseURL.
	DirectURL string
	// MasterKey opens and seals the keys at rest. Without it everything works
	// but PropagationKeys.
	MasterKey MasterKey
	// Log receives what heals by itself: a lost listener, a notification that
	// was not sent. Defaults to discarding.
	Log *slog.Logger
	// MaxWrites bounds the connections that change sets and key changes use.
	// Defaults to 8.
	MaxWrites int32
	// MaxReads bounds the connections that reads use, apart from the writes so
	// that slow administration never starves snapshots. Defaults to 8.
	MaxReads int32
	// MaxJobs bounds the connections of work that nobody waits for; see
	// [Background]. Defaults to 3.
	MaxJobs int32
	// AcquireTimeout bounds the wait for a connection while all of its kind are
	// in use; then it is [ErrBusy]. Defaults to 1s.
	AcquireTimeout time.Duration
	// RequireSyncReplication refuses changes, and to open, while commits do not
	// wait for a standby: [ErrNotReplicated].
	RequireSyncReplication bool
	// StatementTimeout bounds one statement on the server. Defaults to 5s.
	StatementTimeout time.Duration
	// LockTimeout bounds the wait for the lock of an environment. Defaults to 2s.
	LockTimeout time.Duration
}

// DB is an open installation. It is safe for concurrent use.
type DB struct {
	reads, writes, jobs *pgxpool.Pool
	patience            time.Duration // with a pool that is in use
	direct              *pgx.ConnConfig
	log                 *slog.Logger
	master              MasterKey
	hint                hint
	line                line
	count               counters
	people              people
	replicated          bool // is required
	unreplicated        atomic.Pointer[error]
}

// requestTimeout bounds one read, the wait for a connection included; for
// writes see writeTimeout. It is longer than StatementTimeout so that the server
// gives up first: cancelling from here costs the connection.
const requestTimeout = 10 * time.Second

// Open connects to the database and fails if it cannot be reached. It does
// not look at the schema; see migrations.Status.
func Open(ctx context.Context, c Config) (*DB, error) {
	pool, err := pgxpool.ParseConfig(c.DatabaseURL)
	if err != nil {
		return nil, &FieldError{Field: "database URL", Message: "cannot be read as a Postgres URL"}
	}
	pool.MaxConnLifetime = time.Hour
	pool.MaxConnLifetimeJitter = 10 * time.Minute
	pool.MaxConnIdleTime = 5 * time.Minute
	tune(pool.ConnConfig, c)
	direct := pool.ConnConfig.Copy()
	if c.DirectURL != "" {
		if direct, err = pgx.ParseConfig(c.DirectURL); err != nil {
			return nil, &FieldError{Field: "direct database URL", Message: "cannot be read as a Postgres URL"}
		}
		tune(direct, c)
	}
	db := &DB{
		direct: direct, log: cmp.Or(c.Log, slog.New(slog.DiscardHandler)), master: c.MasterKey, replicated: c.RequireSyncReplication,
	}
	if err := db.openPools(ctx, c, pool); err != nil {
		return nil, dbError("open database", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := db.reads.Ping(ctx); err != nil {
		db.Close()
		return nil, dbError("open database", err)
	}
	if db.replicated {
		if err := db.lookReplication(ctx); err != nil {
			db.Close()
			return nil, err
		}
	}
	return db, nil
}

// Close waits for changes that are being made together and for hints that are
// being sent, and closes all connections. Calls that are under way fail with
// ErrUnavailable.
func (db *DB) Close() {
	db.line.groups.Wait()
	db.hint.wait() // those of groups that nobody waited for any more among them
	db.closePools()
	db.line.groups.Wait() // of calls that came meanwhile: they fail
}

// dialer notices a peer that vanished, whether the connection is idle or not.
var dialer = &net.Dialer{Control: control, KeepAliveConfig: net.KeepAliveConfig{
	Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3,
}}

// tune sets the deadlines of a connection: a peer that vanished is noticed in
// 15 s, a statement, a lock and an idle transaction are ended by the server.
func tune(c *pgx.ConnConfig, conf Config) {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	c.ConnectTimeout = 5 * time.Second
	c.DialFunc = dialer.DialContext
	c.OnNotice = onNotice
	p := c.RuntimeParams
	p["application_name"] = cmp.Or(p["application_name"], "guidon")
	p["timezone"] = "UTC"
	p["jit"] = "off" // compiling a plan takes longer than any statement of ours
	p["statement_timeout"] = ms(cmp.Or(conf.StatementTimeout, 5*time.Second))
	p["lock_timeout"] = ms(cmp.Or(conf.LockTimeout, 2*time.Second))
	p["idle_in_transaction_session_timeout"] = ms(10 * time.Second)
}

// read runs one statement outside a transaction and gathers its rows, whose
// columns are the fields of T by name. Connections that died while they were
// idle, as at a restart of Postgres, cost a second try and no error.
func read[T any](ctx context.Context, db *DB, doing, sql string, args pgx.StrictNamedArgs) ([]T, error) {
	pool := db.pool(ctx, db.reads)
	gather := func() ([]T, error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		conn, err := db.acquire(ctx, pool)
		if err != nil {
			return nil, err
		}
		defer conn.Release()
		rows, err := conn.Query(ctx, sql, args)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByName[T])
	}
	out, err := gather()
	if lost(err) {
		db.count.lost.Add(1)
		pool.Reset()
		out, err = gather()
	}
	if slow(err) && ctx.Err() == nil {
		return nil, fmt.Errorf("%s: %w (%w): %s", doing, ErrSlow, ErrUnavailable, err.Error())
	}
	return out, dbError(doing, err)
}

// readOne is read for a statement that yields one row; none is ErrNotFound,
// with what was looked for.
func readOne[T any](ctx context.Context, db *DB, what, sql string, args pgx.StrictNamedArgs) (T, error) {
	out, err := read[T](ctx, db, what, sql, args)
	if err == nil && len(out) != 1 {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	if err != nil {
		var none T
		return none, err
	}
	return out[0], nil
}

// writing runs one statement inside a transaction and gathers its rows.
func writing[T any](ctx context.Context, tx pgx.Tx, sql string, args pgx.StrictNamedArgs) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args)
	if err != nil {
		return nil, driver(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByName[T])
	return out, driver(err)
}

// queue adds a statement to a batch whose rows are gathered in out when the
// batch is read.
func queue[T any](b *pgx.Batch, out *[]T, sql string, named pgx.StrictNamedArgs) {
	b.Queue(sql, args(named)).Query(gather(out))
}

func gather[T any](out *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*out, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	}
}

// args are named arguments, as pgx.StrictNamedArgs are, for statements that are
// sent often: each is parsed once.
type args map[string]any

// parsed is a statement with ordinal placeholders, and the names they stand for.
type parsed struct {
	sql   string
	names []any
}

var statements sync.Map // of parsed, by the statement as it is written

// RewriteQuery implements pgx.QueryRewriter.
func (a args) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, _ []any) (string, []any, error) {
	known, ok := statements.Load(sql)
	if !ok {
		self := pgx.StrictNamedArgs{} // each argument stands for its name
		for name := range a {
			self[name] = name
		}
		rewritten, names, err := self.RewriteQuery(ctx, conn, sql, nil)
		if err != nil {
			return "", nil, err
		}
		known, _ = statements.LoadOrStore(sql, parsed{rewritten, names})
	}
	p := known.(parsed) //nolint:forcetypeassert // nothing else is stored
	if len(a) != len(p.names) {
		return "", nil, fmt.Errorf("%d arguments for a statement of %d", len(a), len(p.names))
	}
	values := make([]any, len(p.names))
	for i, name := range p.names {
		value, ok := a[name.(string)] //nolint:forcetypeassert // see above
		if !ok {
			return "", nil, fmt.Errorf("argument %s is missing", name)
		}
		values[i] = value
	}
	return p.sql, values, nil
}
