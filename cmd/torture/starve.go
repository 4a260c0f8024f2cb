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
	n, lasts := 50, time.Minute
	if c.settings.short {
		n, lasts = 10, 4*time.Second
	}
	c.callTimeout = 25 * time.Second // servers give up after 20
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	// A server that neither writers nor administrators use is the control: the
	// machine is as busy for those whom it serves. Ticks go by it, since what is
	// compared is how they come to applications, not how they come to Postgres.
	aside, err := c.StartServer(ctx, serving{apart: true})
	if err != nil {
		return nil, err
	}
	f, err := c.Balance(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.Applications(ctx, crowd{Groups: []group{{Name: "starved", URL: f.url(), N: n}, {Name: "control", URL: aside.URL, N: n}}})
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"lasted_s": int(lasts.Seconds()), "applications": 2 * n}
	alone, err := c.observe(ctx, a, aside, true, lasts)
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
	starved, err := c.observe(ctx, a, aside, true, lasts)
	if err != nil {
		return nil, err
	}
	// Now the audit log: nobody writes at all, and reads of it hang.
	if _, err := tx.Exec(ctx, `LOCK TABLE audit_entries`); err != nil {
		return nil, err
	}
	answers, waited := c.administrate(ctx, administrators)
	administered, err := c.observe(ctx, a, aside, false, lasts)
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
	err = errors.Join(starved.within(alone), administered.within(alone))
	figures["alone"], figures["locked_and_asleep"], figures["administered"] = alone, starved, administered
	return figures, err
}

// service is how those are served who read what is in memory, in milliseconds:
// those of servers that starve, and at the same time those of the control.
type service struct {
	Reads          latency `json:"reads"`
	ControlReads   latency `json:"control_reads"`
	Streams        latency `json:"streams,omitzero"`
	ControlStreams latency `json:"control_streams,omitzero"`
	// Within says that 99 of 100 took at most a fifth longer than the control,
	// or than while nothing was wrong.
	Within *bool `json:"within_a_fifth,omitempty"`
}

// latency of n.
type latency struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func (s *spread) latency() latency {
	ms := func(share float64) float64 { return float64(s.at(share).Microseconds()) / 1000 }
	return latency{len(*s), ms(0.5), ms(0.99)}
}

// within reports where service became worse. A fifth is the promise; what a busy
// machine does to a few milliseconds is no breach of it. Whoever waits for a
// connection to Postgres waits for 250 ms at least.
func (s *service) within(alone service) error {
	const busyReads, busyStreams = 50, 200 // ms
	var failed error
	held := true
	s.Within = &held
	hold := func(what string, got, control, quiet latency, busy float64) {
		want := 1.2 * max(control.P99, quiet.P99)
		held = held && got.P99 <= want
		if got.P99 > want+busy {
			failed = errors.Join(failed, fmt.Errorf("99 of 100 %s took %.1f ms; %.1f ms by another server, %.1f ms while nothing was wrong",
				what, got.P99, control.P99, quiet.P99))
		}
	}
	hold("reads", s.Reads, s.ControlReads, alone.Reads, busyReads)
	hold("changes", s.Streams, s.ControlStreams, alone.Streams, busyStreams)
	return failed
}

// observe reads for a while, and publishes by the server aside if ticks are
// wanted.
func (c *Cluster) observe(ctx context.Context, a *Applications, aside *Server, ticks bool, lasts time.Duration) (s service, err error) {
	if _, err := a.Mark(ctx); err != nil {
		return s, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var starved, control spread
	var failed error
	var reading sync.WaitGroup
	for _, server := range c.Alive() {
		client := guidonv1connect.NewEvaluationServiceClient(c.http, server.URL, c.keyed())
		reading.Go(func() {
			for watching.Err() == nil {
				began := time.Now()
				_, err := client.EvaluateAll(watching, &guidonv1.EvaluationServiceEvaluateAllRequest{Environment: watchedEnvironment})
				mu.Lock()
				switch took := time.Since(began); {
				case watching.Err() != nil:
				case err != nil:
					failed = err
				case server == aside:
					control.add(took)
				default:
					starved.add(took)
				}
				mu.Unlock()
				_ = pause(watching, 5*time.Millisecond) // ends with the loop
			}
		})
	}
	for began := time.Now(); time.Since(began) < lasts && err == nil; {
		if ticks {
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
	s.Reads, s.ControlReads = starved.latency(), control.latency()
	for i, into := range []*latency{&s.Streams, &s.ControlStreams} {
		var lags spread
		for _, lag := range end.Groups[i].Lags {
			lags.add(time.Duration(lag) * time.Microsecond)
		}
		*into = lags.latency()
		if gap := end.Groups[i].Gap; gap > 0 {
			return s, fmt.Errorf("an application (%s) was without a stream for %d ms", end.Groups[i].Name, gap)
		}
	}
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
