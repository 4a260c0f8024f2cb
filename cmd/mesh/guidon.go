package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// A guidonServer is a real one, in this process, on a real database.
type guidonServer struct {
	url, admin, key string
	address         string
	db              *store.DB
	hub             *hub.Hub
	log             *slog.Logger
	adjust          func(*server.Config)
	stop            func() error
}

// startGuidon serves a database, and makes keys. adjust may be nil.
func startGuidon(ctx context.Context, db *store.DB, log *slog.Logger, adjust func(*server.Config)) (*guidonServer, error) {
	g := &guidonServer{db: db, log: log, address: "127.0.0.1:0", adjust: adjust}
	for kind, text := range map[store.KeyKind]*string{store.KeyAdmin: &g.admin, store.KeyServer: &g.key} {
		wanted := store.NewKey{Kind: kind, Name: "mesh", Actor: "mesh"}
		if kind == store.KeyServer {
			wanted.Environment = environment
		}
		_, made, err := db.CreateKey(ctx, wanted)
		if err != nil {
			return nil, err
		}
		*text = made.Reveal()
	}
	return g, g.start(ctx)
}

// start serves, at the same address again if it ran before, and waits until it
// is ready.
func (g *guidonServer) start(ctx context.Context) error {
	if err := g.listen(ctx); err != nil {
		return err
	}
	if err := until(ctx, func() bool { return g.hub.Ready() == nil }); err != nil {
		return fmt.Errorf("guidon is not ready: %w", errors.Join(g.hub.Ready(), g.stop()))
	}
	return nil
}

// listen starts to serve.
func (g *guidonServer) listen(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", g.address)
	if err != nil {
		return err
	}
	g.address = listener.Addr().String()
	g.url = "http://" + g.address
	h := hub.New(hub.Config{Store: g.db, Log: g.log})
	config := server.Config{Store: g.db, Hub: h, Log: g.log, Drain: time.Millisecond}
	if g.adjust != nil {
		g.adjust(&config)
	}
	s := server.New(config)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return h.Run(ctx) })
	running.Go(func() error { return s.Serve(ctx, listener) })
	g.stop = func() error {
		cancel()
		if err := running.Wait(); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	g.hub = h
	return nil
}

// until waits for something that happens by itself.
func until(ctx context.Context, happened func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !happened() {
		select {
		case <-tick.C:
		case <-end:
			return fmt.Errorf("it did not happen within %v", patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
