package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// proxyName is what the proxy calls itself in the Via header, by which a
// service knows that a request came through it.
const proxyName = "1.1 proxy"

// A proxy is a reverse proxy in front of one service. It reads no flags. It has
// an SDK nevertheless, as a central router has: what arrives with a pin goes on
// byte for byte, and what arrives without would be pinned here.
type proxy struct {
	url      string
	listener net.Listener
	wire     *http.Transport
	guidon   *guidon.Client
	handler  http.Handler
}

func (s *Shop) openProxy(ctx context.Context, to string) (*proxy, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	log := s.config.Log.With(slog.String("service", "proxy"))
	client, err := guidon.Open(ctx, s.config.Guidon, guidon.WithKey(s.config.Key), guidon.WithService("proxy"),
		guidon.WithMode(propagate.Internal), guidon.WithLogger(log))
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		_ = client.Close() // nothing has been asked of it yet
		return nil, err
	}
	p := &proxy{url: localURL(listener.Addr()), listener: listener, wire: newWire(), guidon: client}
	in := map[mode]http.Handler{}
	for m, propagator := range lanesOf(client.Propagator()) {
		in[m] = propagator.Middleware(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header["Via"] = append(r.Out.Header["Via"], proxyName)
			},
			Transport: propagator.Transport(p.wire),
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				refuse(w, http.StatusBadGateway, plainly(err))
			},
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		})
	}
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := tripFrom(r.Header.Values(tripHeader), overHTTP)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		in[t.mode].ServeHTTP(w, r)
	})
	return p, nil
}

func (p *proxy) close() {
	_ = p.listener.Close() // closed already by a server that ran
	_ = p.guidon.Close()
	p.wire.CloseIdleConnections()
}
