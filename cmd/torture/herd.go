package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// herd is F10: all streams of a server end at once and come back; then those of
// all servers; then those of all servers, which refuse everybody for a while
// first. It must cost Postgres no more than as many servers that start.
func herd(ctx context.Context, c *Cluster) (map[string]any, error) {
	const replicas = 3
	n, refusal := 9500, 60*time.Second
	if c.settings.short {
		n, refusal = 300, 3*time.Second
	}
	if err := c.countStatements(ctx); err != nil {
		return nil, err
	}
	if err := c.Begin(ctx, replicas); err != nil {
		return nil, err
	}
	figures := map[string]any{"streams": n}
	for _, round := range []struct {
		name   string
		killed int
		refuse time.Duration
	}{
		{"one_killed", 1, 0},
		{"all_killed", replicas, 0},
		{"all_killed_and_refusing", replicas, refusal},
	} {
		// Each time new ones: they know of no trouble before, as after an hour.
		a, err := c.crowd(ctx, n)
		if err != nil {
			return nil, err
		}
		came, err := c.stampede(ctx, a, c.Alive()[:round.killed], round.refuse)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", round.name, err)
		}
		figures[round.name] = came
		if round.refuse == 0 {
			c.StopApplications(a) // the last are judged
		}
	}
	return figures, nil
}

// crowd are n applications, each of one of the servers, all with a stream.
func (c *Cluster) crowd(ctx context.Context, n int) (*Applications, error) {
	all := crowd{Shared: true}
	servers := c.Alive()
	for i, s := range servers {
		all.Groups = append(all.Groups, group{Name: s.address, URL: s.URL, N: (n + i) / len(servers)})
	}
	a, err := c.Applications(ctx, all)
	if err != nil {
		return nil, err
	}
	return a, a.Await(ctx, "all streams are open", func(h heard, n int) bool { return h.Connected == n })
}

// stampede kills servers and says how their streams come back.
func (c *Cluster) stampede(ctx context.Context, a *Applications, killed []*Server, refuse time.Duration) (map[string]any, error) {
	before, err := a.Report(ctx)
	if err != nil {
		return nil, err
	}
	steady, err := peakMemory(killed)
	if err != nil {
		return nil, err
	}
	if err := c.Exec(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
		return nil, err
	}
	lost := map[string]heard{} // groups as they were
	streams := 0
	for _, g := range before.Groups {
		lost[g.Name] = g
	}
	for _, s := range killed {
		c.StopServer(s)
	}
	began := time.Now()
	figures := map[string]any{}
	if refuse > 0 {
		attempts, peak, err := refuseAll(ctx, killed, refuse)
		if err != nil {
			return nil, err
		}
		for _, g := range before.Groups {
			streams += g.Connected
		}
		most := float64(streams) * slots(refuse)
		figures["attempts_while_refused"], figures["attempts_at_most"], figures["attempts_in_the_worst_second"] = attempts, int64(most), peak
		if float64(attempts) > most {
			return nil, fmt.Errorf("%d attempts of %d streams in %v, want %d at most", attempts, streams, refuse, int64(most))
		}
	}
	var started []*Server
	for _, s := range killed {
		again, err := c.StartServer(ctx, serving{address: s.address})
		if err != nil {
			return nil, err
		}
		started = append(started, again)
	}
	ready := time.Now()
	if err := a.Await(ctx, "all streams are back", func(h heard, n int) bool {
		survived := !slices.ContainsFunc(killed, func(s *Server) bool { return s.address == h.Name })
		return h.Connected == n && (survived || h.Lost-lost[h.Name].Lost >= int64(n))
	}); err != nil {
		return nil, err
	}
	figures["back_after_ready_ms"], figures["back_after_kill_ms"] = time.Since(ready).Milliseconds(), time.Since(began).Milliseconds()
	after, err := a.Report(ctx)
	if err != nil {
		return nil, err
	}
	attempts := int64(0)
	for _, g := range after.Groups {
		attempts += g.Streams - lost[g.Name].Streams
	}
	figures["attempts"] = attempts
	queries, err := c.snapshotQueries(ctx)
	if err != nil {
		return nil, err
	}
	most := int64(len(c.environments) * len(killed))
	figures["snapshot_queries"], figures["snapshot_queries_at_most"] = queries, most
	if queries > most {
		return nil, fmt.Errorf("flags were read from Postgres %d times, want %d at most", queries, most)
	}
	refused := 0.0
	for _, s := range started {
		if !s.Alive() {
			return nil, errors.New("a server did not survive the herd")
		}
		metrics, err := s.metrics(ctx)
		if err != nil {
			return nil, err
		}
		refused += metrics["guidon_sync_refused_total"]
	}
	peak, err := peakMemory(started)
	if err != nil {
		return nil, err
	}
	figures["told_to_come_later"], figures["peak_mb"], figures["peak_before_mb"] = refused, peak>>20, steady>>20
	return figures, nil
}

// slots is how many attempts of a stream fit in a time, and half as many again:
// the window of the backoff doubles from 100 ms to 30 s, and half of it passes
// on average.
func slots(d time.Duration) float64 {
	const first, doubled = 0.05, 25.0 // seconds
	t := d.Seconds()
	return 1.5 * (2 + math.Log2(1+min(t, doubled)/first) + max(0, t-doubled)/15)
}

// refuseAll answers for servers that are gone, 401 to everybody, for a while. It
// says how many asked, and in the worst second after the first.
func refuseAll(ctx context.Context, gone []*Server, lasts time.Duration) (attempts, worst int64, err error) {
	var seconds [600]atomic.Int64
	began := time.Now()
	web := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Sync") {
			seconds[min(int(time.Since(began).Seconds()), len(seconds)-1)].Add(1)
		}
		w.WriteHeader(http.StatusUnauthorized)
	})}
	var serving sync.WaitGroup
	for _, s := range gone {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
		if err != nil {
			return 0, 0, errors.Join(err, web.Close())
		}
		serving.Go(func() { _ = web.Serve(l) }) // until it is closed
	}
	err = pause(ctx, lasts)
	err = errors.Join(err, web.Close())
	serving.Wait()
	for i := range seconds {
		count := seconds[i].Load()
		if attempts += count; i > 0 {
			worst = max(worst, count)
		}
	}
	return attempts, worst, err
}

const selectExtension = `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')`

// countStatements makes Postgres count what it is asked.
func (c *Cluster) countStatements(ctx context.Context) error {
	if err := c.StartPostgres(ctx); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var found bool
	if err := conn.QueryRow(ctx, selectExtension).Scan(&found); err != nil {
		return err
	}
	if !found {
		return skipError("PostgreSQL came without pg_stat_statements, which is in its package of contributed modules")
	}
	for _, sql := range []string{`ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`, `CREATE EXTENSION pg_stat_statements`} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return c.EndPostgres(ctx, syscall.SIGINT)
}

// selectSnapshotQueries counts how often flags were read.
const selectSnapshotQueries = `
SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
WHERE query LIKE '%FROM flag_versions%' AND query NOT LIKE '%pg_stat_statements%'`

func (c *Cluster) snapshotQueries(ctx context.Context) (int64, error) {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var calls int64
	return calls, conn.QueryRow(ctx, selectSnapshotQueries).Scan(&calls)
}

// peakMemory is the most that one of the servers ever held.
func peakMemory(servers []*Server) (peak int64, err error) {
	for _, s := range servers {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return 0, err
				}
				peak = max(peak, kb<<10)
			}
		}
	}
	return peak, nil
}
