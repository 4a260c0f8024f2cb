package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

func auditLog(t *testing.T, db *store.DB, filter store.AuditFilter) []audit.Record {
	t.Helper()
	var out []audit.Record
	page := store.Page{Size: 3}
	for {
		entries, next, err := db.Audit(t.Context(), filter, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			r, err := e.Record()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
		if page.Token = next; next == "" {
			return out
		}
	}
}

func TestEntrySaysWhoWhatWhenAndWhy(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "a", onOff))
	cs := change(store.SetState{Environment: "production", Key: "a", State: "DISABLED"})
	cs.Actor, cs.Reason, cs.CorrelationID = "grace", "orders fail <fast>", "0123456789abcdef"
	applied, err := db.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	records := auditLog(t, db, store.AuditFilter{Environments: []string{"production"}})
	want := audit.Record{
		Actor: "grace", Action: audit.ActionSetState, Reason: "orders fail <fast>", Change: applied.ChangeID,
		Environment: "production", Revision: 3, Correlation: "0123456789abcdef",
		Operations: []audit.Operation{{
			Action: audit.ActionSetState, Kind: "flag", Name: "a",
			Before: applied.Changes[0].Before, After: applied.Changes[0].After,
		}},
	}
	if diff := cmp.Diff(want, records[0], cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("newest record (-want +got):\n%s", diff)
	}
	f, err := db.Flag(t.Context(), "production", "a", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !records[0].Time.Equal(f.UpdatedAt) {
		t.Errorf("the entry is of %v, the version of %v", records[0].Time, f.UpdatedAt)
	}
	diff, err := audit.Diff(records[0].Operations[0].Before, records[0].Operations[0].After)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%s %s→%s", diff[0].Path, diff[0].Before, diff[0].After), `$.flag.state "ENABLED"→"DISABLED"`; len(diff) != 1 || got != want {
		t.Errorf("field diff = %s (%d), want %s", got, len(diff), want)
	}
}

func TestAuditFilterAndPage(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	mixed := apply(t, db, put("staging", "b", onOff), store.SetState{Environment: "staging", Key: "a", State: "DISABLED"})
	described := put("production", "a", onOff)
	described.Owner = "team"
	apply(t, db, described)
	cs := change(store.SetState{Environment: "staging", Key: "b", State: "DISABLED"})
	cs.Actor = "grace"
	if _, err := db.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	label := func(r audit.Record) string {
		return fmt.Sprintf("%s/%s/%d", r.Environment, r.Action, len(r.Operations))
	}
	for name, c := range map[string]struct {
		filter store.AuditFilter
		want   []string
	}{
		"everything":   {store.AuditFilter{}, []string{"staging/flag.state/1", "production/flag.put/1", "/flag.describe/1", "staging/change/2", "staging/flag.put/1"}},
		"environment":  {store.AuditFilter{Environments: []string{"staging"}}, []string{"staging/flag.state/1", "staging/change/2", "staging/flag.put/1"}},
		"installation": {store.AuditFilter{Environments: []string{audit.Installation}}, []string{"/flag.describe/1"}},
		"none":         {store.AuditFilter{Environments: []string{}}, nil},
		"flag":         {store.AuditFilter{Flag: "b"}, []string{"staging/flag.state/1", "staging/change/2"}},
		"actor":        {store.AuditFilter{Actor: "grace"}, []string{"staging/flag.state/1"}},
		"action":       {store.AuditFilter{Action: audit.ActionSetState}, []string{"staging/flag.state/1", "staging/change/2"}},
		"change":       {store.AuditFilter{ChangeID: mixed.ChangeID}, []string{"staging/change/2"}},
		"all":          {store.AuditFilter{Environments: []string{"staging"}, Flag: "a", Actor: "ada", Action: audit.ActionPutFlag}, []string{"staging/change/2", "staging/flag.put/1"}},
	} {
		if diff := cmp.Diff(c.want, names(auditLog(t, db, c.filter), label)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, _, err := db.Audit(t.Context(), store.AuditFilter{ChangeID: "x"}, store.Page{}); !errors.Is(err, eval.ErrInvalid) {
		t.Errorf("Audit of a change ID that is none: %v, want ErrInvalid", err)
	}
}

func TestAuditLogCannotBeChanged(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("staging", "a", onOff))
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, role := range []string{"origin", "replica"} {
		if _, err := conn.Exec(t.Context(), "SET session_replication_role = "+role); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{`UPDATE audit_entries SET actor = 'nobody'`, `DELETE FROM audit_entries`, `TRUNCATE audit_entries`} {
			if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s as %s: %v, want it refused", statement, role, err)
			}
		}
	}
	if head := verify(t, db, "staging"); head.Seq != 1 {
		t.Errorf("the chain has %d entries, want 1", head.Seq)
	}
}

func TestVerifyFindsWhatWasChangedBehindTheTriggers(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for i := range 5 {
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
	}
	sql(t, `ALTER TABLE audit_entries DISABLE TRIGGER USER`,
		`UPDATE audit_entries SET payload = set_byte(payload, 20, get_byte(payload, 20) # 1) WHERE environment = 'staging' AND seq = 3`)
	head, err := audit.Verify("staging", audit.Head{}, db.Entries(t.Context(), "staging", 0, math.MaxInt64))
	if broken, ok := errors.AsType[*audit.BrokenError](err); !ok || broken.Seq != 3 || head.Seq != 2 {
		t.Errorf("Verify = head %d, %v, want broken at 3", head.Seq, err)
	}
}

func TestLongChainIsReadInPieces(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	const each, n = 450 << 10, 20 // more than 8 MiB together
	large := fmt.Sprintf(`{"state":"ENABLED","variants":{"a":%q},"defaultVariant":"a"}`, strings.Repeat("x", each))
	for i := range n {
		apply(t, db, put("staging", fmt.Sprint("flag-", i), large))
	}
	if head := verify(t, db, "staging"); head.Seq != n {
		t.Errorf("the chain has %d entries, want %d", head.Seq, n)
	}
	if records := auditLog(t, db, store.AuditFilter{}); len(records) != n {
		t.Errorf("the log lists %d entries, want %d", len(records), n)
	}
}

// TestTextIsSearchedInWindows looks for texts in more entries than are read at
// once.
func TestTextIsSearchedInWindows(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	const entries = 25_000
	sql(t, fmt.Sprintf(`INSERT INTO audit_entries (environment, seq, prev_hash, entry_hash, payload, created_at, actor, actions, names, texts, change_id, correlation, revision)
		SELECT (ARRAY['staging', 'production'])[1 + n %% 2], n, sha256(''), sha256(n::text::bytea), convert_to(format('{"action":"flag.put","n":"%%s.","pad":"%%s"}', n, repeat(md5(n::text), 30)), 'UTF8'),
			'2026-01-01Z'::timestamptz + n * interval '1 second', 'guidon', '{flag.put}', '{flag/a}', ARRAY[sha256(n::text::bytea)], gen_random_uuid(), '', n
		FROM generate_series(1, %d) AS n`, entries))
	sql(t, fmt.Sprintf(`INSERT INTO audit_texts (hash, salt, person, text) SELECT sha256(n::text::bytea), decode(repeat('00', 16), 'hex'), false, 'ticket ' || n FROM generate_series(1, %d) AS n`, entries))
	list := func(filter store.AuditFilter, size int) (seqs []int64) {
		t.Helper()
		token := ""
		for {
			found, next, err := db.Audit(t.Context(), filter, store.Page{Size: size, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range found {
				seqs = append(seqs, e.Seq)
			}
			if token = next; token == "" {
				return seqs
			}
		}
	}
	for _, c := range []struct {
		filter store.AuditFilter
		size   int
		want   []int64
	}{
		{store.AuditFilter{Text: `"n":"1."`}, 10, []int64{1}},
		{store.AuditFilter{Text: "nowhere"}, 10, nil},
		{store.AuditFilter{Text: "ticket 9999"}, 10, []int64{9999}},
		{store.AuditFilter{Text: `9999."`}, 1, []int64{19999, 9999}},
		{store.AuditFilter{Text: `000."`, Environments: []string{"staging"}}, 7, []int64{
			25000, 24000, 23000, 22000, 21000, 20000, 19000, 18000, 17000, 16000, 15000, 14000, 13000,
			12000, 11000, 10000, 9000, 8000, 7000, 6000, 5000, 4000, 3000, 2000, 1000,
		}},
		{store.AuditFilter{Text: `0000."`, Before: time.Date(2026, 1, 1, 5, 0, 0, 0, time.UTC)}, 10, []int64{10000}},
	} {
		got := list(c.filter, c.size)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("Audit(%+v) (-want +got):\n%s", c.filter, diff)
		}
	}
}

// TestSlowReadIsSaidToBeSlow: nothing was changed, and asking again is no help.
func TestSlowReadIsSaidToBeSlow(t *testing.T) {
	t.Parallel()
	storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: storetest.URL(t), StatementTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "LOCK TABLE audit_entries")
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.Audit(t.Context(), store.AuditFilter{Text: "x"}, store.Page{}); !errors.Is(err, store.ErrSlow) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Audit behind a lock: %v, want ErrSlow", err)
	}
}
