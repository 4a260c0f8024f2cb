package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store/storetest"
)

const migrateURL = "GUIDON_TEST_MIGRATE_URL"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if url := os.Getenv(migrateURL); url != "" {
		if err := migrations.Up(context.Background(), url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var advice = regexp.MustCompile(`UPDATE schema_migrations SET version = (\d+), dirty = false`)

// TestKilledMigration kills the process inside each migration. The next run
// says what to do, and doing that leads to the same schema.
func TestKilledMigration(t *testing.T) {
	t.Parallel()
	want := dump(t, storetest.URL(t))
	for version := 1; version <= migrations.Newest; version++ {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			url := storetest.URL(t)
			if err := migrations.Down(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			killInside(t, url, version)

			err := migrations.Up(t.Context(), url)
			if !errors.Is(err, migrations.ErrDirty) {
				t.Fatalf("Up after the kill: %v, want ErrDirty", err)
			}
			statement := advice.FindString(err.Error())
			if m := advice.FindStringSubmatch(err.Error()); m == nil {
				t.Fatalf("Up says %q, which is no advice", err)
			} else if m[1] == "0" {
				statement = "DELETE FROM schema_migrations"
			}
			run(t, url, statement)
			if err := migrations.Up(t.Context(), url); err != nil {
				t.Fatalf("Up after %s: %v", statement, err)
			}
			if diff := cmp.Diff(want, dump(t, url)); diff != "" {
				t.Errorf("schema after a kill (-want +got):\n%s", diff)
			}
		})
	}
}

// killInside migrates in a process of its own, which is held in the first
// statement that changes the schema and killed there.
func killInside(t *testing.T, url string, version int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	execute := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	execute(fmt.Sprintf(`CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF to_regclass('schema_migrations') IS NOT NULL THEN
				PERFORM pg_sleep(600) FROM schema_migrations WHERE version = %d AND dirty;
			END IF;
		END $$`, version))
	execute(`CREATE EVENT TRIGGER hold ON ddl_command_start EXECUTE FUNCTION hold()`)

	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), migrateURL+"="+url)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	const sleeping = `FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`
	deadline := time.After(time.Minute)
	for held := 0; held == 0; {
		if err := conn.QueryRow(t.Context(), `SELECT count(*) `+sleeping).Scan(&held); err != nil {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatalf("migration %d was not reached", version)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	// A sleeping backend does not look whether its client is there.
	execute(`SELECT pg_terminate_backend(pid, 60000) ` + sleeping)
	execute(`DROP EVENT TRIGGER hold`)
	execute(`DROP FUNCTION hold()`)
}
