package store_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestDropOfManyHoldsNobodyUp drops more entries than go at a time, with their
// reasons, while changes are made. GUIDON_DROP_ENTRIES says how many.
func TestDropOfManyHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	entries := int64(2500)
	if text := os.Getenv("GUIDON_DROP_ENTRIES"); text != "" {
		var err error
		if entries, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	db := storetest.New(t)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{
		`INSERT INTO audit_texts (hash, salt, person, text)
			SELECT sha256(n::text::bytea), decode(repeat('00', 16), 'hex'), false, 'reason ' || n FROM generate_series(1, %d + 1) n`,
		`INSERT INTO audit_entries (environment, seq, prev_hash, entry_hash, payload, created_at, actor, actions, names, texts, change_id, correlation, revision)
			SELECT 'staging', n, sha256('a'), sha256('b'), '{}', now(), 'ada', '{}', '{}', ARRAY[sha256(n::text::bytea)], gen_random_uuid(), '', NULL
			FROM generate_series(1, %d + 1) n`,
		`INSERT INTO audit_checkpoints (environment, size, head, edge, note, created_at) VALUES ('staging', %d, sha256('b'), '', 'a note', now())`,
		`UPDATE environments SET audit_seq = %d + 1, audit_head = sha256('b') WHERE name = 'staging'`,
	} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(statement, entries)); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan error)
	made, longest := 0, time.Duration(0)
	go func() {
		for {
			began := time.Now()
			_, err := db.Apply(t.Context(), change(put("staging", "a", fmt.Sprintf(`{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, made))))
			longest = max(longest, time.Since(began))
			made++
			select {
			case <-stop:
				done <- err
				return
			default:
			}
			if err != nil {
				<-stop
				done <- err
				return
			}
		}
	}()
	began := time.Now()
	c := store.Checkpoint{Environment: "staging", Head: audit.Head{Seq: entries}}
	if err := db.DropAudit(t.Context(), c, "ada", "older than a year"); err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("a change meanwhile: %v", err)
	}
	t.Logf("%d entries in %v; %d changes meanwhile, the slowest in %v", entries, took, made, longest)
	var first, reasons int64
	if err := conn.QueryRow(t.Context(), `SELECT min(seq), (SELECT count(*) FROM audit_texts WHERE text LIKE 'reason %')
		FROM audit_entries WHERE environment = 'staging'`).Scan(&first, &reasons); err != nil || first != entries+1 || reasons != 1 {
		t.Errorf("the first entry is %d and %d reasons are left, want %d and 1: %v", first, reasons, entries+1, err)
	}
}
