package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/guidon-flags/guidon/server/auth"
)

// errTooMany refuses an evaluation that is one too many.
var errTooMany = errors.New("too many requests")

const (
	// burst is how many seconds' worth of evaluations may come at once.
	burst = 2
	// maxBuckets bounds the buckets that a limiter turns over at a time.
	maxBuckets = 100_000
)

// rates bound how often evaluations may be asked for, whatever the protocol.
type rates struct {
	client, server, address *limiter
}

// limiter is a bucket for each of those whom it limits. A nil limiter limits
// nobody.
//
// What it holds is bounded: a bucket from which nobody drew for as long as it
// takes to fill is as good as a new one, so every so often those are forgotten.
// Where there are too many all the same, those who come late share one.
type limiter struct {
	rate   rate.Limit
	now    func() time.Time
	most   int
	refuse func() // counts

	mu sync.Mutex
	// young are the buckets that were drawn from since turnedAt, old those that
	// were before.
	young, old map[string]*rate.Limiter
	turnedAt   time.Time
	shared     *rate.Limiter
}

// newLimiter returns a limiter to so many a second; nil for 0.
func newLimiter(perSecond int, now func() time.Time, refuse func()) *limiter {
	if perSecond <= 0 {
		return nil
	}
	l := &limiter{rate: rate.Limit(perSecond), now: now, most: maxBuckets, refuse: refuse}
	l.shared = l.full()
	return l
}

// full is a bucket that nobody drew from yet.
func (l *limiter) full() *rate.Limiter { return rate.NewLimiter(l.rate, burst*int(l.rate)) }

// take takes one from the bucket of a name. If there is none it returns how
// long to wait for the next.
func (l *limiter) take(name string) time.Duration {
	if l == nil {
		return 0
	}
	now := l.now()
	taken := l.bucket(name, now).ReserveN(now, 1)
	wait := taken.DelayFrom(now)
	if wait > 0 {
		taken.CancelAt(now)
		l.refuse()
	}
	return wait
}

// bucket finds the bucket of a name, or makes one.
func (l *limiter) bucket(name string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.young == nil || now.Sub(l.turnedAt) >= burst*time.Second {
		l.old, l.young, l.turnedAt = l.young, map[string]*rate.Limiter{}, now
	}
	b := l.young[name]
	if b != nil {
		return b
	}
	b = l.old[name]
	if len(l.young) >= l.most {
		return cmp.Or(b, l.shared)
	}
	if b == nil {
		b = l.full()
	}
	l.young[name] = b
	return b
}

// pace refuses a call that asks for evaluations if its key does so too often, or
// if it has a client key, which anybody may have, and too many such calls come
// from where it comes from.
func (s *Server) pace(ctx context.Context, p auth.Principal, procedure string) error {
	if auth.ActionOf(procedure) != auth.ActionEvaluate {
		return nil
	}
	l := s.rates.server
	if p.Kind == auth.Client {
		l = s.rates.client
		if err := s.paceAddress(ctx); err != nil {
			return err
		}
	}
	if wait := l.take(p.KeyID); wait > 0 {
		return &refusedError{fmt.Errorf("%w with this key", errTooMany), wait}
	}
	return nil
}

// paceAddress refuses a call if too many like it come from where it comes from.
func (s *Server) paceAddress(ctx context.Context) error {
	if s.rates.address == nil {
		return nil
	}
	if wait := s.rates.address.take(callOf(ctx).from()); wait > 0 {
		return &refusedError{fmt.Errorf("%w from this address", errTooMany), wait}
	}
	return nil
}

// from is the network that a call comes from: an IPv4 address, or the part of
// an IPv6 address that its owner does not choose at will.
func (c *call) from() string {
	at, err := netip.ParseAddrPort(c.remote)
	if err != nil {
		return c.remote
	}
	address := at.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	network, err := address.Prefix(64)
	if err != nil {
		return address.String()
	}
	return network.String()
}
