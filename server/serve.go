package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	// grace is what calls have left to end by themselves after all streams
	// were told to go.
	grace = 5 * time.Second
)

// Open is a further listener, for the clients of flagd's protocols and OFREP
// alone.
type Open struct {
	net.Listener
	// Environment is the one that requests without a key may use; empty for
	// none. See Config.OpenEnvironment.
	Environment string
}

// Serve answers requests on l, and on the open listeners, until ctx ends, and
// then stops: it is not ready any more and takes no further streams, tells each
// open one to go elsewhere at a moment of its own within Config.Drain, goes on
// with other calls meanwhile and for Config.DrainDelay at least, then accepts no
// more connections, waits for calls under way, and closes what is left.
// Meanwhile it lets new propagation keys sign once everybody has them. It returns
// nil if the stop was clean. A Server serves once.
func (s *Server) Serve(ctx context.Context, l net.Listener, open ...Open) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	web := &http.Server{
		Handler:           s,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(l net.Listener) context.Context {
			base := context.WithValue(context.WithoutCancel(ctx), servedKey{}, true)
			for _, o := range open {
				if o.Listener == l {
					return context.WithValue(base, openKey{}, o.Environment)
				}
			}
			return base
		},
	}
	accept := web.Serve
	if s.cfg.Certificate != nil {
		protocols.SetHTTP2(true)
		web.TLSConfig = s.cfg.Certificate.config()
		accept = func(l net.Listener) error { return web.ServeTLS(l, "", "") }
	}
	s.auth.List(ctx)
	beside, end := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() { s.switchKeys(beside) })
	others.Go(func() { s.auth.Run(beside) })
	if !s.cfg.Relay {
		others.Go(func() { s.recordKills(beside) })
	}
	for _, o := range open {
		others.Go(func() {
			if err := web.Serve(o.Listener); !errors.Is(err, http.ErrServerClosed) {
				s.log.LogAttrs(ctx, slog.LevelWarn, "a listener of flagd's ports broke", slog.String("address", o.Addr().String()), slog.Any("error", err))
			}
		})
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		s.security.flush(ctx)
	}()
	defer others.Wait()
	defer end()
	stopped := make(chan error, 1)
	unlisten := context.AfterFunc(ctx, func() {
		s.drain()
		s.stay()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain+grace)
		defer cancel()
		err := web.Shutdown(ctx)
		if err != nil {
			_ = web.Close() // what did not end by itself
		}
		stopped <- errors.Join(err, s.detached.end(ctx))
	})
	if err := accept(l); !errors.Is(err, http.ErrServerClosed) && unlisten() {
		s.drain()
		err = errors.Join(err, web.Close()) // the listener broke
		cut, cancel := context.WithCancel(ctx)
		cancel()
		_ = s.detached.end(cut) // which ends at once what is left
		return err
	}
	return <-stopped
}

// lookAround is how often a server that stops looks whether its streams have left.
const lookAround = 10 * time.Millisecond

// stay waits while streams leave, and for Config.DrainDelay at least: calls that
// need no stream are answered meanwhile, so that none is lost on the way here.
func (s *Server) stay() {
	most := time.NewTimer(max(s.cfg.Drain, s.cfg.DrainDelay))
	defer most.Stop()
	least := time.NewTimer(s.cfg.DrainDelay)
	defer least.Stop()
	<-least.C
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for s.open.Load() > 0 {
		select {
		case <-most.C:
			return
		case <-tick.C:
		}
	}
}
