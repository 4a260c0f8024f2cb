package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The roles of an installation's database.
const (
	// RoleOwner owns the schema: it migrates, sets anchors and drops what is
	// behind them.
	RoleOwner = "guidon_owner"
	// RoleApp is the server's: it writes what the API writes, and can add to the
	// audit log but not change it.
	RoleApp = "guidon_app"
	// RoleRead reads everything that is no secret.
	RoleRead = "guidon_read"
)

// Grant is what a role may do to a table, the owner apart, which may do
// everything that the table's triggers let through.
type Grant struct {
	Table     string
	App, Read string
}

// Grants is the whole of it. A test tries each verb on each table as each role.
func Grants() []Grant {
	const all = "SELECT, INSERT, UPDATE, DELETE"
	return []Grant{
		{"api_keys", all, "SELECT (id, kind, environment, name, name_hash, hint, origins, created_at, created_by, expires_at, revoked_at, last_used_at, propagates, projects)"},
		{"audit_checkpoints", "SELECT, INSERT (environment, size, head, edge, note, created_at), DELETE", "SELECT"},
		{"audit_entries", "SELECT, INSERT", "SELECT"},
		{"audit_texts", "SELECT, INSERT, DELETE", "SELECT"},
		{"changes", all, "SELECT"},
		{"checkpoint_keys", "SELECT, INSERT", "SELECT (name, verifier, created_at)"},
		{"environments", "SELECT, INSERT, UPDATE", "SELECT"},
		{"flag_versions", all, "SELECT"},
		{"flags", "SELECT, INSERT, UPDATE", "SELECT"},
		{"fleet", all, "SELECT"},
		{"installation", "SELECT, UPDATE", "SELECT"},
		{"kill_reports", all, "SELECT"},
		{"lost_revisions", "SELECT, INSERT", "SELECT"},
		{"override_keys", "SELECT, INSERT", "SELECT (environment, kid, created_at)"},
		{"overrides", all, "SELECT"},
		{"projects", "SELECT, INSERT, UPDATE", "SELECT"},
		{"propagation_keys", "SELECT, INSERT, UPDATE, DELETE", "SELECT (environment, kid, created_at, activated_at, retired_at)"},
		{"revisions", "SELECT, INSERT, UPDATE (actor, reason), DELETE", "SELECT"},
		{"schema_migrations", "SELECT", "SELECT"},
	}
}

// makeRoles is for everything but the tables. Roles belong to the cluster and
// outlive the database, so they are made only if they are not there. They can
// log in once somebody gives them a password, or a way in pg_hba.conf.
const makeRoles = `
SET lock_timeout = '5s';
DO $$
DECLARE r text;
BEGIN
    FOREACH r IN ARRAY ARRAY['guidon_owner', 'guidon_app', 'guidon_read'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', r);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;
GRANT guidon_owner TO CURRENT_USER;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO guidon_owner;
GRANT USAGE ON SCHEMA public TO guidon_app, guidon_read;
`

// limitRoles bounds what a session of a role may wait for, whatever its client
// asks for at first.
const limitRoles = `
ALTER ROLE %[1]s IN DATABASE %[2]s SET statement_timeout = '5s';
ALTER ROLE %[1]s IN DATABASE %[2]s SET lock_timeout = '2s';
ALTER ROLE %[1]s IN DATABASE %[2]s SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE %[1]s IN DATABASE %[2]s SET search_path = public;
`

// Roles makes the roles of a migrated database and gives each what [Grants]
// says and no more. It may be repeated, and must be after a migration that makes
// a table. It needs a superuser, or a role that may create roles and owns the
// schema.
func Roles(ctx context.Context, url string) error {
	state, err := Status(ctx, url)
	if err == nil {
		err = state.Check()
	}
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var sql strings.Builder
	sql.WriteString("BEGIN;" + makeRoles)
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	for _, role := range []string{RoleApp, RoleRead} {
		fmt.Fprintf(&sql, limitRoles, role, database)
	}
	for _, g := range Grants() {
		fmt.Fprintf(&sql, "ALTER TABLE %s OWNER TO guidon_owner;\nREVOKE ALL ON %[1]s FROM PUBLIC, guidon_app, guidon_read;\n", g.Table)
		for role, verbs := range map[string]string{RoleApp: g.App, RoleRead: g.Read} {
			if verbs != "" {
				fmt.Fprintf(&sql, "GRANT %s ON %s TO %s;\n", verbs, g.Table, role)
			}
		}
	}
	for _, function := range []string{"refuse_audit_change", "keep_anchor", "guidon_lineage"} {
		fmt.Fprintf(&sql, "ALTER FUNCTION %s() OWNER TO guidon_owner;\n", function)
	}
	sql.WriteString("COMMIT;")
	if _, err := conn.Exec(ctx, sql.String()); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	return nil
}
