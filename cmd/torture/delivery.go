package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// Terminate takes a server out of the balancer, asks it to stop, and waits until
// it has.
func (s *Server) Terminate(ctx context.Context) error {
	s.leaving.Store(true)
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

// longestGap is a figure: for how long an application was without a stream.
const longestGap = "longest_gap_ms"

// killServers is F4: a server is killed, and another started, again and again
// under writers and applications.
func killServers(ctx context.Context, c *Cluster) (map[string]any, error) {
	return c.replaceServers(ctx, func(s *Server) error {
		c.StopServer(s)
		_, err := c.StartServer(ctx, serving{})
		return err
	})
}

// restartServers is F20: servers are replaced one by one, as a deployment does.
// No application is without a stream for longer than two seconds.
func restartServers(ctx context.Context, c *Cluster) (map[string]any, error) {
	figures, err := c.replaceServers(ctx, func(s *Server) error {
		if _, err := c.StartServer(ctx, serving{}); err != nil {
			return err
		}
		if err := s.Terminate(ctx); err != nil {
			return err
		}
		c.StopServer(s)
		return nil
	})
	const most = 2 * time.Second
	if gap, ok := figures[longestGap].(int64); ok && time.Duration(gap)*time.Millisecond > most {
		err = fmt.Errorf("an application was without a stream for %d ms, want %v at most", gap, most)
	}
	return figures, err
}

func (c *Cluster) replaceServers(ctx context.Context, replace func(*Server) error) (map[string]any, error) {
	rounds, n := 60, 100
	if c.settings.short {
		rounds, n = 4, 20
	}
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	a, err := c.Follow(ctx, n)
	if err != nil {
		return nil, err
	}
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
	end, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"rounds": rounds, "applications": n, "retried": w.retried.Load(), longestGap: end.Groups[0].Gap,
	}, nil
}
