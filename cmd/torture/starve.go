package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

const lockEnvironment = `SELECT FROM environments WHERE name = 'production' FOR UPDATE`

// sleepWriting makes each change of an environment hold its connection.
const sleepWriting = `
CREATE FUNCTION torture_sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END $$;
CREATE TRIGGER torture_sleep BEFORE INSERT ON revisions FOR EACH ROW WHEN (NEW.environment = 'development') EXECUTE FUNCTION torture_sleep()`

const wakeWriting = `DROP TRIGGER torture_sleep ON revisions; DROP FUNCTION torture_sleep()`

// starve is F16: somebody holds the lock of an environment, writes sleep in
// their connections, and 200 administrators wait for the audit log. Whoever
// reads what is in memory must not notice, nor must streams of another
// environment; writers are told.
func starve(ctx context.Context, c *Cluster) (map[string]any, error) {
	const administrators = 200
	n, lasts := 100, time.Minute
	if c.settings.short {
		n, lasts = 20, 4*time.Second
	}
	c.callTimeout = 25 * time.Second // servers give up after 20
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	// Ticks go by a server that no administrator uses: what is compared is how
	// they come to applications, not how they come to Postgres.
	aside, err := c.StartServer(ctx, serving{apart: true})
	if err != nil {
		return nil, err
	}
	a, err := c.Follow(ctx, n)
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"lasted_s": int(lasts.Seconds()), "applications": n}
	alone, err := c.observe(ctx, a, aside, lasts)
	if err != nil {
		return nil, err
	}
	for _, s := range c.Alive() {
		s.forget()
	}
	holder, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return nil, err
	}
	defer holder.Close(context.WithoutCancel(ctx))
	if err := c.Exec(ctx, sleepWriting); err != nil {
		return nil, err
	}
	tx, err := holder.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, lockEnvironment); err != nil {
		return nil, err
	}
	w := c.WriteSlowly(ctx, 16, 0, 0, "production", "development")
	starved, err := c.observe(ctx, a, aside, lasts)
	if err != nil {
		return nil, err
	}
	// Now the audit log: nobody writes at all, and reads of it hang.
	if _, err := tx.Exec(ctx, `LOCK TABLE audit_entries`); err != nil {
		return nil, err
	}
	answers, waited := c.administrate(ctx, administrators)
	administered, err := c.observe(ctx, a, nil, lasts)
	if err != nil {
		return nil, err
	}
	newcomers, err := c.newcomers(ctx)
	if err != nil {
		return nil, err
	}
	released := time.Now()
	if err := tx.Rollback(ctx); err != nil {
		return nil, err
	}
	if err := c.Exec(ctx, wakeWriting); err != nil {
		return nil, err
	}
	waited()
	if err := w.Await(ctx, 10); err != nil {
		return nil, err
	}
	figures["writable_again_ms"] = time.Since(released).Milliseconds()
	w.Quiesce()
	told, slowest := map[string]int{}, time.Duration(0)
	for _, s := range c.Alive() {
		answers, longest := s.answered()
		for code, n := range answers {
			told[code] += n
			if !understood(code) {
				return nil, fmt.Errorf("writers were told %v", answers)
			}
		}
		slowest = max(slowest, longest)
	}
	for code := range answers {
		if !understood(code) {
			return nil, fmt.Errorf("administrators were told %v", answers)
		}
	}
	figures["writers_were_told"], figures["slowest_write_ms"], figures["administrators_were_told"] = told, slowest.Milliseconds(), answers
	figures["new_streams_ready_ms"] = newcomers.Milliseconds()
	figures["alone"], figures["locked_and_asleep"], figures["administered"] = alone, starved, administered
	return figures, errors.Join(starved.within(alone), administered.within(alone))
}

// service is how those are served who read what is in memory.
type service struct {
	Reads   map[string]float64 `json:"reads_ms"`
	Streams map[string]int64   `json:"streams_ms,omitempty"`
}

// within reports where service became worse by more than a fifth, and by more
// than what a busy machine does to a few milliseconds.
func (s service) within(alone service) error {
	const busy = 10 // ms
	if got, want := s.Reads["p99"], alone.Reads["p99"]; got > 1.2*want+busy {
		return fmt.Errorf("99 of 100 reads took %.1f ms, %.1f ms while nothing was wrong", got, want)
	}
	if got, want := s.Streams["p99_ms"], alone.Streams["p99_ms"]; len(s.Streams) > 0 && got > want*12/10+5*busy {
		return fmt.Errorf("99 of 100 changes took %d ms to applications, %d ms while nothing was wrong", got, want)
	}
	return nil
}

// observe reads for a while, and publishes by the server aside, if there is one.
func (c *Cluster) observe(ctx context.Context, a *Applications, aside *Server, lasts time.Duration) (s service, err error) {
	if _, err := a.Mark(ctx); err != nil {
		return s, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var all spread
	var failed error
	var reading sync.WaitGroup
	for _, server := range c.Alive() {
		if server == aside {
			continue
		}
		client := guidonv1connect.NewEvaluationServiceClient(c.http, server.URL, c.keyed())
		reading.Go(func() {
			for watching.Err() == nil {
				began := time.Now()
				_, err := client.EvaluateAll(watching, &guidonv1.EvaluationServiceEvaluateAllRequest{Environment: watchedEnvironment})
				mu.Lock()
				if watching.Err() == nil {
					all.add(time.Since(began))
					failed = errors.Join(failed, err)
				}
				mu.Unlock()
				_ = pause(watching, 5*time.Millisecond) // ends with the loop
			}
		})
	}
	for began := time.Now(); time.Since(began) < lasts && err == nil; {
		if aside != nil {
			_, err = c.tickBy(ctx, aside)
		}
		err = errors.Join(err, pause(ctx, 50*time.Millisecond))
	}
	cancel()
	reading.Wait()
	if err = errors.Join(err, failed); err != nil {
		return s, err
	}
	end, err := a.Mark(ctx)
	if err != nil {
		return s, err
	}
	if gap := end.Groups[0].Gap; gap > 0 {
		return s, fmt.Errorf("an application was without a stream for %d ms", gap)
	}
	s.Reads = map[string]float64{"n": float64(len(all)), "p50": all.at(0.5).Seconds() * 1e3, "p99": all.at(0.99).Seconds() * 1e3}
	var lags spread
	for _, lag := range end.Groups[0].Lags {
		lags.add(time.Duration(lag) * time.Microsecond)
	}
	s.Streams = lags.summary()
	return s, nil
}

// administrate lets so many ask for the audit log at once. The counts of what
// they were told are there once the returned function has returned.
func (c *Cluster) administrate(ctx context.Context, n int) (told map[string]int, wait func()) {
	told = map[string]int{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for i := range n {
		s := c.Pick(i)
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			_, err := guidonv1connect.NewAuditServiceClient(c.http, s.URL, c.keyed()).
				List(ctx, &guidonv1.AuditServiceListRequest{Environment: watchedEnvironment})
			code := "ok"
			if err != nil {
				code = connect.CodeOf(err).String()
			}
			mu.Lock()
			defer mu.Unlock()
			told[code]++
		})
	}
	return told, asking.Wait
}

// newcomers says after which time applications have flags that start now.
func (c *Cluster) newcomers(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	a, err := c.Follow(ctx, 5)
	took := time.Since(began)
	if err == nil {
		c.StopApplications(a)
	}
	return took, err
}
