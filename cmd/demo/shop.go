package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"
	"golang.org/x/sync/errgroup"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// A Config says where the shop gets flags from and how it behaves.
type Config struct {
	Guidon string // URL
	Key    string // server key of one environment
	Listen string // of web
	// Lag is how late the last service hears of a change; the first hears at
	// once and those between are spread evenly.
	Lag time.Duration
	// Propagation is the mode to start in.
	Propagation mode
	Log         *slog.Logger
}

// A Shop is the five services, listening.
type Shop struct {
	config      Config
	propagation lever
	record      record
	arrival     *arrival
	started     time.Time
	booths      []*booth // as roles
}

// A booth is where one service works: its listener, and its own SDK and
// OpenFeature API, as if it were a process of its own.
type booth struct {
	*service
	url      string
	lag      time.Duration
	listener net.Listener
	wire     *http.Transport // to the other services
	guidon   *guidon.Client
	api      *openfeature.EvaluationAPI
	// ready is closed when evaluations have flags.
	ready chan struct{}
}

const (
	// patience is how long a start waits for Guidon before the shop opens
	// without flags, and an end waits for requests in flight.
	patience = 5 * time.Second
	// maxIdle keeps a connection for each call of a busy shop.
	maxIdle = 64
)

// Open listens and starts the SDKs. Guidon need not be there: the SDKs keep
// trying. Close ends what was started, Run too.
func Open(ctx context.Context, config Config) (*Shop, error) {
	s := &Shop{config: config, arrival: newArrival(len(roles)), started: time.Now()}
	s.propagation.Set(config.Propagation)
	peers := map[string]string{}
	for i, r := range roles {
		b, err := s.openBooth(ctx, i, r)
		if err != nil {
			s.Close(ctx)
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		b.peers, peers[r.name] = peers, b.url
		s.booths = append(s.booths, b)
	}
	return s, nil
}

func (s *Shop) openBooth(ctx context.Context, i int, r role) (*booth, error) {
	address, trust := "127.0.0.1:0", propagate.Internal
	if i == 0 {
		address, trust = s.config.Listen, propagate.Edge
	}
	lag := s.config.Lag * time.Duration(i) / time.Duration(len(roles)-1)
	client, err := guidon.Open(ctx, s.config.Guidon,
		guidon.WithKey(s.config.Key),
		guidon.WithService(r.name),
		guidon.WithMode(trust),
		guidon.WithContext(travellers),
		guidon.WithLogger(s.config.Log.With(slog.String("service", r.name))),
		guidon.WithSource(func(source feed.Source) feed.Source {
			return lateSource{Source: source, lag: lag, committed: s.arrival.Began}
		}))
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		_ = client.Close() // nothing has been asked of it yet
		return nil, err
	}
	wire := http.DefaultTransport.(*http.Transport).Clone()
	wire.MaxIdleConnsPerHost = maxIdle
	b := &booth{
		url: localURL(listener.Addr()), lag: lag, listener: listener, wire: wire,
		guidon: client, api: isolated.NewAPI(), ready: make(chan struct{}),
	}
	// Told by OpenFeature's events, as an application would be: then
	// evaluations are at the new revision.
	opened := sync.OnceFunc(func() { close(b.ready) })
	reached := func(openfeature.EventDetails) {
		if snapshot := client.Snapshot(); snapshot != nil {
			s.arrival.Reached(i, snapshot.Revision(), time.Now())
			opened()
		}
	}
	b.api.AddHandler(openfeature.ProviderReady, &reached)
	b.api.AddHandler(openfeature.ProviderConfigChange, &reached)
	if err := b.api.SetProvider(ctx, client.Provider()); err != nil {
		b.close(ctx)
		return nil, err
	}
	follow := client.Propagator()
	ignore := follow.WithMode(propagate.Off)
	b.service = &service{
		role: r, flags: b.api.NewClient(),
		lanes: map[mode]lane{
			on:  {follow.Middleware, &http.Client{Transport: follow.Transport(wire)}},
			off: {ignore.Middleware, &http.Client{Transport: ignore.Transport(wire)}},
		},
	}
	return b, nil
}

// travellers is the evaluation context of a request at web, where it starts.
func travellers(r *http.Request) map[string]any {
	p, err := personFrom(r.URL.Query())
	if err != nil {
		return nil // the handler refuses the request
	}
	attributes := p.attributes()
	attributes["targetingKey"] = p.User
	return attributes
}

// URLs of the services by name, web's being that of the shop.
func (s *Shop) URLs() map[string]string { return s.booths[0].peers }

// Run serves until ctx ends, lets requests in flight finish, and closes.
func (s *Shop) Run(ctx context.Context) error {
	defer s.Close(ctx)
	g, ctx := errgroup.WithContext(ctx)
	servers := make([]*http.Server, len(s.booths))
	for i, b := range s.booths {
		handler := b.handler()
		if i == 0 {
			handler = s.handler()
		}
		servers[i] = &http.Server{
			Handler: handler, ReadHeaderTimeout: patience, ReadTimeout: 2 * patience, IdleTimeout: time.Minute,
			MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
		}
		g.Go(func() error {
			if err := servers[i].Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		// Callers before those they call: a request in flight at web still
		// needs all the others.
		var errs []error
		for _, server := range servers {
			errs = append(errs, server.Shutdown(ctx))
		}
		return errors.Join(errs...)
	})
	return g.Wait()
}

// WaitReady waits until every service has flags to evaluate.
func (s *Shop) WaitReady(ctx context.Context) error {
	for _, b := range s.booths {
		select {
		case <-b.ready:
		case <-ctx.Done():
			return fmt.Errorf("%s has no flags: %w", b.name, context.Cause(ctx))
		}
	}
	return nil
}

// Close ends the SDKs and the listeners, whatever became of ctx, which gives
// its values only. It may be called more than once.
func (s *Shop) Close(ctx context.Context) {
	for _, b := range s.booths {
		b.close(ctx)
	}
}

func (b *booth) close(ctx context.Context) {
	_ = b.listener.Close() // closed already by a server that ran
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = b.api.Shutdown(ctx) // the provider is at its end either way
	_ = b.guidon.Close()
	b.wire.CloseIdleConnections()
}

// localURL is where this machine reaches a listener.
func localURL(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("http://127.0.0.1:%d", tcp.Port)
	}
	return "http://" + a.String()
}
