package main

import (
	"sync"
	"time"
)

// keptRequests is how many of the last requests the page shows.
const keptRequests = 30

// Counts are those of the requests that ran in one mode.
type Counts struct {
	Requests int `json:"requests"`
	// Torn requests had two variants of one flag among their hops.
	Torn int `json:"torn"`
	// PinUnavailable requests had a flag that could not be had at the pin.
	PinUnavailable int `json:"pinUnavailable"`
	// Failed requests got no answer from some service.
	Failed int `json:"failed"`
}

// A Request is one that the shop has answered.
type Request struct {
	// Sequence is 1, 2, 3 … since the start of the demo.
	Sequence    int       `json:"sequence"`
	At          time.Time `json:"at"`
	Propagation mode      `json:"propagation"`
	Person      Person    `json:"person"`
	// TornFlags names the flags of which two hops saw different variants.
	TornFlags []string `json:"tornFlags,omitempty"`
	Answer    Answer   `json:"answer"`
}

// A record keeps the last requests and counts all of them. The zero value is
// empty; its methods may be called concurrently.
type record struct {
	mu       sync.Mutex
	counts   map[mode]Counts
	requests []Request // newest last
	sequence int
	// header is the value of the guidon header that web sent last.
	header string
}

// Answered counts a request that was answered and keeps it for the page.
func (r *record) Answered(m mode, p Person, a Answer, at time.Time) {
	torn := tornFlags(a.Hops)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(m, func(c *Counts) {
		c.Requests++
		if len(torn) > 0 {
			c.Torn++
		}
		if a.PinUnavailable > 0 {
			c.PinUnavailable++
		}
	})
	r.sequence++
	if len(r.requests) == keptRequests {
		r.requests = append(r.requests[:0], r.requests[1:]...)
	}
	r.requests = append(r.requests, Request{Sequence: r.sequence, At: at, Propagation: m, Person: p, TornFlags: torn, Answer: a})
}

// Failed counts a request that got no answer from some service.
func (r *record) Failed(m mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(m, func(c *Counts) { c.Requests++; c.Failed++ })
}

func (r *record) count(m mode, add func(*Counts)) {
	if r.counts == nil {
		r.counts = map[mode]Counts{}
	}
	c := r.counts[m]
	add(&c)
	r.counts[m] = c
}

// Sent notes the guidon header that web put on an outgoing call.
func (r *record) Sent(header string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.header = header
}

// Header is the last guidon header that web sent; "" before the first.
func (r *record) Header() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.header
}

// Counts of both modes.
func (r *record) Counts() map[mode]Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return map[mode]Counts{on: r.counts[on], off: r.counts[off]}
}

// Since lists the kept requests with a sequence above after, newest first.
func (r *record) Since(after int) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	newer := []Request{}
	for i := len(r.requests) - 1; i >= 0 && r.requests[i].Sequence > after; i-- {
		newer = append(newer, r.requests[i])
	}
	return newer
}
