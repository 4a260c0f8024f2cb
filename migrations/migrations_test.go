package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store/storetest"
)

var random = regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`) // pg_dump guards its output with a random word

func dump(t *testing.T, url string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pg_dump", "--schema-only", "--exclude-table=schema_migrations", url).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return random.ReplaceAllString(string(out), "")
}

func run(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestUpDownUpLeavesTheSameSchema(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	want := dump(t, url)
	if !strings.Contains(want, "ENABLE ALWAYS TRIGGER audit_entries_keep_rows") {
		t.Errorf("the dump lacks the audit triggers:\n%s", want)
	}
	if err := migrations.Down(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if empty := dump(t, url); strings.Contains(empty, "CREATE") {
		t.Errorf("Down left something behind:\n%s", empty)
	}
	if s, err := migrations.Status(t.Context(), url); err != nil || s != (migrations.State{}) {
		t.Errorf("Status of an empty database = %+v, %v, want none", s, err)
	}
	if err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, dump(t, url)); diff != "" {
		t.Errorf("schema after up, down, up (-want +got):\n%s", diff)
	}
}

func TestUpByManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	if err := migrations.Down(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for range 20 {
		g.Go(func() error { return migrations.Up(t.Context(), url) })
	}
	if err := g.Wait(); err != nil {
		t.Errorf("Up: %v", err)
	}
	s, err := migrations.Status(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if want := (migrations.State{Version: migrations.Newest}); s != want {
		t.Errorf("Status = %+v, want %+v", s, want)
	}
	if err := s.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
}

func TestFilesAreNumberedWithoutGapsAndWaitForLocksWithABound(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(migrations.Files(), "*")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^(\d{4}_[a-z]+_[a-z_]+)\.(up|down)\.sql$`)
	for _, name := range names {
		m := form.FindStringSubmatch(name)
		if m == nil {
			t.Errorf("%s is not NNNN_verb_noun.up.sql or .down.sql", name)
			continue
		}
		other := map[string]string{"up": "down", "down": "up"}[m[2]]
		if !slices.Contains(names, m[1]+"."+other+".sql") {
			t.Errorf("%s has no %s", name, other)
		}
		text, err := fs.ReadFile(migrations.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "SET lock_timeout = ") {
			t.Errorf("%s does not set lock_timeout first", name)
		}
	}
	for n := 1; n <= migrations.Newest; n++ {
		if up, _ := fs.Glob(migrations.Files(), fmt.Sprintf("%04d_*.up.sql", n)); len(up) != 1 {
			t.Errorf("migration %d is %v, want one file", n, up)
		}
	}
	if len(names) != 2*migrations.Newest {
		t.Errorf("there are %d files, want two for each of %d migrations", len(names), migrations.Newest)
	}
}

func TestCheckSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state migrations.State
		want  string
	}{
		{migrations.State{Version: migrations.Newest}, ""},
		{migrations.State{Version: migrations.Oldest - 1}, "run guidon migrate up"},
		{migrations.State{}, "run guidon migrate up"},
		{migrations.State{Version: migrations.Newest + 1}, "run a newer guidon"},
		{migrations.State{Version: 2, Dirty: true}, "SET version = 1, dirty = false"},
	} {
		err := c.state.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v.Check() = %v, want %q", c.state, err, c.want)
		}
	}
}

func TestDirtyDatabaseIsReportedAndNotForced(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	run(t, url, `UPDATE schema_migrations SET version = 2, dirty = true`)
	if err := migrations.Up(t.Context(), url); !errors.Is(err, migrations.ErrDirty) {
		t.Errorf("Up of a dirty database: %v, want ErrDirty", err)
	}
	s, err := migrations.Status(t.Context(), url)
	if want := (migrations.State{Version: 2, Dirty: true}); err != nil || s != want {
		t.Errorf("Status = %+v, %v, want %+v", s, err, want)
	}
}

func TestEndedContextIsAnError(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := migrations.Up(ctx, url); !errors.Is(err, context.Canceled) {
		t.Errorf("Up: %v, want %v", err, context.Canceled)
	}
}

func TestUnreadableURLIsNotQuoted(t *testing.T) {
	t.Parallel()
	err := migrations.Up(t.Context(), "postgres://me:secret@[::bad/db")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Up: %v, want an error without the password", err)
	}
}
