package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// patience is how long anything may take before the run fails.
const patience = 60 * time.Second

// A Config says how hard the mesh is put under fire.
type Config struct {
	Seed uint64
	// Evaluations is how many the pinned run makes at least.
	Evaluations int
	// Control is how many each control run makes at least.
	Control int
	// Rate is how many changes the toggler makes a second.
	Rate int
	// Lag is how late the latest stream is.
	Lag time.Duration
	// Instances of each service.
	Instances int
	// Concurrency is how many requests are under way at the same time.
	Concurrency int
	// Chaos is the time between two restarts; partitions come as often.
	Chaos time.Duration

	// KillEvery is the time between two kills of the pinned run; 0 for none.
	KillEvery time.Duration

	// RotateEvery is how often the pinned run looks whether the newest propagation
	// key signs, and then asks for another; 0 for never.
	RotateEvery time.Duration

	// For tests: options of every SDK, and what becomes of the calls of some
	// service on their way out.
	sdk   []guidon.Option
	spoil func(service string, next http.RoundTripper) http.RoundTripper
}

// A Mesh is the services of one run, open.
type Mesh struct {
	config   Config
	guidon   *guidonServer
	recorder *recorder
	kills    kills
	broker   *broker
	services map[string]*service
	conns    map[string]*grpc.ClientConn
	http1    *http.Transport
	http2    *http.Transport
	base     context.Context //nolint:containedctx // what messages, which bring none, work under

	serving, jobs sync.WaitGroup

	mu     sync.Mutex
	chance *rand.Rand
	stats  propagate.Stats
	broken error
}

// maxRequests bounds a run, which ends when it has enough evaluations.
const maxRequests = 200_000

// Open starts the services.
func Open(ctx context.Context, config Config, g *guidonServer) (_ *Mesh, err error) {
	m := &Mesh{
		config: config, guidon: g, recorder: newRecorder(maxRequests), services: map[string]*service{}, conns: map[string]*grpc.ClientConn{},
		kills: kills{published: map[emergency]bool{}}, http1: transport(false), http2: transport(true), base: context.WithoutCancel(ctx),
		chance: rand.New(rand.NewPCG(config.Seed, 2)), //nolint:gosec // repeatable, not secret
		stats:  propagate.Stats{Headers: map[propagate.Outcome]uint64{}, Events: map[propagate.EventKind]uint64{}},
	}
	defer func() {
		if err != nil {
			m.Close(ctx)
		}
	}()
	if m.broker, err = openBroker(ctx); err != nil {
		return nil, err
	}
	n := 0
	for row, names := range rows {
		for column, name := range names {
			s := &service{mesh: m, name: name, row: row, calls: callsOf(row, column)}
			for i, f := range flags {
				if (i+n)%2 == 0 || i == 0 {
					s.reads = append(s.reads, f)
				}
			}
			m.services[name] = s
			if err := s.serve(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			m.conns[name], err = grpc.NewClient("passthrough:///"+s.grpcAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			n++
		}
	}
	for _, s := range m.services {
		for range config.Instances {
			i, err := s.open(ctx)
			if err != nil {
				return nil, err
			}
			s.instances = append(s.instances, i)
		}
	}
	return m, nil
}

func transport(http2 bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 256}
}

// Close ends everything that Open started.
func (m *Mesh) Close(ctx context.Context) {
	for _, s := range m.services {
		s.close(ctx)
	}
	for _, conn := range m.conns {
		_ = conn.Close() // nothing is in flight
	}
	m.http1.CloseIdleConnections()
	m.http2.CloseIdleConnections()
	m.serving.Wait()
	if m.broker != nil {
		m.broker.Close()
	}
}

// lag is that of another instance: some are current, most are late.
func (m *Mesh) lag() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.config.Lag == 0 {
		return 0
	}
	return time.Duration(m.chance.Int64N(int64(m.config.Lag)))
}

func (m *Mesh) spoil(service string, next http.RoundTripper) http.RoundTripper {
	if m.config.spoil == nil {
		return next
	}
	return m.config.spoil(service, next)
}

// tally adds the counters of an instance that has ended.
func (m *Mesh) tally(s propagate.Stats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range s.Headers {
		m.stats.Headers[k] += n
	}
	for k, n := range s.Events {
		m.stats.Events[k] += n
	}
}

// broke takes note of what must not happen where nobody is told.
func (m *Mesh) broke(err error) {
	if err == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.broken = err
	}
}

// Run puts a mode under fire until it has made enough evaluations, waits until
// the last message is done with, closes the mesh and says what came of it.
func (m *Mesh) Run(ctx context.Context, what mode, evaluations int, changes *toggler) (Result, error) {
	closed := sync.OnceFunc(func() { m.Close(ctx) })
	defer closed()
	begin := time.Now()
	firing, cease := context.WithCancel(ctx)
	defer cease()
	fire, firing := errgroup.WithContext(firing)
	changed, warm := 0, make(chan struct{})
	fire.Go(func() (err error) {
		changed, err = changes.Run(firing, m.config.Rate, warm)
		return err
	})
	fire.Go(func() error { return m.disturb(firing) })
	if what == pinned {
		fire.Go(func() error { return m.kill(firing, changes) })
		fire.Go(func() error { return m.rotate(firing, changes) })
	}
	select {
	case <-warm:
	case <-firing.Done():
	}

	requests := m.load(firing, what, evaluations)
	err := m.await(ctx)
	cease()
	err = errors.Join(err, fire.Wait())
	took := time.Since(begin)
	closed() // whereupon all counters are in
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.result(what, requests, changed, took), errors.Join(err, m.broken, context.Cause(ctx))
}

// load sends requests to web until there are enough evaluations.
func (m *Mesh) load(ctx context.Context, what mode, evaluations int) int {
	var sent atomic.Int64
	var g errgroup.Group
	client := &http.Client{Transport: m.http1}
	for range m.config.Concurrency {
		g.Go(func() error {
			for ctx.Err() == nil && m.recorder.evaluations.Load() < int64(evaluations) {
				n := int(sent.Add(1)) - 1
				if n >= maxRequests {
					return nil
				}
				t := trip{Request: n, Path: "0", Mode: what}
				t.Subject = m.person(t)
				if err := get(ctx, client, m.services["web"].url, t); err != nil && ctx.Err() == nil {
					m.broke(fmt.Errorf("request %d: %w", n, err))
					m.recorder.Count("failed")
				}
			}
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	return int(min(sent.Load(), maxRequests))
}

func (m *Mesh) person(t trip) *subject {
	chance := t.chance(m.config.Seed)
	return &subject{
		Key: fmt.Sprintf("user-%d", chance.IntN(10_000)), Plan: pick(chance, []string{"free", "pro", "team"}),
		Country: pick(chance, []string{"AT", "NZ", "US"}), Device: pick(chance, []string{"phone", "desk"}),
	}
}

// await waits for the messages that are still on their way.
func (m *Mesh) await(ctx context.Context) error {
	done := make(chan struct{})
	go func() { defer close(done); m.jobs.Wait() }()
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("messages are not done with after %v", patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// disturb restarts instances and cuts streams until ctx ends.
func (m *Mesh) disturb(ctx context.Context) error {
	chance := rand.New(rand.NewPCG(m.config.Seed, 3)) //nolint:gosec // repeatable, not secret
	names := slices.Sorted(maps.Keys(m.services))
	var g errgroup.Group
	for pause(ctx, nil, m.config.Chaos) == nil {
		restarted, cut, n := m.services[pick(chance, names)], m.services[pick(chance, names)], chance.IntN(m.config.Instances)
		length := m.config.Chaos * time.Duration(1+chance.IntN(4))
		g.Go(func() error {
			m.recorder.Count("restarts")
			return restarted.restart(context.WithoutCancel(ctx), n)
		})
		g.Go(func() error {
			i := cut.enter()
			defer i.inFlight.Done()
			m.recorder.Count("partitions")
			i.net.Cut(false)
			_ = pause(ctx, nil, length) // until then, or until the end
			i.net.Mend()
			return nil
		})
	}
	return g.Wait()
}
