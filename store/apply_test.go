package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestPutFlagMakesARevision(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	applied := apply(t, db, put("development", "checkout", onOff))
	want := store.Applied{
		ChangeID: applied.ChangeID, Revisions: map[string]int64{"development": 2},
		Changes: []store.Changed{{
			Environment: "development", Kind: eval.KindFlag, Name: "checkout", Action: store.ActionCreated,
			After: []byte(`{"flag":{"defaultVariant":"off","state":"ENABLED","variants":{"off":false,"on":true}},` +
				`"guidon":{"kind":"release","project":"default","scope":"request","type":"boolean"}}`),
		}},
	}
	if diff := cmp.Diff(want, applied); diff != "" {
		t.Errorf("Apply (-want +got):\n%s", diff)
	}
	if got := variant(t, snapshot(t, db, "development", 0), "checkout"); got != "off/STATIC" {
		t.Errorf("checkout in development is %s, want off/STATIC", got)
	}
	if got := variant(t, snapshot(t, db, "production", 0), "checkout"); !strings.HasSuffix(got, "/ERROR") {
		t.Errorf("checkout in production is %s, want an error: it was never put there", got)
	}
	if got, want := state(t, db, "production"), (written{1, 0, 0}); got != want {
		t.Errorf("production = %+v, want %+v", got, want)
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, put("production", "a", onOff))
	apply(t, db, put("production", "b", onOff))
	before := state(t, db, "production")
	cs := change(store.SetState{Environment: "production", Key: "a", State: "DISABLED"})
	cs.Expect = map[string]int64{"production": 2}
	_, err := db.Apply(t.Context(), cs)
	conflict, ok := errors.AsType[*store.ConflictError](err)
	if !ok || !errors.Is(err, store.ErrConflict) {
		t.Fatalf("Apply at a stale revision: %v, want a conflict", err)
	}
	want := &store.ConflictError{Environment: "production", Expected: 2, Actual: 3, Changed: []eval.Name{{Kind: eval.KindFlag, Name: "b"}}}
	if diff := cmp.Diff(want, conflict); diff != "" {
		t.Errorf("conflict (-want +got):\n%s", diff)
	}
	if got := state(t, db, "production"); got != before {
		t.Errorf("the refused change left %+v, want %+v", got, before)
	}
}
