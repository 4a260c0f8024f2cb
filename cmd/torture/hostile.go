package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

// liar is a server that passes a real one's streams on, but for what one lie
// makes of them.
type liar struct {
	guidonv1connect.UnimplementedSyncServiceHandler
	upstream guidonv1connect.SyncServiceClient
	lying    *atomic.Bool
	lie      func(revision int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse
	streams  atomic.Int64
}

// snapshot is an event that claims to be a whole revision.
func snapshot(revision int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
	payload, err := proto.Marshal(&guidonv1.Rows{Upserts: rows})
	if err != nil {
		panic(err) // they were decoded before
	}
	return chunk(revision, digest, payload)
}

func chunk(revision int64, digest string, payload []byte) []*guidonv1.SyncServiceSyncResponse {
	return []*guidonv1.SyncServiceSyncResponse{{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{
		Snapshot: &guidonv1.SnapshotChunk{Revision: revision, Digest: digest, Encoding: "identity", Payload: payload, Last: true},
	}}}
}

// documents replace those of all flags in a snapshot that keeps its digest.
var documents = map[string]string{
	"nulls":            `null`,
	"no object":        `[]`,
	"unknown operator": `{"flag":{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v","targeting":{"no-such-operator":[1]}}}`,
	"unknown type":     `{"flag":{"state":7,"variants":{"v":{"a":null}},"defaultVariant":null}}`,
	"duplicate keys":   `{"flag":{"state":"ENABLED","variants":{"v":2,"v":3},"defaultVariant":"v"}}`,
	"other values":     `{"flag":{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v"}}`,
	"cyclic":           `{"flag":{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v","targeting":{"$ref":"always"}}}`,
	"deep": `{"flag":{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v","targeting":` +
		strings.Repeat(`{"!":[`, 20_000) + "true" + strings.Repeat(`]}`, 20_000) + `}}`,
}

// lies are what a server says in place of what is so, by name.
func lies() map[string]func(int64, string, []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
	all := map[string]func(int64, string, []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse{
		"empty": func(revision int64, digest string, _ []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return snapshot(revision, digest, nil)
		},
		"huge": func(revision int64, digest string, _ []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return chunk(revision, digest, make([]byte, 33<<20))
		},
		"garbage": func(revision int64, digest string, _ []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return chunk(revision, digest, []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
		},
		"lower revision": func(_ int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return snapshot(1, digest, rows)
		},
		"wrong digest": func(revision int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return snapshot(revision, strings.Repeat("0", len(digest)), rows)
		},
		"twice each": func(revision int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return snapshot(revision, digest, slices.Concat(rows, rows))
		},
		"another environment": func(revision int64, _ string, _ []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return []*guidonv1.SyncServiceSyncResponse{{Event: &guidonv1.SyncServiceSyncResponse_Hello{
				Hello: &guidonv1.Hello{Environment: "production", Revision: revision},
			}}}
		},
		"no event": func(int64, string, []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			return []*guidonv1.SyncServiceSyncResponse{{}}
		},
		"nothing but an end": func(int64, string, []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse { return nil },
	}
	for name, document := range documents {
		all[name] = func(revision int64, digest string, rows []*guidonv1.Row) []*guidonv1.SyncServiceSyncResponse {
			var other []*guidonv1.Row
			for _, row := range rows {
				other = append(other, &guidonv1.Row{Kind: row.GetKind(), Name: row.GetName(), FromRevision: row.GetFromRevision(), Document: []byte(document)})
			}
			return snapshot(revision, digest, other)
		}
	}
	return all
}

// Sync implements [guidonv1connect.SyncServiceHandler].
func (l *liar) Sync(ctx context.Context, req *guidonv1.SyncServiceSyncRequest, out *connect.ServerStream[guidonv1.SyncServiceSyncResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := l.upstream.Sync(ctx, req)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		_ = in.Close() // nothing more is read
	}()
	for in.Receive() {
		if err := out.Send(in.Msg()); err != nil {
			return err
		}
		if !l.lying.Load() {
			continue
		}
		l.streams.Add(1)
		held, err := l.upstream.GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: watchedEnvironment, Revision: in.Msg().GetHello().GetRevision()})
		if err != nil {
			return err
		}
		for _, event := range l.lie(held.GetRevision(), held.GetDigest(), held.GetRows()) {
			if err := out.Send(event); err != nil {
				return err
			}
		}
		return nil
	}
	return in.Err()
}

// Ack implements [guidonv1connect.SyncServiceHandler].
func (l *liar) Ack(context.Context, *guidonv1.SyncServiceAckRequest) (*guidonv1.SyncServiceAckResponse, error) {
	return &guidonv1.SyncServiceAckResponse{}, nil
}

// statuses are answers of something in between that is no Guidon server.
var statuses = map[string]http.HandlerFunc{
	"204": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	"403": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
	"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
	"a page": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<h1>Please log in</h1>")) // or not
	},
}

// deceive is F12: what an application is told by its server is wrong in every
// way. It keeps what it had.
func deceive(ctx context.Context, c *Cluster) (map[string]any, error) {
	n, lasts := 5, time.Minute
	if c.settings.short {
		n, lasts = 2, 2500*time.Millisecond
	}
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	key, err := c.serverKey(ctx)
	if err != nil {
		return nil, err
	}
	s := c.Pick(0)
	upstream := guidonv1connect.NewSyncServiceClient(c.http, s.URL, connect.WithInterceptors(auth.Bearer(key)))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var lying, flapping atomic.Bool
	var all crowd
	mux := http.NewServeMux()
	add := func(name string, h http.Handler) {
		path := "/" + strings.ReplaceAll(name, " ", "-")
		mux.Handle(path+"/", http.StripPrefix(path, h))
		all.Groups = append(all.Groups, group{Name: name, URL: "http://" + l.Addr().String() + path, N: n})
	}
	told := map[string]*liar{}
	for name, lie := range lies() {
		told[name] = &liar{upstream: upstream, lying: &lying, lie: lie}
		_, h := guidonv1connect.NewSyncServiceHandler(told[name])
		add(name, h)
	}
	_, honest := guidonv1connect.NewSyncServiceHandler(&liar{upstream: upstream, lying: new(atomic.Bool)})
	for name, answer := range statuses {
		add(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if lying.Load() {
				answer(w, r)
				return
			}
			honest.ServeHTTP(w, r)
		}))
	}
	told["flapping"] = &liar{upstream: upstream, lying: &flapping, lie: lies()["other values"]}
	_, h := guidonv1connect.NewSyncServiceHandler(told["flapping"])
	add("flapping", h)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, Protocols: protocols}
	c.files = append(c.files, web)
	go func() { _ = web.Serve(l) }() // until it is closed

	a, err := c.Applications(ctx, all)
	if err != nil {
		return nil, err
	}
	w := c.WriteSlowly(ctx, 1, 0, 100*time.Millisecond, watchedEnvironment)
	if err := w.Await(ctx, 3); err != nil {
		return nil, err
	}
	lying.Store(true)
	for began := time.Now(); time.Since(began) < lasts; {
		flapping.Store(!flapping.Load())
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
	}
	before, err := a.Report(ctx)
	if err != nil {
		return nil, err
	}
	flapping.Store(false)
	lying.Store(false)
	w.Quiesce()
	revision, err := c.Tick(ctx)
	if err != nil {
		return nil, err
	}
	lied := map[string]int64{}
	for name, l := range told {
		if lied[name] = l.streams.Load(); lied[name] == 0 {
			return nil, fmt.Errorf("nobody was told %s", name)
		}
	}
	mended := time.Now()
	if err := a.Await(ctx, "applications are current again", func(h heard, n int) bool { return h.at(revision) == n && h.Connected == n }); err != nil {
		return nil, err
	}
	counted := heard{}
	for _, h := range before.Groups {
		counted.Malformed += h.Malformed
		counted.Mismatches += h.Mismatches
		counted.Emptied += h.Emptied
		counted.Lower += h.Lower
		if h.Ready != n {
			err = errors.Join(err, fmt.Errorf("%s: %d of %d have flags", h.Name, h.Ready, n))
		}
	}
	return map[string]any{
		"cases": len(all.Groups), "applications": n * len(all.Groups), "streams_with_a_lie": lied, "recovered_ms": time.Since(mended).Milliseconds(),
		"counted": map[string]int64{"malformed": counted.Malformed, "digest_mismatches": counted.Mismatches, "emptied": counted.Emptied, "lower": counted.Lower},
	}, err
}
