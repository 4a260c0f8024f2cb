package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/store"
)

// watched is the environment that applications follow.
const watched = "staging"

// balancer is a dumb one: each connection goes to a server that runs.
type balancer struct {
	cluster  *Cluster
	listener net.Listener
	running  sync.WaitGroup
	next     atomic.Int64
}

func (c *Cluster) balance(ctx context.Context) (*balancer, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &balancer{cluster: c, listener: l}
	b.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			b.running.Go(func() { b.carry(ctx, conn) })
		}
	})
	return b, nil
}

// carry copies both ways until either side ends.
func (b *balancer) carry(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	s := b.cluster.Pick(int(b.next.Add(1)))
	if s == nil {
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		return
	}
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

// applications are SDKs behind a balancer, each watched by a goroutine that
// reads what an application would.
type applications struct {
	cluster  *Cluster
	balancer *balancer
	clients  []*guidon.Client
	watching sync.WaitGroup
	end      context.CancelFunc

	mu     sync.Mutex
	broken []error
	gap    time.Duration // the longest time that one was without a stream
	reads  int64
}

// follow starts n applications and waits until all have flags.
func (c *Cluster) follow(ctx context.Context, n int) (*applications, error) {
	if _, err := c.apply(ctx, 0, setFlag(watched, "always", 1), watched); err != nil {
		return nil, err
	}
	db, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	_, key, err := db.CreateKey(ctx, store.NewKey{Kind: store.KeyServer, Environment: watched, Name: "torture", Actor: "torture"})
	if err != nil {
		return nil, err
	}
	a := &applications{cluster: c}
	if a.balancer, err = c.balance(ctx); err != nil {
		return nil, err
	}
	ctx, a.end = context.WithCancel(ctx)
	for i := range n {
		client, err := guidon.Open(ctx, "http://"+a.balancer.listener.Addr().String(), guidon.WithKey(key.Reveal()), guidon.WithService(fmt.Sprint("application ", i)))
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.clients = append(a.clients, client)
	}
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, client := range a.clients {
		if err := client.WaitReady(ready); err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.watching.Go(func() { a.watch(ctx, client) })
	}
	return a, nil
}

// watch holds I3 and I5: revisions only grow, and a flag that is never touched
// always has its value.
func (a *applications) watch(ctx context.Context, client *guidon.Client) {
	var last, reads int64
	var lost time.Time
	var gap time.Duration
	var broken error
	for ctx.Err() == nil && broken == nil {
		snapshot := client.Snapshot()
		reads++
		value, ok := snapshot.Flag("always").Evaluate(nil, 0).Integer()
		switch {
		case snapshot.Revision() < last:
			broken = fmt.Errorf("an application went from revision %d to %d", last, snapshot.Revision())
		case !ok || value != 1:
			broken = fmt.Errorf("at revision %d an application evaluated to %d, %v, want 1", snapshot.Revision(), value, ok)
		}
		last = snapshot.Revision()
		switch connected := client.Status().Connected; {
		case connected && !lost.IsZero():
			gap, lost = max(gap, time.Since(lost)), time.Time{}
		case !connected && lost.IsZero():
			lost = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gap, a.reads = max(a.gap, gap), a.reads+reads
	if broken != nil {
		a.broken = append(a.broken, broken)
	}
}

// converge holds I4: all applications and servers come to hold one digest. It
// returns how long that took.
func (a *applications) converge(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		digests, err := a.digests(ctx)
		if err == nil && len(digests) == 1 {
			return time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("applications and servers hold different flags after %v: %v (%w)", patience, digests, errors.Join(err, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// digests counts what is held.
func (a *applications) digests(ctx context.Context) (map[string]int, error) {
	held := map[string]int{}
	add := func(revision int64, digest string) { held[fmt.Sprintf("%s at %d", digest, revision)]++ }
	for _, client := range a.clients {
		snapshot := client.Snapshot()
		add(snapshot.Revision(), snapshot.Digest().String())
	}
	for _, s := range a.cluster.servers {
		if !s.Alive() {
			continue
		}
		res, err := guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, s.URL, a.cluster.keyed()).
			Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: watched})
		if err != nil {
			return held, err
		}
		add(res.GetEnvironment().GetRevision(), res.GetEnvironment().GetDigest())
	}
	return held, nil
}

// close ends the applications and returns what was broken.
func (a *applications) close() error {
	a.end()
	a.watching.Wait()
	for _, client := range a.clients {
		_ = client.Close() // returns nil
	}
	_ = a.balancer.listener.Close()
	a.balancer.running.Wait()
	return errors.Join(a.broken...)
}

// Terminate asks a server to stop, and waits until it has.
func (s *Server) Terminate(ctx context.Context) error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("a server did not stop within %v of SIGTERM", patience)
	}
}

// killServers is F4: a server is killed, and another started, again and again
// under writers and applications.
func killServers(ctx context.Context, c *Cluster) (map[string]any, error) {
	return c.replaceServers(ctx, func(s *Server) error {
		c.StopServer(s)
		_, err := c.StartServer(ctx, "")
		return err
	})
}

// restartServers is F20: servers are replaced one by one, as a deployment does.
func restartServers(ctx context.Context, c *Cluster) (map[string]any, error) {
	return c.replaceServers(ctx, func(s *Server) error {
		if _, err := c.StartServer(ctx, ""); err != nil {
			return err
		}
		if err := s.Terminate(ctx); err != nil {
			return err
		}
		c.StopServer(s)
		return nil
	})
}

func (c *Cluster) replaceServers(ctx context.Context, replace func(*Server) error) (figures map[string]any, err error) {
	rounds, n := 60, 100
	if c.settings.short {
		rounds, n = 4, 20
	}
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	a, err := c.follow(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	w := c.Write(ctx, 4, 0)
	for range rounds {
		if err = w.Await(ctx, 10); err == nil {
			err = replace(c.Pick(c.Random.IntN(3)))
		}
		if err != nil {
			break
		}
	}
	w.Quiesce()
	if err != nil {
		return nil, err
	}
	took, err := a.converge(ctx)
	a.end()
	a.watching.Wait()
	return map[string]any{
		"rounds": rounds, "applications": n, "acked": w.acked.Load(), "retried": w.retried.Load(),
		"evaluations": a.reads, "longest_gap_ms": a.gap.Milliseconds(), "converged_ms": took.Milliseconds(),
	}, err
}
