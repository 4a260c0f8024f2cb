package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// storm is F19: a server with hardly more memory than it needs at rest, and half
// a processor, has streams while 200 changes a second are made by another one.
// It must stay, and its clients may miss revisions but never see them in
// another order.
func storm(ctx context.Context, c *Cluster) (map[string]any, error) {
	const rate = 200 // changes a second
	n, lasts := 500, 5*time.Minute
	if c.settings.short {
		n, lasts = 100, 8*time.Second
	}
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	roomy, err := c.StartServer(ctx, serving{address: address, apart: true})
	if err != nil {
		return nil, err
	}
	a, err := c.Applications(ctx, crowd{Shared: true, Groups: []group{{Name: "stormed", URL: roomy.URL, N: n}}})
	if err != nil {
		return nil, err
	}
	for range 20 {
		if _, err := c.Tick(ctx); err != nil {
			return nil, err
		}
	}
	metrics, err := roomy.metrics(ctx)
	if err != nil {
		return nil, err
	}
	steady := int64(metrics["go_memstats_sys_bytes"] - metrics["go_memstats_heap_released_bytes"])
	limit := steady * 12 / 10
	c.StopServer(roomy)

	how := serving{address: address, apart: true, environment: []string{"GOMEMLIMIT=" + strconv.FormatInt(limit, 10)}}
	half, limited := c.halfProcessor()
	if !half {
		how.environment = append(how.environment, "GOMAXPROCS=1")
		how.wrap = []string{"nice", "-n", "10"}
	}
	tight, err := c.StartServer(ctx, how)
	if err != nil {
		return nil, err
	}
	if half {
		if err := limited(tight); err != nil {
			return nil, err
		}
	}
	if err := a.Await(ctx, "all streams are back", func(h heard, n int) bool { return h.Connected == n && h.Lost >= int64(n) }); err != nil {
		return nil, err
	}
	before, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	acked, err := c.tickAtRate(ctx, rate, lasts)
	if err != nil {
		return nil, err
	}
	end, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	if !tight.Alive() {
		return nil, errors.New("the server did not survive")
	}
	peak, err := peakMemory([]*Server{tight})
	if err != nil {
		return nil, err
	}
	h := end.Groups[0]
	figures := map[string]any{
		"streams": n, "lasted_s": int(lasts.Seconds()), "changes_a_second": int(float64(acked) / lasts.Seconds()), "changes": acked,
		"memory_limit_mb": limit >> 20, "peak_mb": peak >> 20, "half_a_processor": half, "streams_lost": h.Lost - before.Groups[0].Lost,
		"applied_a_second_and_stream": int(float64(h.Applied) / lasts.Seconds() / float64(n)), "skipped_share": share(h.Skipped, h.Applied),
	}
	if h.Lost > before.Groups[0].Lost {
		return nil, fmt.Errorf("%d streams were lost", h.Lost-before.Groups[0].Lost)
	}
	// Beside what Go counts there are the program itself and what it maps.
	if bound := 2*limit + 64<<20; peak > bound {
		return nil, fmt.Errorf("the server held %d MB, want %d MB at most", peak>>20, bound>>20)
	}
	return figures, nil
}

func share(part, other int64) float64 {
	if part+other == 0 {
		return 0
	}
	return float64(part*100/(part+other)) / 100
}

// tickAtRate asks for so many changes a second, and says how many were made.
func (c *Cluster) tickAtRate(ctx context.Context, rate int, lasts time.Duration) (int64, error) {
	const writers = 8
	var acked atomic.Int64
	var mu sync.Mutex
	var failed error
	var writing sync.WaitGroup
	end := time.Now().Add(lasts)
	turns := time.NewTicker(time.Second / time.Duration(rate))
	defer turns.Stop()
	for i := range writers {
		writing.Go(func() {
			for n := 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
				<-turns.C
				req := setFlag(watchedEnvironment, clock, time.Now().UnixMicro())
				req.IdempotencyKey = fmt.Sprintf("%d-storm-%d-%d", c.settings.seed, i, n)
				_, err := c.Settle(ctx, 0, req, watchedEnvironment, new(atomic.Int64))
				if err == nil {
					acked.Add(1)
					continue
				}
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	return acked.Load(), failed
}

// halfProcessor makes a control group of half a processor, where this process
// may, and returns what puts a server into it.
func (c *Cluster) halfProcessor() (made bool, put func(*Server) error) {
	for _, kind := range []struct{ root, file, quota string }{
		{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000"},
		{"/sys/fs/cgroup", "cpu.max", "50000 100000"},
	} {
		dir := filepath.Join(kind.root, fmt.Sprintf("guidon-torture-%d", os.Getpid()))
		if os.Mkdir(dir, 0o750) != nil {
			continue
		}
		if os.WriteFile(filepath.Join(dir, kind.file), []byte(kind.quota), 0o600) != nil {
			_ = os.Remove(dir) // it is empty
			continue
		}
		c.groups = append(c.groups, dir)
		return true, func(s *Server) error {
			return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(s.cmd.Process.Pid)), 0o600)
		}
	}
	return false, nil
}
