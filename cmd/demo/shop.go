package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
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
	guidon   *guidon.Client
	api      *openfeature.EvaluationAPI
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
			s.Close()
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		b.peers, peers[r.name] = peers, b.url
		s.booths = append(s.booths, b)
	}
	return s, nil
}

func (s *Shop) openBooth(ctx context.Context, i int, r role) (*booth, error) {
	address, edge := "127.0.0.1:0", propagate.Internal
	if i == 0 {
		address, edge = s.config.Listen, propagate.Edge
	}
	lag := s.config.Lag * time.Duration(i) / time.Duration(len(roles)-1)
	client, err := guidon.Open(ctx, s.config.Guidon,
		guidon.WithKey(s.config.Key),
		guidon.WithService(r.name),
		guidon.WithMode(edge),
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
	b := &booth{url: "http://" + listener.Addr().String(), lag: lag, listener: listener, guidon: client, api: isolated.NewAPI()}
	// Tracked by its event, as an application would: when the provider says so,
	// evaluations are at the new revision.
	reached := func(openfeature.EventDetails) {
		if snapshot := client.Snapshot(); snapshot != nil {
			s.arrival.Reached(i, snapshot.Revision(), time.Now())
		}
	}
	b.api.AddHandler(openfeature.ProviderReady, &reached)
	b.api.AddHandler(openfeature.ProviderConfigChange, &reached)
	if err := b.api.SetProvider(ctx, client.Provider()); err != nil {
		b.close()
		return nil, err
	}
	wire := http.DefaultTransport.(*http.Transport).Clone()
	wire.MaxIdleConnsPerHost = maxIdle
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
	defer s.Close()
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

// WaitReady waits until every service holds a snapshot.
func (s *Shop) WaitReady(ctx context.Context) error {
	for _, b := range s.booths {
		if err := b.guidon.WaitReady(ctx); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// Close ends the SDKs and the listeners. It may be called more than once.
func (s *Shop) Close() {
	for _, b := range s.booths {
		b.close()
	}
}

func (b *booth) close() {
	_ = b.listener.Close() // closed already by a server that ran
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = b.api.Shutdown(ctx) // the provider is at its end either way
	_ = b.guidon.Close()
}

// open runs a shop for the command line.
func open(ctx context.Context, out, logs io.Writer, config Config, readyFile string) error {
	if config.Lag < 0 {
		return fmt.Errorf("--lag %v: must not be negative", config.Lag)
	}
	config.Log = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	shop, err := Open(ctx, config)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return shop.Run(ctx) })
	g.Go(func() error {
		wait, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := shop.WaitReady(wait)
		if ctx.Err() != nil {
			return nil
		}
		fmt.Fprintf(out, "The shop is open: %s\n", shop.booths[0].url)
		for _, b := range shop.booths[1:] {
			fmt.Fprintf(out, "  %-9s       %s\n", b.name, b.url)
		}
		if err != nil {
			fmt.Fprintf(out, "Guidon does not answer yet at %s. The shop keeps trying, with the code's own defaults.\n", config.Guidon)
		}
		if readyFile == "" {
			return nil
		}
		return writeReady(readyFile, shop)
	})
	if readyFile != "" {
		defer os.Remove(readyFile)
	}
	return g.Wait()
}

// writeReady writes the URLs of a shop, all of them or nothing.
func writeReady(path string, shop *Shop) error {
	ready := struct {
		URL      string            `json:"url"`
		Services map[string]string `json:"services"`
	}{shop.booths[0].url, shop.URLs()}
	data, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already if the rename went well
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
