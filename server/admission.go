package server

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"sync"
	"time"
)

const (
	// memoryShare is the part of the Go memory limit beyond which no more
	// streams are let in.
	memoryShare = 0.9
	// memoryEvery is how often the memory in use is looked at.
	memoryEvery = 100 * time.Millisecond
	// longestRetry bounds how late a client that is refused is asked to come back.
	longestRetry = 30 * time.Second
)

// admission lets streams in, so many a second and while there is memory.
// Those that are refused are told when to come back, each at a moment of its
// own, so that a herd queues up where it costs nothing. Streams that are open
// are none of its business.
type admission struct {
	rate float64 // streams a second, and how many may come at once
	now  func() time.Time
	used func() (used, limit float64)

	mu       sync.Mutex
	tokens   float64
	filledAt time.Time
	// turn is when the next of those that are refused should come back.
	turn time.Time
	// roomy is whether there was memory at lookedAt.
	roomy    bool
	lookedAt time.Time
}

func newAdmission(rate int, now func() time.Time) *admission {
	return &admission{rate: float64(rate), now: now, used: memoryInUse, tokens: float64(rate)}
}

// drainPace is the time for each open stream over which a server that stops
// spreads its goodbyes, until Config.Drain bounds them all.
const drainPace = time.Millisecond

// enter counts a stream, of whatever protocol, until what it returns is called.
// One too many is told when to come back; a server that stops takes none.
func (s *Server) enter(ctx context.Context) (leave func(), err error) {
	if s.draining.Err() != nil {
		callOf(ctx).hangUp()
		return nil, errDraining
	}
	if s.open.Add(1) > int64(s.cfg.MaxStreams) {
		err = s.admission.full()
	} else {
		err = s.admission.admit()
	}
	if err != nil {
		s.open.Add(-1)
		s.metrics.refused.Inc()
		callOf(ctx).hangUp()
		return nil, err
	}
	return func() { s.open.Add(-1) }, nil
}

// enterAs lets a stream of another protocol in, and notes it.
func (s *Server) enterAs(ctx context.Context, protocol, environment string) (leave func(), err error) {
	counted, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	noted := s.fleet.Attend(environment, protocol, callOf(ctx).agent)
	return func() {
		noted()
		counted()
	}, nil
}

// goodbyes is the time over which a server that stops spreads its goodbyes.
func (s *Server) goodbyes() time.Duration {
	return min(s.cfg.Drain, time.Duration(s.open.Load())*drainPace)
}

// linger waits for a stream's own moment to end when the server stops, and
// reports whether the client is still there.
func (s *Server) linger(left <-chan struct{}) bool {
	wait := time.NewTimer(rand.N(s.goodbyes() + 1)) //nolint:gosec // spreads load, guards nothing
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-left:
		return false
	}
}

// goodbye is what a stream that has no word for it ends with when the server
// stops, at a moment of its own.
func (s *Server) goodbye(ctx context.Context) error {
	if !s.linger(ctx.Done()) {
		return ctx.Err()
	}
	return errDraining
}

// refusedError says that a stream was not let in and when to try again.
type refusedError struct {
	err   error
	after time.Duration
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// retryAfter is the value of the header of that name: whole seconds, upwards.
func (e *refusedError) retryAfter() string {
	return strconv.Itoa(int(math.Ceil(e.after.Seconds())))
}

// admit returns nil if a stream may be opened now.
func (a *admission) admit() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if now.Sub(a.lookedAt) >= memoryEvery {
		used, limit := a.used()
		a.roomy, a.lookedAt = used < memoryShare*limit, now
	}
	if a.tokens = min(a.rate, a.tokens+a.rate*now.Sub(a.filledAt).Seconds()); a.filledAt.IsZero() {
		a.tokens = a.rate
	}
	a.filledAt = now
	switch {
	case !a.roomy:
		return a.refuse(now, fmt.Errorf("%w: its memory is nearly used up", errFull))
	case a.tokens < 1:
		return a.refuse(now, fmt.Errorf("%w: too many streams are being opened", errFull))
	}
	a.tokens--
	return nil
}

// full refuses a stream for another reason.
func (a *admission) full() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refuse(a.now(), errFull)
}

// refuse names the next turn there is. It is called under the lock.
func (a *admission) refuse(now time.Time, err error) error {
	step := time.Duration(float64(time.Second) / a.rate)
	if a.turn.Before(now) {
		a.turn = now.Add(time.Second)
	}
	after := a.turn.Sub(now)
	if after > longestRetry {
		// The queue is full: anywhere in it is as good.
		return &refusedError{err, longestRetry/2 + rand.N(longestRetry/2)} //nolint:gosec // spreads load, guards nothing
	}
	a.turn = a.turn.Add(step)
	return &refusedError{err, after}
}

// memoryInUse is what the Go runtime holds, and what it was told to stay below.
func memoryInUse() (used, limit float64) {
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(samples)
	return float64(samples[0].Value.Uint64() - samples[1].Value.Uint64()), float64(debug.SetMemoryLimit(-1))
}
