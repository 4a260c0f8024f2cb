package main

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// front takes connections and carries each to where dial leads, as a balancer
// does that knows nothing of what it carries.
type front struct {
	dial     func(context.Context) (net.Conn, error)
	listener net.Listener
	running  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// Front opens one on an address of its own, until the cluster is closed.
func (c *Cluster) Front(ctx context.Context, dial func(context.Context) (net.Conn, error)) (*front, error) {
	return c.FrontAt(ctx, "127.0.0.1:0", dial)
}

// FrontAt is Front on a given address.
func (c *Cluster) FrontAt(ctx context.Context, address string, dial func(context.Context) (net.Conn, error)) (*front, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	f := &front{dial: dial, listener: l, open: map[net.Conn]struct{}{}}
	c.fronts = append(c.fronts, f)
	f.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			f.running.Go(func() { f.carry(ctx, conn) })
		}
	})
	return f, nil
}

// Balance is a front that leads to one of the servers that run.
func (c *Cluster) Balance(ctx context.Context) (*front, error) {
	var next atomic.Int64
	return c.Front(ctx, func(ctx context.Context) (net.Conn, error) {
		s := c.Pick(int(next.Add(1)))
		if s == nil {
			return nil, errNoServer
		}
		return dialTCP(ctx, s.address)
	})
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
}

func (f *front) address() string { return f.listener.Addr().String() }
func (f *front) url() string     { return "http://" + f.address() }

// port is that of the address, for who reaches it by another name.
func (f *front) port() string {
	_, port, _ := strings.Cut(f.address(), ":")
	return port
}

// carry copies both ways until either side ends.
func (f *front) carry(ctx context.Context, client net.Conn) {
	defer f.keep(client)()
	server, err := f.dial(ctx)
	if err != nil {
		return
	}
	defer f.keep(server)()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server) // however it ends, it ends
		_ = client.Close()
		_ = server.Close()
	})
	_, _ = io.Copy(server, client) // see above
	_ = server.Close()
	_ = client.Close()
	back.Wait()
}

// keep notes a connection that Cut may end, and returns what ends it.
func (f *front) keep(conn net.Conn) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[conn] = struct{}{}
	return func() {
		_ = conn.Close() // it may be closed already
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.open, conn)
	}
}

// Cut ends all connections. New ones are taken.
func (f *front) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.open {
		_ = conn.Close() // it may be closed already
	}
}

func (f *front) close() {
	_ = f.listener.Close() // it may be closed already
	f.Cut()
	f.running.Wait()
}
