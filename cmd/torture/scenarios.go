package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// killPostgres is F1: the postmaster dies at a moment of the seed's choosing,
// again and again, under sixteen writers on three servers.
func killPostgres(ctx context.Context, c *Cluster) (map[string]any, error) {
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	rounds, most, environments, n := 100, 2000, 50, 100
	if c.settings.short {
		rounds, most, environments, n = 4, 200, 4, 10
	}
	if err := c.Spread(ctx, environments); err != nil {
		return nil, err
	}
	if _, err := c.Follow(ctx, n); err != nil {
		return nil, err
	}
	w := c.Write(ctx, 16, 0)
	var recovery spread
	err := func() error {
		for range rounds {
			if err := w.Await(ctx, 1+int64(c.Random.IntN(most))); err != nil {
				return err
			}
			if err := c.EndPostgres(ctx, syscall.SIGKILL); err != nil {
				return err
			}
			if err := c.StartPostgres(ctx); err != nil {
				return err
			}
			accepts := time.Now()
			if err := w.Await(ctx, 1); err != nil {
				return err
			}
			recovery.add(time.Since(accepts))
		}
		return nil
	}()
	w.Quiesce()
	return map[string]any{"rounds": rounds, "environments": environments, "retries": w.retried.Load(), "first_ack_after_recovery": recovery.summary()}, err
}

const terminateAll = `
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`

// restartPostgres is F2: connections end, politely and not. Reads come from
// memory and must not notice.
func restartPostgres(ctx context.Context, c *Cluster) (map[string]any, error) {
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	restarts, terminations, n := 50, 200, 100
	if c.settings.short {
		restarts, terminations, n = 2, 10, 10
	}
	if _, err := c.Follow(ctx, n); err != nil {
		return nil, err
	}
	w := c.Write(ctx, 16, 0)
	readers := c.read(ctx)
	var window spread
	err := func() error {
		if err := w.Await(ctx, 16); err != nil {
			return err
		}
		for i := range 2 * restarts {
			signal := []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT}[i%2] // fast, immediate
			broken := time.Now()
			if err := c.EndPostgres(ctx, signal); err != nil {
				return err
			}
			if err := c.StartPostgres(ctx); err != nil {
				return err
			}
			if err := w.Await(ctx, 1); err != nil {
				return err
			}
			window.add(time.Since(broken))
		}
		for range terminations {
			if err := c.Exec(ctx, terminateAll); err != nil {
				return err
			}
			if err := w.Await(ctx, 1+int64(c.Random.IntN(20))); err != nil {
				return err
			}
		}
		return nil
	}()
	w.Quiesce()
	reads, failed := readers.stop()
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d reads failed", failed, reads)
	}
	return map[string]any{
		"restarts": 2 * restarts, "terminations": terminations, "retries": w.retried.Load(), "reads": reads, "failed_reads": failed,
		"from_stop_to_ack": window.summary(),
	}, err
}

// failpoints is F5: a server comes to each point of a write and of its delivery,
// and ends, panics, stalls or errs there.
func failpoints(ctx context.Context, c *Cluster) (map[string]any, error) {
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	var cells []string
	for _, point := range []string{
		"before-lock", "after-lock", "after-audit", "commit-sent", "committed-not-acked", "acked-not-notified", "notified-not-broadcast", "mid-stream",
	} {
		for _, action := range []string{"exit", "panic", "stall", "error"} {
			cells = append(cells, point+"="+action)
		}
	}
	if _, err := c.Follow(ctx, 10); err != nil {
		return nil, err
	}
	rounds := 4
	if c.settings.short {
		c.Random.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		cells, rounds = cells[:10], 1
	}
	reached := map[string]int{}
	for n := range rounds * len(cells) {
		cell := cells[n%len(cells)]
		if err := c.reach(ctx, fmt.Sprintf("%s@%d", cell, 1+c.Random.IntN(40)), (n+1)*1000); err != nil {
			return nil, fmt.Errorf("%s: %w", cell, err)
		}
		reached[cell]++
	}
	return map[string]any{"reached": reached}, nil
}

// reach lets writers, numbered from first on, drive a server into a failpoint,
// and checks what is left.
func (c *Cluster) reach(ctx context.Context, failpoint string, first int) error {
	s, err := c.LaunchServer(ctx, serving{failpoint: failpoint})
	if err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil && !s.hit() { // servers write too, some of them before they are ready
		return err
	}
	if strings.HasPrefix(failpoint, "mid-stream") {
		// There must be streams of this very server.
		a, err := c.LaunchApplications(ctx, crowd{Groups: []group{{Name: failpoint, URL: s.URL, N: 4}}})
		if err != nil {
			return err
		}
		defer c.StopApplications(a)
	}
	w := c.Write(ctx, 8, first)
	select {
	case <-s.Hit:
		err = w.Await(ctx, 8)
	case <-time.After(patience):
		err = errors.New("the point was never reached")
	case <-ctx.Done():
		err = ctx.Err()
	}
	w.Quiesce()
	c.StopServer(s)
	if err != nil {
		return err
	}
	v, err := c.check(ctx)
	if err == nil && len(v.Problems) > 0 {
		err = errors.New(v.Problems[0])
	}
	return err
}

// race is F17: everybody wants the next revision of the same flag, and says
// which one he saw.
func race(ctx context.Context, c *Cluster) (map[string]any, error) {
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	const contenders = 64
	rounds := 200
	if c.settings.short {
		rounds = 15
	}
	var retried, conflicts atomic.Int64
	for round := range int64(rounds) {
		var winners, won atomic.Int64
		var all sync.WaitGroup
		for i := range contenders {
			all.Go(func() {
				req := setFlag("staging", "contended", round*contenders+int64(i))
				req.ExpectedRevisions = map[string]int64{"staging": round + 1}
				req.IdempotencyKey = fmt.Sprintf("%d-race-%d-%d", c.settings.seed, round, i)
				revision, err := c.Settle(ctx, i, req, "staging", &retried)
				if err != nil {
					conflicts.Add(1)
					return
				}
				winners.Add(1)
				won.Store(revision)
			})
		}
		all.Wait()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if winners.Load() != 1 || won.Load() != round+2 {
			return nil, fmt.Errorf("%d of %d won at revision %d, the last with revision %d; want one, with the next", winners.Load(), contenders, round+1, won.Load())
		}
	}
	return map[string]any{"rounds": rounds, "conflicts": conflicts.Load(), "retries": retried.Load()}, nil
}

// readers read without a pause what servers have in memory.
type readers struct {
	end           context.CancelFunc
	running       sync.WaitGroup
	reads, failed atomic.Int64
}

func (c *Cluster) read(ctx context.Context) *readers {
	r := &readers{}
	ctx, r.end = context.WithCancel(ctx)
	for _, s := range c.Alive() {
		client := guidonv1connect.NewEvaluationServiceClient(c.http, s.URL, c.keyed())
		r.running.Go(func() {
			for {
				_, err := client.EvaluateAll(ctx, &guidonv1.EvaluationServiceEvaluateAllRequest{Environment: "staging"})
				if ctx.Err() != nil {
					return
				}
				r.reads.Add(1)
				if err != nil {
					r.failed.Add(1)
				}
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return r
}

func (r *readers) stop() (reads, failed int64) {
	r.end()
	r.running.Wait()
	return r.reads.Load(), r.failed.Load()
}

// spread collects durations.
type spread []time.Duration

func (s *spread) add(d time.Duration) { *s = append(*s, d) }

// at is what a share of them is not above.
func (s *spread) at(share float64) time.Duration {
	slices.Sort(*s)
	if len(*s) == 0 {
		return 0
	}
	return (*s)[int(share*float64(len(*s)-1))]
}

// summary is in milliseconds.
func (s *spread) summary() map[string]int64 {
	if len(*s) == 0 {
		return nil
	}
	return map[string]int64{"p50_ms": s.at(0.5).Milliseconds(), "p99_ms": s.at(0.99).Milliseconds(), "max_ms": s.at(1).Milliseconds()}
}
