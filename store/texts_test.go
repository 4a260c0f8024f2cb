package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// verifyExport verifies and replays an export.
func verifyExport(file []byte) error {
	x, err := audit.ReadExport(bytes.NewReader(file), "")
	if err != nil {
		return err
	}
	replay := &audit.Replay{Kinds: store.RowKinds()}
	if x.Header.Scope == audit.Installation {
		replay = store.InstallationReplay(time.Now())
	}
	_, err = x.Verify(replay)
	return err
}

// everything is what the database holds of texts, as one.
func everything(t *testing.T) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `
		SELECT format('SELECT COALESCE(string_agg(%s, chr(10)), '''') FROM (SELECT * FROM %I) t',
			CASE WHEN c.relname = 'audit_entries' THEN 'convert_from(payload, ''UTF8'') || row_to_json(t)::text' ELSE 'row_to_json(t)::text' END, c.relname)
		FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'`)
	if err != nil {
		t.Fatal(err)
	}
	queries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, query := range queries {
		var text string
		if err := conn.QueryRow(t.Context(), query).Scan(&text); err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	return all.String()
}

func TestErase(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	key, _, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyAdmin, Name: "Ada Lovelace", Actor: "Grace Hopper", Reason: "for Ada Lovelace"})
	if err != nil {
		t.Fatal(err)
	}
	ada := "key:" + key.ID + " Ada Lovelace"
	ofAda := func(reason string, operations ...store.Operation) {
		t.Helper()
		cs := change(operations...)
		cs.Actor, cs.Reason, cs.IdempotencyKey = ada, reason, strconv.Itoa(len(reason))
		if _, err := db.Apply(t.Context(), cs); err != nil {
			t.Fatal(err)
		}
	}
	described := put("staging", "a", onOff)
	described.Overridable = new(true)
	described.Description, described.Owner = "a flag", "Ada Lovelace"
	ofAda("because ADA LOVELACE says so", described)
	ofAda("the holidays", put("production", "b", onOff))
	if _, _, err := db.CreateOverride(t.Context(), store.NewOverride{
		Environment: "staging", Flag: "a", Variant: "on", Audience: "shop.example", Actor: ada, Reason: "Ada Lovelace looks at it",
	}); err != nil {
		t.Fatal(err)
	}
	scopes := []string{audit.Installation, "staging", "production"}
	before := map[string][]byte{}
	for _, scope := range scopes {
		sign(t, db, scope)
		before[scope] = exported(t, db, scope)
	}
	if !strings.Contains(string(before["staging"]), "ADA LOVELACE") {
		t.Error("an export does not hold the reasons")
	}

	for name, asked := range map[string]store.Erasure{
		"no reason":         {Person: "Ada Lovelace", Actor: "Grace Hopper"},
		"no actor":          {Person: "Ada Lovelace", Reason: "she asked"},
		"a short name":      {Person: "Al", Actor: "Grace Hopper", Reason: "asked"},
		"a telling reason":  {Person: "Ada Lovelace", Actor: "Grace Hopper", Reason: "ada lovelace asked"},
		"the word for none": {Person: audit.Erased, Actor: "Grace Hopper", Reason: "asked"},
	} {
		if _, err := db.Erase(t.Context(), asked); !errors.Is(err, eval.ErrInvalid) {
			t.Errorf("Erase with %s: %v, want ErrInvalid", name, err)
		}
	}
	asked := store.Erasure{Person: "Ada Lovelace", Actor: "Grace Hopper", Reason: "she asked"}
	// One reason stands in two chains. The rows: her key and override, and two
	// each of flags, revisions and change sets.
	want := store.Erased{Names: 1, Reasons: 4, Rows: 8}
	asked.DryRun = true
	was := everything(t)
	if got, err := db.Erase(t.Context(), asked); err != nil || got != want {
		t.Errorf("dry run = %+v, %v, want %+v", got, err, want)
	}
	if everything(t) != was {
		t.Error("a dry run changed something")
	}
	asked.DryRun = false
	got, err := db.Erase(t.Context(), asked)
	if err != nil || got != want {
		t.Errorf("Erase = %+v, %v, want %+v", got, err, want)
	}
	if text := strings.ToLower(everything(t)); strings.Contains(text, "lovelace") {
		t.Errorf("the name is still there: …%.200s", text[strings.Index(text, "lovelace")-100:])
	}
	if _, err := db.Erase(t.Context(), asked); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Erase of nobody: %v, want ErrNotFound", err)
	}

	for _, scope := range scopes {
		if _, err := db.VerifyAudit(t.Context(), scope, ""); err != nil {
			t.Errorf("chain %q after the erasure: %v", scope, err)
		}
		after := exported(t, db, scope)
		for when, file := range map[string][]byte{"before": before[scope], "after": after} {
			if err := verifyExport(file); err != nil {
				t.Errorf("export of %q made %s: %v", scope, when, err)
			}
		}
		if strings.Contains(strings.ToLower(string(after)), "lovelace") {
			t.Errorf("an export of %q holds the name", scope)
		}
	}
	records := auditLog(t, db, store.AuditFilter{Environments: []string{"staging", "production"}, Key: key.ID})
	if len(records) != 2 || records[1].Actor != "key:"+key.ID+" erased" || records[1].Reason != audit.Erased || records[0].Reason != "the holidays" {
		t.Errorf("what she did is shown as %+v", records)
	}
	erasure := auditLog(t, db, store.AuditFilter{Action: audit.ActionEraseAudit})
	if len(erasure) != 1 || erasure[0].Actor != "Grace Hopper" || erasure[0].Reason != "she asked" || !strings.Contains(string(erasure[0].Operations[0].After), `"reasons":4`) {
		t.Errorf("the erasure is recorded as %+v", erasure)
	}
	owned := auditLog(t, db, store.AuditFilter{Action: audit.ActionDescribeFlag})
	if len(owned) != 1 || !strings.Contains(string(owned[0].Operations[0].After), `"owner":"erased"`) {
		t.Errorf("whose the flag was is recorded as %+v", owned)
	}
	flag, err := db.Flag(t.Context(), "staging", "a", 0)
	if err != nil || flag.Owner != audit.Erased {
		t.Errorf("the flag is owned by %q, %v", flag.Owner, err)
	}
	revisions, _, err := db.RevisionLog(t.Context(), "staging", store.Page{})
	if err != nil || revisions[0].Actor != "key:"+key.ID+" erased" || revisions[0].Reason != audit.Erased {
		t.Errorf("revisions name %+v, %v", revisions[0], err)
	}

	// Under the name that her key has now, a change set is still known by its
	// idempotency key.
	cs := change(put("production", "b", onOff))
	cs.Actor, cs.Reason, cs.IdempotencyKey = "key:"+key.ID+" erased", "the holidays", "the holidays"
	applied, err := db.Apply(t.Context(), cs)
	if err != nil || applied.Revisions["production"] != 2 {
		t.Errorf("a repeated change set = %+v, %v, want the first one's", applied.Revisions, err)
	}
	// The flag is given away, and the log says from whom no more than that.
	apply(t, db, store.DescribeFlag{Key: "a", Owner: new("Barbara Liskov")})
	owned = auditLog(t, db, store.AuditFilter{Action: audit.ActionDescribeFlag})
	if o := owned[0].Operations[0]; !strings.Contains(string(o.Before), `"owner":"erased"`) || !strings.Contains(string(o.After), `"owner":"Barbara Liskov"`) {
		t.Errorf("the gift is recorded as %s → %s", o.Before, o.After)
	}
	if _, err := db.VerifyAudit(t.Context(), audit.Installation, ""); err != nil {
		t.Error(err)
	}
	// Somebody of that name who comes later is known again.
	ofAda("another day", put("staging", "c", onOff))
	if records := auditLog(t, db, store.AuditFilter{Environments: []string{"staging"}}); records[0].Actor != ada || records[1].Actor == ada {
		t.Errorf("a later act is shown as of %q, an earlier one of %q", records[0].Actor, records[1].Actor)
	}
}

func TestTextsThatWereChangedAreFound(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	sql(t, `UPDATE audit_texts SET text = 'eve' WHERE person`)
	_, err := db.VerifyAudit(t.Context(), "staging", "")
	if broken, ok := errors.AsType[*audit.BrokenError](err); !ok || broken.Seq != 1 {
		t.Errorf("VerifyAudit with another name: %v, want broken at 1", err)
	}
}

// TestErasureKeepsLogsWhole is property P10: whatever is done and erased, in
// whatever order, every chain and every export verifies and replays.
func TestErasureKeepsLogsWhole(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	rapid.Check(t, func(rt *rapid.T) {
		people := []string{"Ada Lovelace", "Grace Hopper", "Barbara Liskov"}
		gone := map[string]bool{}
		var exports [][]byte
		for i := range rapid.IntRange(3, 12).Draw(rt, "steps") {
			who := rapid.SampledFrom(people).Draw(rt, "who")
			other := rapid.SampledFrom(people).Draw(rt, "other")
			switch rapid.SampledFrom([]string{"change", "change", "own", "key", "erase", "export"}).Draw(rt, "step") {
			case "own":
				key := fmt.Sprint("owned-", rapid.IntRange(0, 2).Draw(rt, "flag"))
				made := put("staging", key, onOff)
				made.Owner = other
				cs := change(made, store.DescribeFlag{Key: key, Description: new(fmt.Sprint("step ", i))})
				cs.Actor = who
				if _, err := db.Apply(t.Context(), cs); err != nil {
					rt.Fatal(err)
				}
				delete(gone, who)
				delete(gone, other)
			case "change":
				cs := change(put("staging", fmt.Sprint("flag-", rapid.IntRange(0, 2).Draw(rt, "flag")), fmt.Sprintf(`{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, i)))
				cs.Actor, cs.Reason = who, rapid.SampledFrom([]string{"", "a reason", "for " + other}).Draw(rt, "reason")
				if _, err := db.Apply(t.Context(), cs); err != nil {
					rt.Fatal(err)
				}
				delete(gone, who)
				if strings.HasSuffix(cs.Reason, other) {
					delete(gone, other)
				}
			case "key":
				if _, _, err := db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: other, Actor: who}); err != nil {
					rt.Fatal(err)
				}
				delete(gone, who)
				delete(gone, other)
			case "erase":
				_, err := db.Erase(t.Context(), store.Erasure{Person: other, Actor: "database: test", Reason: "asked"})
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					rt.Fatal(err)
				}
				gone[other] = true
			case "export":
				exports = append(exports, exported(t, db, "staging"), exported(t, db, audit.Installation))
			}
		}
		last := [][]byte{exported(t, db, "staging"), exported(t, db, audit.Installation)}
		for _, file := range slices.Concat(exports, last) {
			if err := verifyExport(file); err != nil {
				rt.Errorf("an export: %v", err)
			}
		}
		for _, scope := range []string{"staging", audit.Installation} {
			if _, err := db.VerifyAudit(t.Context(), scope, ""); err != nil {
				rt.Errorf("chain %q: %v", scope, err)
			}
		}
		for name := range gone {
			if bytes.Contains(slices.Concat(last...), []byte(name)) {
				rt.Errorf("%s was erased and is in an export", name)
			}
		}
	})
}
