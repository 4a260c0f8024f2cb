package migrations_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// as is the URL of a database for another role.
func as(t *testing.T, database, role string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

var verbs = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"}

// try carries out a verb on no rows of a table, and takes it back.
func try(t *testing.T, conn *pgx.Conn, verb, table, column, kind string) bool {
	t.Helper()
	ctx := t.Context()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	_, err = tx.Exec(ctx, map[string]string{
		"SELECT":   fmt.Sprintf("SELECT %s FROM %s LIMIT 0", column, table),
		"INSERT":   fmt.Sprintf("INSERT INTO %s (%s) SELECT NULL::%s WHERE false", table, column, kind),
		"UPDATE":   fmt.Sprintf("UPDATE %s SET %s = NULL WHERE false", table, column),
		"DELETE":   fmt.Sprintf("DELETE FROM %s WHERE false", table),
		"TRUNCATE": fmt.Sprintf("TRUNCATE %s CASCADE", table),
	}[verb])
	if pg, ok := err.(*pgconn.PgError); ok && pg.Code == pgerrcode.InsufficientPrivilege { //nolint:errorlint // straight from the driver
		return false
	}
	if err != nil {
		t.Errorf("%s %s: %v", verb, table, err)
	}
	return true
}

// TestRolesMayDoWhatTheGrantsSay connects as each role and tries every verb on
// every table there is.
func TestRolesMayDoWhatTheGrantsSay(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	for range 2 { // it may be repeated
		if err := migrations.Roles(t.Context(), database); err != nil {
			t.Fatal(err)
		}
	}
	admin, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(t.Context()))
	type table struct{ Name, Column, Kind string }
	rows, err := admin.Query(t.Context(), `
		SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
		ORDER BY c.relname`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string][]string{}, map[string][]string{}
	columns := regexp.MustCompile(` \([^)]*\)`)
	limited := regexp.MustCompile(`UPDATE \((\w+)`)
	update := map[string]string{} // a column that may be updated where not all may
	for _, g := range migrations.Grants() {
		for role, allowed := range map[string]string{
			migrations.RoleApp: g.App, migrations.RoleRead: g.Read, migrations.RoleOwner: strings.Join(verbs, ", "),
		} {
			if m := limited.FindStringSubmatch(allowed); m != nil {
				update[role+" "+g.Table] = m[1]
			}
			for verb := range strings.SplitSeq(columns.ReplaceAllString(allowed, ""), ", ") {
				// Not even the owner truncates what nobody may.
				if verb != "" && (verb != "TRUNCATE" || g.Table != "audit_entries") {
					want[role+" "+g.Table] = append(want[role+" "+g.Table], verb)
				}
			}
		}
	}
	for _, role := range []string{migrations.RoleApp, migrations.RoleRead, migrations.RoleOwner} {
		conn, err := pgx.Connect(t.Context(), as(t, database, role))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, table := range tables {
			for _, verb := range verbs {
				column := table.Column
				if only := update[role+" "+table.Name]; only != "" && verb == "UPDATE" {
					column = only
				}
				if try(t, conn, verb, table.Name, column, table.Kind) {
					got[role+" "+table.Name] = append(got[role+" "+table.Name], verb)
				}
			}
		}
		if _, err := conn.Exec(t.Context(), `CREATE TABLE mine ()`); (err == nil) != (role == migrations.RoleOwner) {
			t.Errorf("CREATE TABLE as %s: %v", role, err)
		}
	}
	for _, allowed := range []map[string][]string{want, got} {
		for _, v := range allowed {
			slices.Sort(v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what roles may do (-grants +tried):\n%s", diff)
	}
}

// TestAppCanServe writes and reads as the server's role, and cannot touch what
// was recorded.
func TestAppCanServe(t *testing.T) {
	t.Parallel()
	database := storetest.URL(t)
	if err := migrations.Roles(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: as(t, database, migrations.RoleApp), MasterKey: storetest.MasterKey})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, definition := range []string{`{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}`, `{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v"}`} {
		_, err := db.Apply(t.Context(), store.ChangeSet{
			Actor: "test", Reason: "test", IdempotencyKey: definition, Operations: []store.Operation{
				store.PutFlag{Environment: "staging", Key: "a", Definition: []byte(definition), Owner: definition},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, text, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyAdmin, Name: "test", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.KeyByText(t.Context(), text.Reveal()); err != nil {
		t.Error(err)
	}
	if _, _, err := db.PropagationKeys(t.Context(), "staging"); err != nil {
		t.Error(err)
	}
	key, err := db.CheckpointKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chains, err := db.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		if c.Head.Seq > 0 {
			if _, err := db.Checkpoint(t.Context(), key, c); err != nil {
				t.Errorf("Checkpoint of %q: %v", c.Environment, err)
			}
		}
	}
	for _, environment := range []string{"staging", audit.Installation} {
		if _, err := db.VerifyAudit(t.Context(), environment, ""); err != nil {
			t.Errorf("VerifyAudit of %q: %v", environment, err)
		}
	}
	if _, _, err := db.SnapshotRows(t.Context(), "staging", 2); err != nil {
		t.Error(err)
	}
	if _, err := db.Collect(t.Context()); err != nil {
		t.Errorf("Collect: %v", err)
	}
	conn, err := pgx.Connect(t.Context(), as(t, database, migrations.RoleApp))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{
		`UPDATE audit_entries SET actor = 'nobody'`, `DELETE FROM audit_entries`, `TRUNCATE audit_entries`,
		`ALTER TABLE audit_entries DISABLE TRIGGER USER`, `SET session_replication_role = replica`,
		`UPDATE audit_checkpoints SET anchor = true`,
		`INSERT INTO audit_checkpoints (environment, size, head, edge, note, created_at, anchor) SELECT environment, size + 1, head, edge, note, created_at, true FROM audit_checkpoints`,
		`UPDATE checkpoint_keys SET verifier = ''`, `DROP TABLE audit_entries`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s succeeded as the server's role", statement)
		}
	}
}
