package store_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"
)

// crash is what happens to a call at the After-th time that it says something
// to Postgres.
type crash struct {
	How   string // "" for nothing
	After int
	// Stays cuts every connection from then on, as while Postgres is away.
	Stays bool
}

// The ways to crash: the connection breaks before Postgres hears what was said,
// or after, so that the answer is lost; Postgres ends the session; the caller
// goes away.
const (
	crashUnsaid     = "unsaid"
	crashUnanswered = "unanswered"
	crashTerminate  = "terminate"
	crashCancel     = "cancel"
)

var crashes = rapid.Custom(func(t *rapid.T) crash {
	if rapid.IntRange(0, 2).Draw(t, "whether") < 2 {
		return crash{}
	}
	return crash{
		How:   rapid.SampledFrom([]string{crashUnsaid, crashUnanswered, crashTerminate, crashCancel}).Draw(t, "how"),
		After: rapid.IntRange(1, 9).Draw(t, "after"), Stays: rapid.IntRange(0, 15).Draw(t, "stays") == 15,
	}
})

// crasher is a wire on which calls crash.
type crasher struct {
	wire
	admin *pgxpool.Pool

	mu     sync.Mutex
	next   crash
	cancel context.CancelFunc
	struck int // how often something crashed
}

func newCrasher(t testing.TB, admin *pgxpool.Pool) *crasher {
	c := &crasher{admin: admin}
	c.wire = wire{t: t, heard: func([]byte) fate { return c.strike() }}
	return c
}

// arm has the next call crash, and heal keeps it from doing so again.
func (c *crasher) arm(next crash, cancel context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.cancel = next, cancel
}

func (c *crasher) heal() { c.arm(crash{}, nil) }

const terminateWired = `
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`

// strike counts what is said, and crashes if it is time.
func (c *crasher) strike() fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next.How == "" {
		return carried
	}
	if c.next.After--; c.next.After > 0 {
		return carried
	}
	c.struck++
	how := c.next.How
	if c.next.How = ""; c.next.Stays {
		c.next.How = crashUnsaid
	}
	switch how {
	case crashUnsaid:
		return unsaid
	case crashUnanswered:
		return unanswered
	case crashCancel:
		c.cancel()
	case crashTerminate:
		if _, err := c.admin.Exec(context.Background(), terminateWired, wired); err != nil {
			c.t.Error(err)
		}
	}
	return carried
}
