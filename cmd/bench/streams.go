package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// patience is how long anything may take that is measured.
const patience = 2 * time.Minute

// bearer sends a key with each call.
type bearer string

func (key bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set("Authorization", "Bearer "+string(key))
		return next(ctx, request)
	}
}

func (key bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(key))
		return conn
	}
}

func (bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// definition is the flag that is flipped.
func definition() *guidonv1.Operation {
	flag, err := structpb.NewStruct(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "on",
	})
	if err != nil {
		panic(err) // it is a constant
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{
		PutFlag: &guidonv1.PutFlag{Environment: environment, Key: "bench", Definition: flag},
	}}
}

// clients are feeds, each with a connection of its own.
type clients struct {
	feeds   []*feed.Feed
	applied []atomic.Int64 // when each took its newest revision, in Unix nanoseconds
	stop    func()
}

// connect opens n streams and waits until all hold the newest revision.
func (s *servers) connect(ctx context.Context, n int) (*clients, error) {
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost: 100,
	}
	api := guidonv1connect.NewSyncServiceClient(&http.Client{Transport: transport}, "http://"+s.address,
		connect.WithAcceptCompression("gzip", nil, nil), connect.WithInterceptors(bearer(s.key)))
	running, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	c := &clients{applied: make([]atomic.Int64, n), stop: func() {
		cancel()
		ended.Wait()
		transport.CloseIdleConnections()
	}}
	for i := range n {
		f := feed.New(feed.Config{
			Source: feed.Connect(api), Client: &guidonv1.Client{Service: "bench", Instance: fmt.Sprintf("bench-%d", i), Sdk: "guidon-go"},
			Changed: func([]string) { c.applied[i].Store(time.Now().UnixNano()) },
		})
		c.feeds = append(c.feeds, f)
		ended.Go(func() { _ = f.Run(running) }) // fails only when run twice
	}
	if err := eventually(ctx, patience, fmt.Sprintf("%d streams are current", n), c.current); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// current reports whether all streams are open and hold the newest revision.
func (c *clients) current() bool {
	for _, f := range c.feeds {
		if status := f.Status(); !status.Connected || status.State != feed.StateReady {
			return false
		}
	}
	return true
}

func (c *clients) at(revision int64) func() bool {
	return func() bool {
		for _, f := range c.feeds {
			if f.Snapshot().Revision() < revision {
				return false
			}
		}
		return true
	}
}

// fanout measures changes with n streams open.
func fanout(ctx context.Context, out io.Writer, s *servers, n, changes int) error {
	before, _, err := s.usage()
	if err != nil {
		return err
	}
	c, err := s.connect(ctx, n)
	if err != nil {
		return err
	}
	defer c.stop()
	select { // acks and garbage settle
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	idle, cpuBefore, err := s.usage()
	if err != nil {
		return err
	}
	began := time.Now()
	var took []time.Duration
	for range changes {
		revision, err := s.change(ctx)
		if err != nil {
			return err
		}
		acknowledged := time.Now().UnixNano()
		if err := eventually(ctx, patience, "all streams have the change", c.at(revision)); err != nil {
			return err
		}
		for i := range c.applied {
			took = append(took, max(0, time.Duration(c.applied[i].Load()-acknowledged)))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	rss, cpu, err := s.usage()
	if err != nil {
		return err
	}
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	fmt.Fprintf(out, "fanout: %5d streams, %d changes: acknowledged → applied p50 %v, p99 %v, max %v; "+
		"server %.1f KB per idle stream, %.1f KB after; CPU %.0f %% of a core at one change a second\n",
		n, changes, at(0.5), at(0.99), at(1),
		float64(idle-before)/float64(n)/1024, float64(rss-before)/float64(n)/1024, 100*(cpu-cpuBefore).Seconds()/time.Since(began).Seconds())
	return nil
}

// herd kills the server under n streams and measures how they come back.
func herd(ctx context.Context, out io.Writer, s *servers, n int) error {
	c, err := s.connect(ctx, n)
	if err != nil {
		return err
	}
	defer c.stop()
	attempts := func() (total int64) {
		for _, f := range c.feeds {
			total += f.Stats().Streams.Load()
		}
		return total
	}
	before := attempts()
	s.kill()
	killed := time.Now()
	if err := s.startServe(ctx); err != nil {
		return err
	}
	ready := time.Since(killed)
	if err := eventually(ctx, patience, "all streams are back", c.current); err != nil {
		return err
	}
	back := time.Since(killed)
	refused, err := s.metric(ctx, "guidon_sync_refused_total")
	if err != nil {
		return err
	}
	looks, err := s.metric(ctx, "guidon_hub_looks_total")
	if err != nil {
		return err
	}
	rss, _, err := s.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "herd: %5d streams, kill -9: server ready again after %v, all back after %v; %d attempts (%.1f a stream), "+
		"%.0f refused with a time to come back; %.0f looks at the database in all; server RSS %.0f MB\n",
		n, ready.Round(time.Millisecond), back.Round(time.Millisecond), attempts()-before, float64(attempts()-before)/float64(n), refused, looks, float64(rss)/(1<<20))
	return nil
}
