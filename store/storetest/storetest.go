// Package storetest gives each test a database of its own on a real Postgres.
//
// The one idea: the schema is migrated once into a template, and a test gets a
// copy of its files, which takes about ten milliseconds. Each test process
// runs its own cluster, kept between runs under the directory for temporary
// files; whichever process holds a cluster's lock has it to itself, and
// Postgres ends with the process. The clusters do not sync to disk: a crash of
// the machine costs them, and the next run makes new ones.
//
// It also holds what tests wait with: [Eventually] and [Log].
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
)

// MasterKey is the key that New opens databases with.
var MasterKey = store.NewMasterKey([32]byte{1})

// New opens the test's own database, migrated and empty but for the seeded
// environments, and closes it at the end of the test.
func New(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: URL(t), MasterKey: MasterKey, MaxWrites: 4, MaxReads: 4, AcquireTimeout: 10 * time.Second, // a machine under load
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// URL returns the URL of the test's own database, the same one at each call
// and the one that New opens. The database goes with the test. No installed
// PostgreSQL fails the test.
func URL(t testing.TB) string {
	t.Helper()
	if known, ok := databases.Load(t); ok {
		return known.(string)
	}
	c, err := running()
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strconv.FormatInt(c.serial.Add(1), 10)
	if _, err := c.admin.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+c.template+" STRATEGY file_copy"); err != nil {
		t.Fatal(err)
	}
	databases.Store(t, c.url(name))
	t.Cleanup(func() {
		databases.Delete(t)
		if _, err := c.admin.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return c.url(name)
}

var databases sync.Map // testing.TB → URL

// cluster is the Postgres of this process. Nobody stops it: it ends with the
// process, and where the system cannot see to that the next run ends it.
type cluster struct {
	server   *embedded.Server
	admin    *pgxpool.Pool
	template string
	serial   atomic.Int64
}

func (c *cluster) url(database string) string {
	u, err := url.Parse(c.server.DatabaseURL())
	if err != nil {
		panic(err) // embedded makes well-formed URLs
	}
	u.Path = "/" + database
	return u.String()
}

var running = sync.OnceValues(func() (*cluster, error) {
	ctx := context.Background()
	base := filepath.Join(os.TempDir(), fmt.Sprintf("guidon-storetest-%d", os.Geteuid()))
	for slot := 0; ; slot++ {
		dir := filepath.Join(base, strconv.Itoa(slot))
		server, err := embedded.Start(ctx, embedded.Config{Dir: dir, NoSync: true})
		if err != nil && !errors.Is(err, embedded.ErrInUse) && !errors.Is(err, embedded.ErrNoBinaries) {
			// Left unusable by a crash or an upgrade.
			if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
				return nil, err
			}
			server, err = embedded.Start(ctx, embedded.Config{Dir: dir, NoSync: true})
		}
		if errors.Is(err, embedded.ErrInUse) && slot < 64 {
			continue // by another test process
		}
		if err != nil {
			return nil, err
		}
		c := &cluster{server: server}
		return c, c.prepare(ctx)
	}
})

// prepare drops what an earlier process left and makes the template if the
// cluster has none of this schema.
func (c *cluster) prepare(ctx context.Context) (err error) {
	if c.admin, err = pgxpool.New(ctx, c.server.DatabaseURL()); err != nil {
		return err
	}
	if c.template, err = templateName(); err != nil {
		return err
	}
	rows, err := c.admin.Query(ctx, "SELECT datname FROM pg_database WHERE datname ~ '^(test|template|making)_'")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	made := false
	for _, name := range names {
		if name == c.template {
			made = true
		} else if _, err := c.admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	if made {
		return nil
	}
	making := strings.Replace(c.template, "template", "making", 1)
	if _, err := c.admin.Exec(ctx, "CREATE DATABASE "+making); err != nil {
		return err
	}
	if err := migrations.Up(ctx, c.url(making)); err != nil {
		return err
	}
	_, err = c.admin.Exec(ctx, "ALTER DATABASE "+making+" RENAME TO "+c.template)
	return err
}

// templateName follows from the migrations, so that a change to any of them
// makes a new template.
func templateName() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(migrations.Files(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(migrations.Files(), path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	return fmt.Sprintf("template_%x", h.Sum(nil)[:6]), err
}
