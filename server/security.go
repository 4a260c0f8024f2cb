package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// The security log says what somebody tried and was not let: calls without a
// good key, calls that a key may not make, calls that are too many, and calls
// that were to change something and failed. The audit log holds what was done,
// and none of these. Every call ends in [Server.report], whatever its protocol.

// Outcomes in the security log.
const (
	outcomeUnauthenticated = "unauthenticated"
	outcomeDenied          = "denied"
	outcomeRateLimited     = "rate_limited"
	outcomeFailed          = "failed"
)

const (
	// Lines a second in the security log, from one address and in all; twice as
	// many may come at once.
	securityAddressRate = 5
	securityRate        = 50
	// maxSecurityLines bounds those that wait to be written.
	maxSecurityLines = 1024
)

// securityLog writes lines of the security log, as many as its rates let through,
// in a goroutine that is there while lines wait: a log that nobody takes holds up
// no call. What is left out is counted, and the count stands before the next
// line.
type securityLog struct {
	to         slog.Handler
	failed     func(context.Context, error) // hears of the first line that could not be written
	now        func() time.Time
	address    *limiter
	all        *limiter
	suppressed atomic.Int64 // since the last line
	events     *prometheus.CounterVec
	left       prometheus.Counter

	mu      sync.Mutex
	waiting []slog.Record
	writing chan struct{} // closed when what waits is written; nil if nothing does
	broken  bool          // whether the last line could not be written; owned by drain
}

func newSecurityLog(to slog.Handler, failed func(context.Context, error), now func() time.Time, m *metrics) *securityLog {
	nothing := func() {}
	return &securityLog{
		to: to, failed: failed, now: now, events: m.security, left: m.suppressed,
		address: newLimiter(securityAddressRate, now, nothing), all: newLimiter(securityRate, now, nothing),
	}
}

// write takes a line, if there is room for one from where it comes from.
func (l *securityLog) write(ctx context.Context, from string, line slog.Record) {
	if l.address.take(from) > 0 || l.all.take("") > 0 || !l.enqueue(ctx, line) {
		l.suppressed.Add(1)
		l.left.Inc()
	}
}

func (l *securityLog) enqueue(ctx context.Context, line slog.Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxSecurityLines {
		return false
	}
	if n := l.suppressed.Swap(0); n > 0 {
		gap := slog.NewRecord(line.Time, slog.LevelWarn, "lines left out", 0)
		gap.AddAttrs(slog.Int64("lines", n))
		l.waiting = append(l.waiting, gap)
	}
	l.waiting = append(l.waiting, line)
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.drain(context.WithoutCancel(ctx)) // a line outlives its call
	}
	return true
}

// drain writes what waits, and ends when nothing does.
func (l *securityLog) drain(ctx context.Context) {
	for {
		l.mu.Lock()
		lines := l.waiting
		l.waiting = nil
		if len(lines) == 0 {
			close(l.writing)
			l.writing = nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		for _, line := range lines {
			if !l.to.Enabled(ctx, line.Level) {
				continue
			}
			err := l.to.Handle(ctx, line)
			if err != nil && !l.broken {
				l.failed(ctx, err)
			}
			l.broken = err != nil
		}
	}
}

// flush waits until what waits is written, or ctx ends.
func (l *securityLog) flush(ctx context.Context) {
	l.mu.Lock()
	writing := l.writing
	l.mu.Unlock()
	if writing == nil {
		return
	}
	select {
	case <-writing:
	case <-ctx.Done():
	}
}

// secure notes a call that was refused, and one that failed to change something.
// What the caller sent is in no line of it: nor are keys, of which some are good
// elsewhere.
func (s *Server) secure(ctx context.Context, c *call) {
	outcome, reason := refusal(c)
	if outcome == "" {
		return
	}
	s.security.events.WithLabelValues(outcome).Inc()
	line := slog.NewRecord(s.security.now(), slog.LevelWarn, "refused", 0)
	line.AddAttrs(slog.String("outcome", outcome), slog.String("reason", reason), slog.String("procedure", c.procedure),
		slog.String("code", codeName(c.code)), slog.String("key_id", c.principal.KeyID), slog.String("key_kind", string(c.principal.Kind)),
		slog.String("address", c.address()), slog.String("request_id", c.requestID), slog.String("correlation_id", c.correlationID))
	s.security.write(ctx, c.from(), line)
}

// reasons say why a call is not authenticated; none of them quotes it.
var reasons = []struct {
	err    error
	reason string
}{
	{store.ErrKeyRevoked, "key revoked"},
	{store.ErrKeyExpired, "key expired"},
	{store.ErrKeyUnknown, "key unknown"},
	{store.ErrKeyMalformed, "key malformed"},
}

// refusal is what the security log says of a call; empty for nothing.
func refusal(c *call) (outcome, reason string) {
	switch {
	case c.code == connect.CodeUnauthenticated:
		for _, row := range reasons {
			if errors.Is(c.err, row.err) {
				return outcomeUnauthenticated, row.reason
			}
		}
		return outcomeUnauthenticated, "no key"
	case errors.Is(c.err, errForeignOrigin):
		return outcomeDenied, "foreign origin"
	case c.code == connect.CodePermissionDenied:
		if auth.Authorize(c.principal, c.asked) != nil {
			return outcomeDenied, "permission"
		}
		return outcomeDenied, "scope"
	case errors.Is(c.err, errTooMany):
		return outcomeRateLimited, "rate"
	case c.code != 0 && auth.Writes(c.procedure):
		return outcomeFailed, codeName(c.code)
	}
	return "", ""
}

// address is where a call comes from, without the port.
func (c *call) address() string {
	at, err := netip.ParseAddrPort(c.remote)
	if err != nil {
		return c.remote
	}
	return at.Addr().Unmap().WithZone("").String()
}

// foreign refuses what a page of another origin asks a browser to send.
func (s *Server) foreign(w http.ResponseWriter, r *http.Request) {
	s.observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		c.code, c.err = connect.CodePermissionDenied, errForeignOrigin
		http.Error(w, errForeignOrigin.Error(), http.StatusForbidden)
	})).ServeHTTP(w, r)
}

var errForeignOrigin = errors.New("a page of another origin may not call this")
