package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/store/storetest"
)

// stuck is a log that takes nothing until it is let go.
type stuck struct {
	slog.Handler
	begun, release chan struct{}
}

func (s *stuck) Handle(ctx context.Context, line slog.Record) error {
	select {
	case s.begun <- struct{}{}:
	default:
	}
	<-s.release
	return s.Handler.Handle(ctx, line)
}

func securityLine(n int) slog.Record {
	line := slog.NewRecord(time.Unix(int64(n), 0), slog.LevelWarn, "refused", 0)
	line.AddAttrs(slog.Int("n", n))
	return line
}

// A log that nobody takes holds nobody up, and costs no more than its bound.
func TestSecurityLogThatIsStuck(t *testing.T) {
	t.Parallel()
	var text storetest.Log
	to := &stuck{slog.NewTextHandler(&text, nil), make(chan struct{}, 1), make(chan struct{})}
	l := newSecurityLog(to, func(context.Context, error) {}, time.Now, newMetrics("test", nil, held{}))
	l.address, l.all = nil, nil // no rate
	l.write(t.Context(), "a", securityLine(0))
	<-to.begun // it holds the first, and the rest waits
	for n := range maxSecurityLines + 100 {
		l.write(t.Context(), "a", securityLine(n+1))
	}
	if len(l.waiting) != maxSecurityLines {
		t.Errorf("%d lines wait, want %d", len(l.waiting), maxSecurityLines)
	}
	close(to.release)
	l.flush(t.Context())
	l.write(t.Context(), "a", securityLine(-1))
	l.flush(t.Context())
	got := text.String()
	if n := strings.Count(got, "\n"); n != 1+maxSecurityLines+2 || !strings.Contains(got, `msg="lines left out" lines=100`) {
		t.Errorf("%d lines were written, the last %s", n, got[len(got)-300:])
	}
}

// Many addresses together get no more than the whole may have.
func TestSecurityLogInAll(t *testing.T) {
	t.Parallel()
	var text storetest.Log
	now := time.Unix(1_700_000_000, 0)
	l := newSecurityLog(slog.NewTextHandler(&text, nil), func(context.Context, error) {}, func() time.Time { return now }, newMetrics("test", nil, held{}))
	for n := range 1000 {
		l.write(t.Context(), fmt.Sprint("address ", n), securityLine(n))
	}
	l.flush(t.Context())
	if n := strings.Count(text.String(), "\n"); n != 2*securityRate || l.suppressed.Load() != 1000-2*securityRate {
		t.Errorf("%d lines were written, and %d left out", n, l.suppressed.Load())
	}
}

type failing struct{ slog.Handler }

func (failing) Handle(context.Context, slog.Record) error { return errors.New("disk full") }

// A log that cannot be written is told of once.
func TestSecurityLogThatFails(t *testing.T) {
	t.Parallel()
	told := 0
	l := newSecurityLog(failing{slog.DiscardHandler}, func(context.Context, error) { told++ }, time.Now, newMetrics("test", nil, held{}))
	for n := range 5 {
		l.write(t.Context(), "a", securityLine(n))
		l.flush(t.Context())
	}
	if told != 0 {
		t.Errorf("told %d times of a log that takes no lines", told)
	}
	l.to = failing{slog.NewTextHandler(&storetest.Log{}, nil)}
	for n := range 4 {
		l.write(t.Context(), "b", securityLine(n))
		l.flush(t.Context())
	}
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}
