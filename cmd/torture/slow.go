package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// slowClients is F8: a tenth of the streams reads nothing, a tenth 100 bytes a
// second. The server must not wait for them nor keep much for them, and the
// others must not notice.
func slowClients(ctx context.Context, c *Cluster) (map[string]any, error) {
	const unsentAtMost = 64 << 10 // for each stream
	n, changes := 1000, 1000
	if c.settings.short {
		n, changes = 200, 60
	}
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	s := c.Pick(0)
	a, err := c.Applications(ctx, crowd{Shared: true, Groups: []group{{Name: "healthy", URL: s.URL, N: n * 8 / 10}}})
	if err != nil {
		return nil, err
	}
	w := &watch{server: s}
	before, err := c.tickAll(ctx, a, changes, nil)
	if err != nil {
		return nil, err
	}
	idle, err := s.metrics(ctx)
	if err != nil {
		return nil, err
	}
	key, err := c.serverKey(ctx)
	if err != nil {
		return nil, err
	}
	var readers slowReaders
	defer readers.close()
	for i := range n * 2 / 10 {
		if err := readers.open(ctx, s, key, []int{0, 100}[i%2]); err != nil {
			return nil, err
		}
	}
	during, err := c.tickAll(ctx, a, changes, w.look)
	if err != nil {
		return nil, err
	}
	// Whoever is not cut off is sent the newest revision and no more.
	began := time.Now()
	for {
		if err := w.look(ctx); err != nil {
			return nil, err
		}
		if w.stalled >= float64(len(readers.conns)) || time.Since(began) > 15*time.Second {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	figures := map[string]any{
		"streams": n, "slow": len(readers.conns), "cut": w.stalled, "longest_progress_s": 10, "changes": changes,
		"unsent_bytes_at_most": w.unsent, "server_mb": w.rss >> 20, "server_mb_before": int64(idle["process_resident_memory_bytes"]) >> 20,
		"healthy_alone": before, "healthy_beside": during,
	}
	if w.unsent > unsentAtMost {
		return figures, fmt.Errorf("%d bytes wait for one slow client, want %d at most", w.unsent, unsentAtMost)
	}
	// What collections of garbage come to is not theirs.
	if grown, most := w.rss-int64(idle["process_resident_memory_bytes"]), int64(32<<20+len(readers.conns)*unsentAtMost); grown > most {
		return figures, fmt.Errorf("the server grew by %d MB with %d slow clients, want %d MB at most", grown>>20, len(readers.conns), most>>20)
	}
	if during["p99_ms"] > 2*before["p99_ms"]+100 {
		return figures, fmt.Errorf("others had changes after %v beside slow clients, %v alone", during, before)
	}
	return figures, nil
}

// tickAll publishes changes, some large, and says after which time applications
// had them.
func (c *Cluster) tickAll(ctx context.Context, a *Applications, changes int, each func(context.Context) error) (map[string]int64, error) {
	if _, err := a.Mark(ctx); err != nil {
		return nil, err
	}
	revision := int64(0)
	for i := range changes {
		var more []*guidonv1.Operation
		if i < 60 && i%3 == 0 {
			more = append(more, ballast()) // fills what buffers there are
		}
		var err error
		if revision, err = c.Tick(ctx, more...); err != nil {
			return nil, err
		}
		if each != nil && i%10 == 0 {
			if err := each(ctx); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if err := a.Await(ctx, "applications have all changes", func(h heard, n int) bool { return h.at(revision) == n }); err != nil {
		return nil, err
	}
	end, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	var lags spread
	for _, g := range end.Groups {
		for _, lag := range g.Lags {
			lags.add(time.Duration(lag) * time.Microsecond)
		}
	}
	return lags.summary(), nil
}

// ballast makes a change of 8 KB that does not compress.
func ballast() *guidonv1.Operation {
	noise := make([]byte, 6<<10)
	_, _ = rand.Read(noise) // never fails
	definition, err := structpb.NewStruct(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"v": base64.StdEncoding.EncodeToString(noise)}, "defaultVariant": "v",
	})
	if err != nil {
		panic(err) // it holds nothing else
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
		Environment: watchedEnvironment, Key: "ballast", Definition: definition,
	}}}
}

// watch looks at what a server holds for slow clients.
type watch struct {
	server  *Server
	unsent  uint64 // the most that waited for one of them
	rss     int64
	stalled float64 // that were cut off
}

func (w *watch) look(ctx context.Context) error {
	metrics, err := w.server.metrics(ctx)
	if err != nil {
		return err
	}
	w.rss, w.stalled = max(w.rss, int64(metrics["process_resident_memory_bytes"])), metrics["guidon_sync_stalled_total"]
	all, err := sockets()
	if err != nil {
		return err
	}
	_, text, err := net.SplitHostPort(w.server.address)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	for _, k := range all {
		if k.local == uint16(port) {
			w.unsent = max(w.unsent, k.unsent)
		}
	}
	return err
}

// slowReaders are streams that nobody reads as fast as they are written.
type slowReaders struct {
	conns   []net.Conn
	running sync.WaitGroup
}

// open asks for a stream, of which so many bytes are read each second.
func (r *slowReaders) open(ctx context.Context, s *Server, key string, rate int) error {
	// What is not read must wait with the server, not here.
	dialer := &net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return errors.Join(err, failed)
	}}
	conn, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return err
	}
	r.conns = append(r.conns, conn)
	message, err := proto.Marshal(&guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "slow", Instance: conn.LocalAddr().String()}})
	if err != nil {
		return err
	}
	body := slices.Concat(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message)
	var request bytes.Buffer
	fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/connect+proto\r\n"+
		"Connect-Protocol-Version: 1\r\nContent-Length: %d\r\n\r\n", guidonv1connect.SyncServiceSyncProcedure, s.address, key, len(body))
	if _, err := conn.Write(slices.Concat(request.Bytes(), body)); err != nil {
		return err
	}
	if rate > 0 {
		r.running.Go(func() {
			for {
				if _, err := io.CopyN(io.Discard, conn, int64(rate/10)); err != nil || pause(ctx, 100*time.Millisecond) != nil {
					return
				}
			}
		})
	}
	return nil
}

func (r *slowReaders) close() {
	for _, conn := range r.conns {
		_ = conn.Close() // the server may have closed it
	}
	r.running.Wait()
}
