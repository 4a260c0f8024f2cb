package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	driver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Oldest and Newest bound the schema versions that this build can serve.
const (
	Oldest = 10
	Newest = 10
)

//go:embed *.sql
var files embed.FS

// Files returns the SQL files, for tests and for tools that show them.
func Files() fs.FS { return files }

// ErrDirty says that a migration failed half-way and that a person must look.
var ErrDirty = errors.New("schema is dirty")

// State is where a database stands.
type State struct {
	// Version is the number of the last migration; 0 for an empty database.
	Version int
	// Dirty is true if that migration did not finish.
	Dirty bool
}

// Check returns nil if this build can serve the database, else an error that
// says what to do.
func (s State) Check() error {
	switch {
	case s.Dirty:
		return fmt.Errorf("%w: %s", ErrDirty, dirtyAdvice(s.Version))
	case s.Version < Oldest:
		return fmt.Errorf("database schema is at version %d, this build needs %d to %d: run guidon migrate up", s.Version, Oldest, Newest)
	case s.Version > Newest:
		return fmt.Errorf("database schema is at version %d, this build knows %d to %d: run a newer guidon", s.Version, Oldest, Newest)
	}
	return nil
}

func dirtyAdvice(version int) string {
	return fmt.Sprintf("migration %d failed half-way; each file is one transaction, so find its cause in the log, check that nothing of it is there, "+
		"then UPDATE schema_migrations SET version = %d, dirty = false (delete the row instead if that is 0) and migrate again", version, version-1)
}

// Status reads where the database stands. It writes nothing.
func Status(ctx context.Context, url string) (State, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return State{}, fmt.Errorf("schema status: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('schema_migrations') IS NOT NULL`).Scan(&there); err != nil {
		return State{}, fmt.Errorf("schema status: %w", err)
	}
	if !there {
		return State{}, nil
	}
	var s State
	err = conn.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&s.Version, &s.Dirty)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return State{}, fmt.Errorf("schema status: %w", err)
	}
	return s, nil
}

// Up brings the database to Newest. Any number of processes may call it at
// once: an advisory lock lets one work while the others wait. When ctx ends it
// stops after the migration that is running. A dirty database is ErrDirty. A
// database that a newer build migrated is left as it is, and is an error.
func Up(ctx context.Context, url string) error {
	return run(ctx, url, func(m *migrate.Migrate) error {
		if version, _, err := m.Version(); err == nil && version > Newest {
			return State{Version: int(version)}.Check()
		}
		return m.Up()
	})
}

// Down takes everything away again, the data with it. It exists for tests of
// the files themselves.
func Down(ctx context.Context, url string) error {
	return run(ctx, url, (*migrate.Migrate).Down)
}

func run(ctx context.Context, url string, do func(*migrate.Migrate) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrate: %w", err)
		}
	}()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("database URL cannot be read") // the cause would quote a password
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	source, err := iofs.New(files, ".")
	if err != nil {
		return err
	}
	target, err := driver.WithInstance(db, &driver.Config{})
	if err != nil {
		return err
	}
	m, err := migrate.NewWithInstance("embedded", source, "postgres", target)
	if err != nil {
		return err
	}
	defer m.Close()
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
	defer stop()

	err = do(m)
	if dirty, ok := errors.AsType[migrate.ErrDirty](err); ok {
		return fmt.Errorf("%w: %s", ErrDirty, dirtyAdvice(dirty.Version))
	}
	if failed, ok := errors.AsType[database.Error](err); ok {
		// Its own text repeats the whole file.
		return fmt.Errorf("%s, line %d: %w", failed.Err, failed.Line, failed.OrigErr)
	}
	if err == nil || errors.Is(err, migrate.ErrNoChange) {
		return ctx.Err() // a graceful stop is no error to the library
	}
	return err
}
