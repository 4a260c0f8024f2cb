package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// herd kills all replicas under n streams of real SDKs and measures how those
// come back. What the database was asked meanwhile stands beside what it is
// asked when the same replicas are killed without streams.
func herd(ctx context.Context, out io.Writer, s *servers, n int) error {
	r, asked, watch, before, err := s.herd(ctx, n)
	if err != nil {
		return err
	}
	alone, err := s.restart(ctx, func() error { return pause(ctx, r.back-r.ready) })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "herd:  %d streams on %d replicas, kill -9: ready again after %v; half are back after %v, 99 %% after %v, all after %v\n",
		n, len(s.serves), r.ready.Round(time.Millisecond), watch.half.Round(time.Millisecond), watch.most.Round(time.Millisecond), r.back.Round(time.Millisecond))
	fmt.Fprintf(out, "       %d attempts (%.1f a stream, at most %d a second), %.0f refused with a time to come back (%.0f %%)\n",
		asked, float64(asked)/float64(n), watch.peak, r.refused, 100*r.refused/float64(max(1, asked)))
	fmt.Fprintf(out, "       memory %.0f MB before, %.0f MB at most while they came back (%.2f x); CPU %v in all\n",
		float64(before)/(1<<20), float64(r.peak)/(1<<20), float64(r.peak)/float64(before), r.cpu.Round(10*time.Millisecond))
	fmt.Fprintf(out, "       Postgres: %d transactions from the kill until all are back; %d in the same time without streams\n", r.transactions, alone.transactions)
	return nil
}

// herd returns what became of n streams when the replicas were killed: how often
// they asked, and the memory held before.
func (s *servers) herd(ctx context.Context, n int) (r restarted, asked int64, watch *watched, before int64, err error) {
	c, err := s.connect(ctx, n)
	if err != nil {
		return r, 0, nil, 0, err
	}
	defer c.stop()
	if err := pause(ctx, settle); err != nil {
		return r, 0, nil, 0, err
	}
	if before, err = s.memory(); err != nil {
		return r, 0, nil, 0, err
	}
	asked = c.attempts()
	watch = c.watch(ctx, n)
	r, err = s.restart(ctx, func() error {
		return eventually(ctx, patience, "all streams are back", func() bool { return c.current() == n })
	})
	watch.stop()
	return r, c.attempts() - asked, watch, before, err
}

// restarted is what a restart came to.
type restarted struct {
	ready, back  time.Duration // since the kill
	refused      float64
	peak         int64 // of memory, in bytes
	cpu          time.Duration
	transactions int64
}

// restart kills all replicas, starts them again, and measures until back
// returns.
func (s *servers) restart(ctx context.Context, back func() error) (r restarted, err error) {
	first, err := s.transactions(ctx)
	if err != nil {
		return r, err
	}
	killed := time.Now()
	for _, replica := range s.serves {
		replica.kill()
	}
	for _, replica := range s.serves {
		if err := s.startServe(ctx, replica); err != nil {
			return r, err
		}
	}
	r.ready = time.Since(killed)
	if err := back(); err != nil {
		return r, err
	}
	r.back, r.cpu = time.Since(killed), computed(s.pids()...)
	last, err := s.transactions(ctx)
	if err != nil {
		return r, err
	}
	r.transactions = last - first
	for _, replica := range s.serves {
		refused, err := replica.metric(ctx, "guidon_sync_refused_total")
		if err != nil {
			return r, err
		}
		h, err := memory(replica.cmd.Process.Pid)
		if err != nil {
			return r, err
		}
		r.refused, r.peak = r.refused+refused, r.peak+h.peak
	}
	return r, nil
}

// transactions is how many the database has counted: each query that is not
// part of one is one.
func (s *servers) transactions(ctx context.Context) (n int64, err error) {
	conn, err := pgx.Connect(ctx, s.ready.DatabaseURL)
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

// watched is what was seen of streams that come back.
type watched struct {
	half, most time.Duration // until half and 99 % of them were back
	peak       int64         // attempts in a second, at most
	stop       func()
}

// watch looks at the streams until it is stopped.
func (c *clients) watch(ctx context.Context, n int) *watched {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	w := &watched{stop: func() {
		cancel()
		watching.Wait()
	}}
	start, lost := time.Now(), false
	second, asked := start, c.attempts()
	watching.Go(func() {
		for pause(ctx, 20*time.Millisecond) == nil {
			current := c.current()
			if lost = lost || current < n/2; !lost {
				continue // they have not noticed yet
			}
			if w.half == 0 && current >= n/2 {
				w.half = time.Since(start)
			}
			if w.most == 0 && current >= n*99/100 {
				w.most = time.Since(start)
			}
			if time.Since(second) >= time.Second {
				now := c.attempts()
				w.peak = max(w.peak, now-asked)
				second, asked = time.Now(), now
			}
		}
	})
	return w
}
