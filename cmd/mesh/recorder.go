package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxExamples bounds the divergences that are told in full.
const maxExamples = 3

// A group is what must have one answer: before a kill of its flag, and after it.
type group struct {
	flag, subject string
	emergency     int64 // revision of the kill that decided; 0 for none
}

// An answer is what one evaluation gave.
type answer struct{ Variant, Value string }

// A recorder judges evaluations while they come in. It stands outside: what it
// groups by is the mesh's own number of a request, not what services believe.
type recorder struct {
	requests []record // by number
	// evaluations are those that were compared; errors are apart.
	evaluations, divergent atomic.Int64
	// backward are those that went back behind a kill which the request had met
	// on its way (K2), ignoring those of an instance that knew of a kill and did
	// not serve it (K3).
	backward, ignoring atomic.Int64

	mu       sync.Mutex
	errors   map[string]int
	examples []string
	counts   map[string]int
	bytes    []int
	fetches  []time.Duration
	killed   map[emergency]answer
}

type record struct {
	mu     sync.Mutex
	groups map[group]seen
	roots  map[string]bool
	torn   bool
	// met is the kill that decided first, by flag; pierced says that it was not
	// the only one, or that none decided before.
	met     map[string]int64
	pierced bool
}

// seen is the first answer of a group, and where it was given.
type seen struct {
	answer
	at string
}

func newRecorder(requests int) *recorder {
	return &recorder{requests: make([]record, requests), errors: map[string]int{}, counts: map[string]int{}, killed: map[emergency]answer{}}
}

// Evaluated takes an answer down.
func (r *recorder) Evaluated(request int, at string, g group, a answer) {
	r.evaluations.Add(1)
	of := &r.requests[request]
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.groups == nil {
		of.groups, of.met = map[group]seen{}, map[string]int64{}
	}
	if met, known := of.met[g.flag]; known && met != g.emergency {
		of.pierced = true
	}
	of.met[g.flag] = g.emergency
	if g.emergency != 0 && !r.dead(emergency{g.flag, g.emergency}, a) {
		of.torn = true
		r.divergent.Add(1)
		r.example(fmt.Sprintf("request %d: kill %d of %s is %+v at %s, and something else elsewhere", request, g.emergency, g.flag, a, at))
	}
	first, known := of.groups[g]
	if !known {
		of.groups[g] = seen{a, at}
		return
	}
	if first.answer == a {
		return
	}
	of.torn = true
	r.divergent.Add(1)
	r.example(fmt.Sprintf("request %d, %s for %q: %+v at %s, %+v at %s", request, g.flag, g.subject, first.answer, first.at, a, at))
}

// dead reports whether a is what every request gets of a kill.
func (r *recorder) dead(e emergency, a answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, known := r.killed[e]
	if !known {
		r.killed[e] = a
	}
	return !known || first == a
}

// Backward takes down an answer from before a kill that the request had met.
func (r *recorder) Backward(request int, at string, g group, met int64) {
	r.backward.Add(1)
	r.example(fmt.Sprintf("request %d, %s at %s: kill %d decides, and the request has met kill %d", request, g.flag, at, g.emergency, met))
}

// Ignoring takes down an answer from before a kill that the instance knew of.
func (r *recorder) Ignoring(request int, at string, g group, known int64) {
	r.ignoring.Add(1)
	r.example(fmt.Sprintf("request %d, %s at %s: kill %d decides, and the instance knows of kill %d", request, g.flag, at, g.emergency, known))
}

// Rooted takes down which root an evaluation descended from.
func (r *recorder) Rooted(request int, root string) {
	of := &r.requests[request]
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.roots == nil {
		of.roots = map[string]bool{}
	}
	of.roots[root] = true
}

// Failed counts an evaluation that resolved to an explicit ERROR.
func (r *recorder) Failed(code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[code]++
}

// Count counts something that happened.
func (r *recorder) Count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
}

// Sent takes down the size of a header.
func (r *recorder) Sent(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes = append(r.bytes, bytes)
}

// Fetched takes down how long the server took for a definition.
func (r *recorder) Fetched(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fetches = append(r.fetches, d)
}

func (r *recorder) example(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.examples) < maxExamples {
		r.examples = append(r.examples, text)
	}
}

// judged counts requests: with a divergence, with answers of several roots, and
// with values that a kill changed under way.
func (r *recorder) judged() (torn, manyRoots, pierced int) {
	for i := range r.requests {
		of := &r.requests[i]
		of.mu.Lock()
		if of.torn {
			torn++
		}
		if len(of.roots) > 1 {
			manyRoots++
		}
		if of.pierced {
			pierced++
		}
		of.mu.Unlock()
	}
	return torn, manyRoots, pierced
}

// percentile is the nearest-rank percentile, 0 without values.
func percentile[T cmp.Ordered](values []T, p float64) (none T) {
	if len(values) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p/100*float64(len(sorted))))]
}
