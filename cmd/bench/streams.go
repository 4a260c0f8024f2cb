package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/server/auth"
)

// patience is how long anything may take that is measured.
const patience = 2 * time.Minute

// clients are feeds, each with a connection of its own.
type clients struct {
	feeds   []*feed.Feed
	applied []atomic.Int64 // when each took its newest revision, in Unix nanoseconds
	held    []atomic.Int64 // that revision
	stop    func()
}

// syncs is a client of the sync service of each replica. Streams have
// connections of their own; short calls share a few.
func (s *servers) syncs() (of map[string]guidonv1connect.SyncServiceClient, closeIdle func()) {
	transport := &http.Transport{
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost: 100,
	}
	of = map[string]guidonv1connect.SyncServiceClient{}
	for _, address := range s.addresses() {
		of[address] = guidonv1connect.NewSyncServiceClient(&http.Client{Transport: transport}, "http://"+address,
			connect.WithAcceptCompression("gzip", nil, nil), connect.WithInterceptors(auth.Bearer(s.key)))
	}
	return of, transport.CloseIdleConnections
}

// connect opens n streams of real feeds, in turn over the replicas, and waits
// until all hold the newest revision.
func (s *servers) connect(ctx context.Context, n int) (*clients, error) {
	apis, closeIdle := s.syncs()
	running, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	c := &clients{applied: make([]atomic.Int64, n), held: make([]atomic.Int64, n), stop: func() {
		cancel()
		ended.Wait()
		closeIdle()
	}}
	for i := range n {
		var f *feed.Feed
		f = feed.New(feed.Config{
			Source: feed.Connect(apis[s.serves[i%len(s.serves)].address]),
			Client: &guidonv1.Client{Service: "bench", Instance: fmt.Sprintf("bench-%d", i), Sdk: "guidon-go"},
			Changed: func([]string) {
				c.applied[i].Store(time.Now().UnixNano())
				c.held[i].Store(f.Snapshot().Revision())
			},
		})
		c.feeds = append(c.feeds, f)
		ended.Go(func() { _ = f.Run(running) }) // fails only when run twice
	}
	if err := eventually(ctx, patience, fmt.Sprintf("%d streams are current", n), func() bool { return c.current() == n }); err != nil {
		c.stop()
		return nil, err
	}
	for i, f := range c.feeds {
		c.held[i].Store(f.Snapshot().Revision())
	}
	return c, nil
}

// current is how many streams are open and hold the newest revision.
func (c *clients) current() (n int) {
	for _, f := range c.feeds {
		if status := f.Status(); status.Connected && status.State == feed.StateReady {
			n++
		}
	}
	return n
}

// attempts is how often a stream was tried to be opened.
func (c *clients) attempts() (n int64) {
	for _, f := range c.feeds {
		n += f.Stats().Streams.Load()
	}
	return n
}

// at says whether all took a revision.
func (c *clients) at(revision int64) bool {
	for i := range c.held {
		if c.held[i].Load() < revision {
			return false
		}
	}
	return true
}

// since is how long after a moment each took its newest revision.
func (c *clients) since(acknowledged time.Time, took []time.Duration) []time.Duration {
	for i := range c.applied {
		took = append(took, max(0, time.Duration(c.applied[i].Load()-acknowledged.UnixNano())))
	}
	return took
}
