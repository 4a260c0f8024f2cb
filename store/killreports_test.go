package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// Of what several servers say of a kill, the best informed one's word stands, and
// requests add up.
func TestKillReports(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	figures := func(connected, reached, timed int, last time.Duration) store.KillFigures {
		return store.KillFigures{Connected: connected, Reached: reached, Timed: timed, P50: last / 2, P99: last, Last: last}
	}
	if _, err := db.KillReport(t.Context(), "staging", 7); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the kill: %v, want ErrNotFound", err)
	}
	for _, step := range []struct {
		name    string
		says    store.KillFigures
		pierced int64
		want    store.KillFigures
		total   int64
	}{
		{"the first word", figures(3, 1, 1, time.Second), 2, figures(3, 1, 1, time.Second), 2},
		{"more have it", figures(3, 2, 2, 3*time.Second), 0, figures(3, 2, 2, 3*time.Second), 2},
		{"a server that knows less", figures(1, 1, 1, time.Minute), 5, figures(3, 2, 2, 3*time.Second), 7},
		{"one of them went", figures(2, 2, 2, 3*time.Second), 0, figures(2, 2, 2, 3*time.Second), 7},
		{"all had it: who comes later does not count", figures(9, 9, 2, 3*time.Second), 0, figures(2, 2, 2, 3*time.Second), 7},
		{"unless it took it", figures(9, 9, 3, time.Hour), 1, figures(9, 9, 3, time.Hour), 8},
		{"after a restart", figures(0, 0, 0, 0), 0, figures(9, 9, 3, time.Hour), 8},
	} {
		if err := db.RecordKill(t.Context(), "staging", 7, at, step.says, step.pierced); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got, err := db.KillReport(t.Context(), "staging", 7)
		want := store.KillReport{KilledAt: at, KillFigures: step.want, Pierced: step.total}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.KillReport{}, "RecordedAt"), cmpopts.EquateApproxTime(0)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", step.name, err, diff)
		}
	}
	if err := db.RecordKill(t.Context(), "nowhere", 7, at, store.KillFigures{}, 0); err == nil {
		t.Error("a kill in an environment that there is not was noted")
	}
}

func TestKillReportsAreBounded(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	const most = 1001
	for revision := range int64(most + 3) {
		if err := db.RecordKill(t.Context(), "staging", 2+revision, time.Now(), store.KillFigures{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for revision, kept := range map[int64]bool{2: false, 4: false, 5: true, most + 4: true} {
		if _, err := db.KillReport(t.Context(), "staging", revision); (err == nil) != kept {
			t.Errorf("the report of revision %d: %v, want kept: %v", revision, err, kept)
		}
	}
}
