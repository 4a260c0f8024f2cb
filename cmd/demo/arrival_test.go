package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	upTo := func(n int) []time.Duration {
		d := make([]time.Duration, n)
		for i := range d {
			d[i] = time.Duration(i + 1)
		}
		return d
	}
	tests := []struct {
		n, p int
		want time.Duration
	}{
		{0, 50, 0},
		{0, 99, 0},
		{1, 0, 1},
		{1, 50, 1},
		{1, 99, 1},
		{1, 100, 1},
		{2, 50, 1},
		{2, 51, 2},
		{2, 99, 2},
		{5, 50, 3},
		{100, 50, 50},
		{100, 99, 99},
		{100, 100, 100},
		{101, 99, 100},
		{1000, 99, 990},
	}
	for _, tt := range tests {
		if got := percentile(upTo(tt.n), tt.p); got != tt.want {
			t.Errorf("percentile(1..%d, %d) = %d, want %d", tt.n, tt.p, got, tt.want)
		}
	}
}

func TestArrival(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	a := newArrival(2)

	// What was there when the services came is no change.
	a.Began(7, at(0))
	a.Reached(0, 7, at(1))
	a.Reached(1, 6, at(500))
	a.Reached(1, 7, at(900))
	if diff := cmp.Diff(Arrivals{}, a.Summary()); diff != "" {
		t.Fatalf("after the first snapshots (-want +got):\n%s", diff)
	}

	// 8 is told twice, and counts from its commit to the last service.
	a.Began(8, at(1010))
	a.Began(8, at(1000))
	a.Began(8, at(1020))
	a.Reached(0, 8, at(1004))
	if diff := cmp.Diff(Arrivals{Pending: 1}, a.Summary()); diff != "" {
		t.Fatalf("one of two services has it (-want +got):\n%s", diff)
	}
	a.Reached(1, 8, at(1010))
	a.Reached(1, 8, at(5000))
	if diff := cmp.Diff(Arrivals{Changes: 1, P50: 10, P99: 10}, a.Summary()); diff != "" {
		t.Fatalf("both have it (-want +got):\n%s", diff)
	}
	// A late word about it changes nothing.
	a.Began(8, at(900))

	// Service 1 skips from 8 to 10: it has 9 when it has 10.
	a.Began(9, at(2000))
	a.Reached(0, 9, at(2002))
	a.Began(10, at(2010))
	a.Reached(0, 10, at(2012))
	a.Reached(1, 10, at(2030))
	if diff := cmp.Diff(Arrivals{Changes: 3, P50: 20, P99: 30}, a.Summary()); diff != "" {
		t.Fatalf("after a skip (-want +got):\n%s", diff)
	}

	// A commit in the future of this clock took no time, not less than none.
	a.Began(11, at(3100))
	a.Reached(0, 11, at(3000))
	a.Reached(1, 11, at(3001))
	if got := a.Summary(); got.Changes != 4 || got.P99 != 30 {
		t.Errorf("after a clock ahead: %+v, want 4 changes and p99 30", got)
	}
}

// A service that stays away bounds neither memory nor the others.
func TestArrivalDrops(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	a := newArrival(2)
	a.Reached(0, 1, start)
	a.Reached(1, 1, start)
	for r := int64(2); r < 2+keptPending+3; r++ {
		a.Began(r, start)
		a.Reached(0, r, start)
	}
	if got := a.Summary(); got.Pending != keptPending || got.Dropped != 3 {
		t.Errorf("a service away: %+v, want %d pending and 3 dropped", got, keptPending)
	}
	a.Reached(1, 2+keptPending+2, start)
	if got := a.Summary(); got.Pending != 0 || got.Changes != keptPending {
		t.Errorf("it is back: %+v, want none pending and %d changes", got, keptPending)
	}
}
