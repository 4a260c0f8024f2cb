package store_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// onOff is the definition of a boolean flag.
const onOff = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}`

func change(ops ...store.Operation) store.ChangeSet {
	return store.ChangeSet{Actor: "ada", Reason: "because", Operations: ops}
}

func put(env, key, definition string) store.PutFlag {
	return store.PutFlag{Environment: env, Key: key, Definition: []byte(definition)}
}

func apply(t *testing.T, db *store.DB, ops ...store.Operation) store.Applied {
	t.Helper()
	applied, err := db.Apply(t.Context(), change(ops...))
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// written is how much an environment has on record.
type written struct {
	Revision int64
	Entries  int64
	Rows     int
}

func state(t *testing.T, db *store.DB, env string) written {
	t.Helper()
	rows, revision, err := db.SnapshotRows(t.Context(), env, 0)
	if err != nil {
		t.Fatal(err)
	}
	return written{revision, verify(t, db, env).Seq, len(rows)}
}

// verify checks the whole chain of a scope and returns its head.
func verify(t *testing.T, db *store.DB, scope string) audit.Head {
	t.Helper()
	head, err := audit.Verify(scope, audit.Head{}, db.Entries(t.Context(), scope, 0, math.MaxInt64))
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// snapshot compiles an environment as of a revision.
func snapshot(t *testing.T, db *store.DB, env string, revision int64) *eval.Snapshot {
	t.Helper()
	rows, at, err := db.SnapshotRows(t.Context(), env, revision)
	if err != nil {
		t.Fatal(err)
	}
	s, err := eval.Compile(at, rows)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func variant(t *testing.T, s *eval.Snapshot, key string) string {
	t.Helper()
	r := s.Evaluate(key, nil, 0)
	return fmt.Sprintf("%s/%s", r.Variant(), r.Reason())
}

// sql runs statements past the API, in the test's own database.
func sql(t *testing.T, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, x := range list {
		out = append(out, name(x))
	}
	return out
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
