package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func checkpointKey(t *testing.T, db *store.DB) checkpoint.Key {
	t.Helper()
	k, err := db.CheckpointKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func chainOf(t *testing.T, db *store.DB, environment string) store.Chain {
	t.Helper()
	chains, err := db.Chains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(chains, func(c store.Chain) bool { return c.Environment == environment })
	if i < 0 {
		t.Fatalf("no chain of %q", environment)
	}
	return chains[i]
}

// sign makes a checkpoint at the head of a chain.
func sign(t *testing.T, db *store.DB, environment string) checkpoint.Checkpoint {
	t.Helper()
	k := checkpointKey(t, db)
	made, err := db.Checkpoint(t.Context(), k, chainOf(t, db, environment))
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(made.Note, k.VerifierText())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpointsAreSignedAndProven(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	k, again := checkpointKey(t, db), checkpointKey(t, db)
	if k.VerifierText() != again.VerifierText() {
		t.Error("the key is made twice")
	}
	var signed []checkpoint.Checkpoint
	for i := range 9 {
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
		if i%2 == 0 {
			signed = append(signed, sign(t, db, "staging"))
		}
	}
	if want := checkpoint.Origin(k.Name(), "staging"); signed[0].Origin != want || signed[4].Size != 9 {
		t.Errorf("checkpoints are %+v … %+v", signed[0], signed[4])
	}
	for i, older := range signed {
		for _, newer := range signed[i:] {
			proof, err := db.ProveCheckpoint(t.Context(), "staging", older.Size, newer.Size)
			if err != nil {
				t.Fatal(err)
			}
			if err := newer.Extends(older, proof); err != nil {
				t.Errorf("%d after %d: %v", newer.Size, older.Size, err)
			}
		}
	}
	c := chainOf(t, db, "staging")
	if c.Waiting != 0 || c.Checkpoint.Head != c.Head || c.Revision != 10 {
		t.Errorf("chain = %+v, want nothing waiting", c)
	}
	apply(t, db, put("staging", "late", onOff))
	if c := chainOf(t, db, "staging"); c.Waiting <= 0 || c.Head.Seq != 10 || c.Checkpoint.Head.Seq != 9 {
		t.Errorf("chain = %+v, want an entry waiting", c)
	}
}

func TestBrokenChainIsNotSigned(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	sign(t, db, "staging")
	apply(t, db, put("staging", "b", onOff))
	sql(t, `ALTER TABLE audit_entries DISABLE TRIGGER USER`, `UPDATE audit_entries SET payload = '{}' WHERE environment = 'staging' AND seq = 2`)
	_, err := db.Checkpoint(t.Context(), checkpointKey(t, db), chainOf(t, db, "staging"))
	if broken, ok := errors.AsType[*audit.BrokenError](err); !ok || broken.Seq != 2 {
		t.Errorf("Checkpoint: %v, want broken at 2", err)
	}
}

func TestVerifyAudit(t *testing.T) {
	t.Parallel()
	const forge = `ALTER TABLE audit_entries DISABLE TRIGGER USER`
	for name, c := range map[string]struct {
		statements []string
		want       string // type of the error
		text       string
	}{
		"whole":              {nil, "<nil>", ""},
		"a changed document": {[]string{`UPDATE flag_versions SET document = '{}' WHERE name = 'b' AND to_revision IS NULL`}, "*audit.StateError", "flag/b is not what the last entry that names it made"},
		"a lost row":         {[]string{`DELETE FROM flag_versions WHERE name = 'b'`}, "*audit.StateError", "flag/b was made and is not there"},
		"a made-up row": {
			[]string{`INSERT INTO flag_versions (environment, kind, name, from_revision, document, hash, refers) SELECT environment, kind, 'x', from_revision, document, hash, refers FROM flag_versions WHERE name = 'b'`},
			"*audit.StateError", "flag/x is there, and no entry made it",
		},
		"a lost revision": {[]string{`UPDATE environments SET revision = revision - 1 WHERE name = 'staging'`}, "*audit.StateError", "at revision 3, the entry made revision 4"},
		"a lost end": {
			[]string{forge, `DELETE FROM audit_checkpoints`, `DELETE FROM audit_entries WHERE environment = 'staging' AND seq = 3`},
			"*audit.CheckpointError", "there are only 2 entries",
		},
		"a changed entry": {[]string{forge, `UPDATE audit_entries SET payload = '{}' WHERE environment = 'staging' AND seq = 2`}, "*audit.BrokenError", "broken at entry 2"},
		"a lost end and its head": {[]string{
			forge, `DELETE FROM audit_entries WHERE environment = 'staging' AND seq = 3`, `DELETE FROM audit_checkpoints`,
			`UPDATE environments SET audit_seq = 2, audit_head = (SELECT entry_hash FROM audit_entries WHERE environment = 'staging' AND seq = 2) WHERE name = 'staging'`,
		}, "*audit.CheckpointError", "there are only 2 entries"},
		"another checkpoint": {
			[]string{`ALTER TABLE audit_checkpoints DISABLE TRIGGER USER`, `UPDATE audit_checkpoints SET note = replace(note, E'\n3\n', E'\n4\n')`},
			"*audit.CheckpointError", "not signed by the known key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.New(t)
			apply(t, db, put("staging", "a", onOff))
			apply(t, db, put("staging", "b", onOff))
			apply(t, db, put("staging", "a", onOff), store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})
			known := sign(t, db, "staging")
			if len(c.statements) > 0 {
				sql(t, c.statements...)
			}
			v, err := db.VerifyAudit(t.Context(), "staging", "", known)
			if got := fmt.Sprintf("%T", err); got != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("VerifyAudit = %+v, %v (%s), want %s with %q", v, err, got, c.want, c.text)
			}
			if err == nil && (v.Head.Seq != 3 || v.Covered != 3 || v.Checkpoints != 2) {
				t.Errorf("VerifyAudit = %+v, want 3 entries covered", v)
			}
		})
	}
}

func TestVerifyAuditOfTheInstallation(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	checkpointKey(t, db)
	if v, err := db.VerifyAudit(t.Context(), audit.Installation, ""); err != nil || v.Head.Seq != 1 {
		t.Errorf("VerifyAudit = %+v, %v, want the entry of the checkpoint key", v, err)
	}
	if _, err := db.VerifyAudit(t.Context(), "nowhere", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("VerifyAudit of nowhere: %v", err)
	}
}

// TestInstallationIsReplayed does everything that the installation's chain
// records, and then changes each table behind its back.
func TestInstallationIsReplayed(t *testing.T) {
	t.Parallel()
	tamperings := []struct{ statement, want string }{
		{`UPDATE environments SET protected = false WHERE name = 'production'`, "environment/production is there, and no entry made it"},
		{`UPDATE environments SET retention = 30 WHERE name = 'qa'`, "environment/qa is not what"},
		{`UPDATE projects SET archived_at = NULL WHERE name = 'old'`, "project/old is not what"},
		{`UPDATE projects SET description = 'x' WHERE name = 'made-with-a-flag'`, "project/made-with-a-flag is there, and no entry made it"},
		{`INSERT INTO projects (name) VALUES ('x')`, "project/x is there"},
		{`UPDATE flags SET owner = 'eve' WHERE key = 'a'`, "flag/a is not what"},
		{`UPDATE flags SET description = 'x' WHERE key = 'b'`, "flag/b is there, and no entry made it"},
		{`UPDATE api_keys SET kind = 'client' WHERE kind = 'server'`, "is not what"},
		{`UPDATE api_keys SET revoked_at = NULL`, "is not what"},
		{`UPDATE api_keys SET name = 'eve' WHERE kind = 'server'`, "is not what"},
		{`DELETE FROM api_keys WHERE kind = 'server'`, "was made and is not there"},
		{`INSERT INTO api_keys (id, kind, name, name_hash, hash, hint, created_at, created_by)
			SELECT gen_random_uuid(), 'admin', 'eve', name_hash, decode(repeat('00', 32), 'hex'), 'abcd', now(), 'eve' FROM api_keys LIMIT 1`, "is there, and no entry made it"},
		{`DELETE FROM propagation_keys WHERE retired_at IS NOT NULL`, "was made and is not there"},
		{`UPDATE propagation_keys SET retired_at = now() WHERE retired_at IS NULL`, "is not what"},
		{`DELETE FROM overrides`, "was made and is not there"},
		{`UPDATE overrides SET variant = 'off'`, "is not what"},
		{`INSERT INTO override_keys SELECT environment, 'x', sealed, created_at FROM override_keys`, "override_key/x is there"},
		{`UPDATE checkpoint_keys SET verifier = 'x'`, "is not what"},
	}
	db := storetest.New(t)
	checkpointKey(t, db)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	described := put("staging", "a", onOff)
	described.Owner, described.Description, described.Overridable = "team <a> & b", "\u2028 <b>", new(true)
	apply(t, db, described)
	plain := put("staging", "b", onOff)
	plain.Project = "made-with-a-flag"
	apply(t, db, plain)
	owner := "team b"
	apply(t, db, store.DescribeFlag{Key: "a", Owner: &owner})
	check(db.CreateEnvironment(t.Context(), store.NewEnvironment{Name: "qa", Retention: 40, Actor: "ada"}))
	_, err := db.UpdateEnvironment(t.Context(), store.EnvironmentUpdate{Name: "staging", Protected: new(true), Actor: "ada", Reason: "why not"})
	check(err)
	check(db.CreateProject(t.Context(), store.NewProject{Name: "old", Description: "an old one", Actor: "ada"}))
	check(db.ArchiveProject(t.Context(), store.NewProject{Name: "old", Actor: "ada"}))
	_, _, err = db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: "shop", Expires: time.Now().Add(time.Hour), Actor: "ada"})
	check(err)
	revoked, _, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyClient, Environment: "staging", Name: "page", Origins: []string{"*"}, Actor: "ada"})
	check(err)
	_, err = db.RevokeKey(t.Context(), store.Revocation{ID: revoked.ID, Actor: "ada"})
	check(err)
	rotation := store.Rotation{Environment: "staging", Actor: "ada", Reason: "time"}
	kid, err := db.RotatePropagationKey(t.Context(), rotation)
	check(err)
	check(db.SwitchPropagationKey(t.Context(), rotation, kid))
	for range 2 {
		o, _, err := db.CreateOverride(t.Context(), store.NewOverride{Environment: "staging", Flag: "a", Variant: "on", Audience: "shop.example", Actor: "ada", Reason: "a test"})
		check(err)
		_, err = db.RevokeOverride(t.Context(), store.Revocation{ID: o.ID, Actor: "ada"})
		check(err)
	}
	_, err = db.VerifyAudit(t.Context(), audit.Installation, "")
	check(err)
	check(verifyExport(exported(t, db, audit.Installation)))

	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	check(err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	tables := []string{"environments", "projects", "flags", "api_keys", "propagation_keys", "override_keys", "overrides", "checkpoint_keys"}
	for _, table := range tables {
		_, err := conn.Exec(t.Context(), "CREATE TABLE kept_"+table+" AS TABLE "+table)
		check(err)
	}
	_, err = conn.Exec(t.Context(), "SET session_replication_role = replica") // no foreign keys while tables are put back
	check(err)
	for _, c := range tamperings {
		_, err := conn.Exec(t.Context(), c.statement)
		check(err)
		_, err = db.VerifyAudit(t.Context(), audit.Installation, "")
		if state, ok := errors.AsType[*audit.StateError](err); !ok || !strings.Contains(state.Error(), c.want) {
			t.Errorf("after %s: %v, want %q", c.statement, err, c.want)
		}
		for _, table := range tables {
			_, err := conn.Exec(t.Context(), "DELETE FROM "+table+"; INSERT INTO "+table+" SELECT * FROM kept_"+table)
			check(err)
		}
	}
	_, err = db.VerifyAudit(t.Context(), audit.Installation, "")
	check(err)
}

func exported(t *testing.T, db *store.DB, environment string) []byte {
	t.Helper()
	var file []byte
	for line, err := range db.ExportAudit(t.Context(), environment) {
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, line...)
	}
	return file
}

func TestExportAuditCanBeVerifiedAlone(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	var known checkpoint.Checkpoint
	for i := range 7 {
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
		if i%3 == 0 {
			known = sign(t, db, "staging")
		}
	}
	x, err := audit.ReadExport(bytes.NewReader(exported(t, db, "staging")), checkpointKey(t, db).VerifierText())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := x.Verify(nil, known); err != nil || v.Head.Seq != 7 || v.Covered != 7 {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	for _, err := range db.ExportAudit(t.Context(), "nowhere") {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("ExportAudit of nowhere: %v", err)
		}
	}
}

// TestDroppedEntriesLeaveAnAnchor drops what is exported, as the owner of the
// tables, and proves what is left.
func TestDroppedEntriesLeaveAnAnchor(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if _, err := db.Droppable(t.Context(), "staging", time.Now()); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("Droppable of nothing: %v, want ErrInvalid", err)
	}
	for i := range 5 {
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
		if i == 2 {
			sign(t, db, "staging")
		}
	}
	c, err := db.Droppable(t.Context(), "staging", time.Now().Add(time.Hour))
	if err != nil || c.Head.Seq != 3 {
		t.Fatalf("Droppable = %d entries, %v, want 3", c.Head.Seq, err)
	}
	if err := db.DropAudit(t.Context(), c, "ada", ""); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("DropAudit without a reason: %v", err)
	}
	for range 2 { // again does nothing
		if err := db.DropAudit(t.Context(), c, "ada", "older than a year"); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var left int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM audit_texts t
		WHERE NOT person AND NOT EXISTS (SELECT FROM audit_entries WHERE t.hash = ANY(texts))`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d reasons of entries that were dropped are there, %v", left, err)
	}
	known := sign(t, db, "staging")
	v, err := db.VerifyAudit(t.Context(), "staging", "", known)
	if err != nil || v.Head.Seq != 5 || v.Root != known.Root {
		t.Errorf("VerifyAudit = %+v, %v, want 5 entries and the root of all", v, err)
	}
	x, err := audit.ReadExport(bytes.NewReader(exported(t, db, "staging")), "")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := x.Verify(nil, known); err != nil || v.Head.Seq != 5 {
		t.Errorf("Verify of the rest = %+v, %v", v, err)
	}
	records := auditLog(t, db, store.AuditFilter{Action: audit.ActionDropAudit})
	if len(records) != 1 || records[0].Reason != "older than a year" || records[0].Operations[0].Name != "staging/3" {
		t.Errorf("the log says %+v of what was dropped", records)
	}
	for _, statement := range []string{
		`DELETE FROM audit_entries WHERE environment = 'staging'`,
		`DELETE FROM audit_checkpoints WHERE anchor`,
		`UPDATE audit_checkpoints SET anchor = false`,
		`UPDATE audit_checkpoints SET size = 4`,
	} {
		conn, err := pgx.Connect(t.Context(), storetest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s succeeded", statement)
		}
		_ = conn.Close(t.Context())
	}
}
