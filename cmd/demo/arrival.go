package main

import (
	"slices"
	"sync"
	"time"
)

const (
	// keptTimes bounds what percentiles are taken over: the newest changes.
	keptTimes = 1000
	// keptPending bounds the revisions that some service still lacks. The
	// oldest are given up, and counted, when a service stays away for longer.
	keptPending = 10_000
)

// An arrival measures how long a change takes from its commit until the last
// of the services has it. Its methods may be called concurrently.
type arrival struct {
	mu sync.Mutex
	// has holds the newest revision of each service; 0 before the first.
	has []int64
	// since is the revision at which all services had something: what was
	// committed before says nothing about the speed of the stream.
	since   int64
	began   map[int64]time.Time
	times   []time.Duration // a ring of the newest keptTimes
	next    int
	changes int
	dropped int
}

func newArrival(services int) *arrival {
	return &arrival{has: make([]int64, services), began: map[int64]time.Time{}}
}

// Began notes when a revision was committed. The earliest time wins: each
// service's stream tells the same commit, and where a stream tells none, the
// first sight of the revision stands in for it.
func (a *arrival) Began(revision int64, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == 0 || revision <= slices.Min(a.has) {
		return
	}
	if was, ok := a.began[revision]; ok && !at.Before(was) {
		return
	}
	a.began[revision] = at
	if len(a.began) > keptPending {
		oldest := revision
		for r := range a.began {
			oldest = min(oldest, r)
		}
		delete(a.began, oldest)
		a.dropped++
	}
}

// Reached notes that a service evaluates at a revision now, and so at every
// revision before it. It is told once per revision and may skip some.
func (a *arrival) Reached(service int, revision int64, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if revision <= a.has[service] {
		return
	}
	before := slices.Min(a.has)
	a.has[service] = revision
	after := slices.Min(a.has)
	switch {
	case after == 0 || after == before:
		return
	case before == 0:
		a.since = slices.Max(a.has)
		return
	}
	for r, at := range a.began {
		if r > after {
			continue
		}
		delete(a.began, r)
		if r > a.since {
			a.add(max(0, now.Sub(at)))
		}
	}
}

func (a *arrival) add(d time.Duration) {
	a.changes++
	if len(a.times) < keptTimes {
		a.times = append(a.times, d)
		return
	}
	a.times[a.next] = d
	a.next = (a.next + 1) % keptTimes
}

// An Arrivals is a summary of an arrival.
type Arrivals struct {
	// Changes counts the revisions that all services have got to.
	Changes int `json:"changes"`
	// Pending counts those that some service still lacks.
	Pending int `json:"pending"`
	// Dropped counts those given up while a service was away.
	Dropped int `json:"dropped,omitempty"`
	// P50 and P99 are milliseconds from commit to the last service, over the
	// newest 1000 changes.
	P50 float64 `json:"p50Ms"`
	P99 float64 `json:"p99Ms"`
}

// Summary is what has been measured so far.
func (a *arrival) Summary() Arrivals {
	a.mu.Lock()
	defer a.mu.Unlock()
	sorted := slices.Sorted(slices.Values(a.times))
	return Arrivals{
		Changes: a.changes, Pending: len(a.began), Dropped: a.dropped,
		P50: milliseconds(percentile(sorted, 50)), P99: milliseconds(percentile(sorted, 99)),
	}
}

// percentile is the nearest-rank percentile of sorted times: the smallest that
// at least p % of them do not exceed. It is 0 without any.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

// milliseconds keeps two places: what is shown, not what was measured.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}
