package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
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
	proxies     []*proxy
	broker      *broker
	stopMail    func()
}

// A booth is where one service works: its listener, and its own SDK and
// OpenFeature API, as if it were a process of its own.
type booth struct {
	*service
	url      string
	lag      time.Duration
	listener net.Listener
	grpc     net.Listener    // nil unless somebody calls over gRPC
	wire     *http.Transport // to the other services
	closers  []func()
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
func Open(ctx context.Context, config Config) (_ *Shop, err error) {
	s := &Shop{config: config, arrival: newArrival(len(roles)), started: time.Now(), stopMail: func() {}}
	s.propagation.Set(config.Propagation)
	defer func() {
		if err != nil {
			s.Close(ctx)
		}
	}()
	for i, r := range roles {
		b, err := s.openBooth(ctx, i, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		s.booths = append(s.booths, b)
	}
	if s.broker, err = openBroker(); err != nil {
		return nil, err
	}
	for _, b := range s.booths {
		if err := s.link(ctx, b); err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return s, nil
}

// link lets a booth call those below it, and take in mail.
func (s *Shop) link(ctx context.Context, b *booth) (err error) {
	for _, step := range b.steps {
		for _, c := range step.calls {
			if b.call[c.name], err = s.way(ctx, b, c); err != nil {
				return err
			}
		}
	}
	if !arrives(b.name, overJetStream) {
		return nil
	}
	js, err := s.broker.connect(b.name)
	if err != nil {
		return err
	}
	s.stopMail, err = b.receiveMail(ctx, js)
	return err
}

// way makes the caller for a call of b.
func (s *Shop) way(ctx context.Context, b *booth, c call) (caller, error) {
	to := s.booths[slices.IndexFunc(roles, func(r role) bool { return r.name == c.name })]
	switch c.over {
	case overGRPC:
		return b.overGRPC(to.grpc.Addr().String())
	case overConnect:
		return b.overConnect(to.url), nil
	case overJetStream:
		js, err := s.broker.connect(b.name)
		if err != nil {
			return nil, err
		}
		return b.overJetStream(js)
	case overProxy:
		p, err := s.openProxy(ctx, to.url)
		if err != nil {
			return nil, err
		}
		s.proxies = append(s.proxies, p)
		return b.overHTTP(p.url), nil
	default:
		return b.overHTTP(to.url), nil
	}
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
	b := &booth{
		url: localURL(listener.Addr()), lag: lag, listener: listener, wire: newWire(),
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
	if arrives(r.name, overGRPC) {
		if b.grpc, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			b.close(ctx)
			return nil, err
		}
	}
	b.service = &service{role: r, flags: b.api.NewClient(), lanes: lanesOf(client.Propagator()), call: map[string]caller{}}
	return b, nil
}

// newWire makes what calls to other services go over.
func newWire() *http.Transport {
	wire := http.DefaultTransport.(*http.Transport).Clone()
	wire.MaxIdleConnsPerHost = maxIdle
	return wire
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
func (s *Shop) URLs() map[string]string {
	urls := map[string]string{}
	for _, b := range s.booths {
		urls[b.name] = b.url
	}
	return urls
}

// Run serves until ctx ends, lets requests in flight finish, and closes.
func (s *Shop) Run(ctx context.Context) error {
	defer s.Close(ctx)
	g, ctx := errgroup.WithContext(ctx)
	// Callers before those they call: a request in flight at web still needs all
	// the others.
	var ends []func(context.Context) error
	serve := func(listener net.Listener, handler http.Handler) {
		server := s.newServer(handler)
		ends = append(ends, server.Shutdown)
		g.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	serve(s.booths[0].listener, s.handler())
	ends = append(ends, func(context.Context) error { s.stopMail(); return nil })
	for _, p := range s.proxies {
		serve(p.listener, p.handler)
	}
	for _, b := range s.booths[1:] {
		serve(b.listener, b.handler())
		if b.grpc != nil {
			server := b.grpcServer()
			ends = append(ends, func(ctx context.Context) error {
				defer context.AfterFunc(ctx, server.Stop)()
				server.GracefulStop()
				return nil
			})
			g.Go(func() error { return server.Serve(b.grpc) })
		}
	}
	g.Go(func() error {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		var errs []error
		for _, end := range ends {
			errs = append(errs, end(ctx))
		}
		return errors.Join(errs...)
	})
	return g.Wait()
}

func (s *Shop) newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: patience, ReadTimeout: 2 * patience, IdleTimeout: time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
	}
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
	s.stopMail()
	for _, b := range s.booths {
		b.close(ctx)
	}
	for _, p := range s.proxies {
		p.close()
	}
	if s.broker != nil {
		s.broker.close()
	}
}

func (b *booth) close(ctx context.Context) {
	_ = b.listener.Close() // closed already by a server that ran
	if b.grpc != nil {
		_ = b.grpc.Close()
	}
	for _, end := range b.closers {
		end()
	}
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
