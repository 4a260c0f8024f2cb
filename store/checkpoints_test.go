package store_test

import (
	"bytes"
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
		"a lost revision": {[]string{`UPDATE environments SET revision = revision - 1 WHERE name = 'staging'`}, "*audit.StateError", "at revision 3, the last entry made revision 4"},
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
