package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

const (
	// endOfStream marks the last frame of a stream.
	endOfStream = 2
	// ackApart is the least time between two acknowledgements, as in an SDK.
	ackApart = time.Second
)

// light is a stream that is read as an SDK reads it, and acknowledged as often,
// but whose flags are not compiled: thousands of real SDKs would have thousands
// of machines for that, and here they share two cores with the server.
type light struct {
	conn    net.Conn
	body    io.ReadCloser
	client  *guidonv1.Client
	api     guidonv1connect.SyncServiceClient // nil: nothing is acknowledged
	buffer  []byte
	read    *atomic.Int64 // bytes that came, of all
	spread  atomic.Int64  // as the server asks
	ackedAt time.Time
	acking  atomic.Bool

	revision atomic.Int64
	deltas   atomic.Int64
	at       atomic.Int64 // when the newest delta had been read, in Unix nanoseconds
	frame    atomic.Pointer[[]byte]
}

// counted counts the bytes that come over a connection.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// framed is a message as it goes over a stream.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// open connects and sends the request. The body is what a Connect client sends.
func (l *light) open(ctx context.Context, address, key string) error {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	l.conn = counted{conn, l.read}
	message, err := proto.Marshal(&guidonv1.SyncServiceSyncRequest{Client: l.client})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+guidonv1connect.SyncServiceSyncProcedure, bytes.NewReader(framed(message))) //nolint:gosec // to what this program starts
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/connect+proto")
	request.Header.Set("Connect-Protocol-Version", "1")
	request.Header.Set("Authorization", "Bearer "+key)
	if err := request.Write(l.conn); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(l.conn, 1<<10), request) //nolint:bodyclose // it ends with its connection
	if err != nil {
		return err
	}
	l.body = response.Body
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the stream was answered with %s", response.Status)
	}
	return nil
}

// run reads until the stream ends, and says why it did.
func (l *light) run(ctx context.Context) error {
	var head [5]byte
	for {
		if _, err := io.ReadFull(l.body, head[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[1:]))
		if cap(l.buffer) < n {
			l.buffer = make([]byte, n)
		}
		frame := l.buffer[:n]
		if _, err := io.ReadFull(l.body, frame); err != nil {
			return err
		}
		if head[0]&endOfStream != 0 {
			return fmt.Errorf("the server ended the stream: %s", frame)
		}
		event := &guidonv1.SyncServiceSyncResponse{}
		if err := proto.Unmarshal(frame, event); err != nil {
			return err
		}
		l.take(ctx, event, frame)
	}
}

func (l *light) take(ctx context.Context, event *guidonv1.SyncServiceSyncResponse, frame []byte) {
	switch e := event.GetEvent().(type) {
	case *guidonv1.SyncServiceSyncResponse_Hello:
		l.spread.Store(int64(e.Hello.GetAckSpread().AsDuration()))
	case *guidonv1.SyncServiceSyncResponse_Snapshot:
		if e.Snapshot.GetLast() {
			l.revision.Store(e.Snapshot.GetRevision())
			l.acknowledge(ctx)
		}
		l.buffer = nil // large; deltas are small
	case *guidonv1.SyncServiceSyncResponse_Delta:
		l.at.Store(time.Now().UnixNano())
		l.revision.Store(e.Delta.GetToRevision())
		l.deltas.Add(1)
		if l.frame.Load() == nil {
			l.frame.Store(new(bytes.Clone(frame)))
		}
		l.acknowledge(ctx)
	}
}

// acknowledge tells the server what was read, at the moment that an SDK would.
func (l *light) acknowledge(ctx context.Context) {
	if l.api == nil || !l.acking.CompareAndSwap(false, true) {
		return
	}
	spread := time.Duration(l.spread.Load())
	wait := max(rand.N(spread+1), time.Until(l.ackedAt.Add(max(ackApart, spread)))) //nolint:gosec // spreads load, guards nothing
	time.AfterFunc(wait, func() {
		if ctx.Err() != nil {
			return
		}
		answer, err := l.api.Ack(ctx, &guidonv1.SyncServiceAckRequest{
			Environment: environment, Client: l.client, Revision: l.revision.Load(),
			Age: durationpb.New(time.Since(time.Unix(0, l.at.Load()))),
		})
		if err == nil { // like an SDK: nothing waits for it
			l.spread.Store(int64(answer.GetAckSpread().AsDuration()))
		}
		l.ackedAt = time.Now()
		l.acking.Store(false)
	})
}

// lights are open light streams.
type lights struct {
	all  []*light
	read atomic.Int64

	running sync.WaitGroup
	mu      sync.Mutex
	failure error // of the first one that ended by itself
	cancel  context.CancelFunc
}

// openPace is how many light streams are opened a second at each server: less
// than a server lets in.
const openPace = 400

// openLights opens n streams, in turn over the servers, and waits until they
// read. They acknowledge over apis, if there are any.
func openLights(ctx context.Context, addresses []string, key string, n int, apis map[string]guidonv1connect.SyncServiceClient) (*lights, error) {
	running, cancel := context.WithCancel(ctx)
	s := &lights{cancel: cancel}
	pace := time.NewTicker(time.Second / time.Duration(openPace*len(addresses)))
	defer pace.Stop()
	for i := range n {
		select {
		case <-pace.C:
		case <-ctx.Done():
			s.stop()
			return nil, ctx.Err()
		}
		address := addresses[i%len(addresses)]
		l := &light{client: &guidonv1.Client{Service: "bench", Instance: fmt.Sprintf("light-%d", i), Sdk: "light"}, read: &s.read}
		l.api = apis[address]
		s.all = append(s.all, l)
		if err := l.open(running, address, key); err != nil {
			s.stop()
			return nil, err
		}
		s.running.Go(func() {
			if err := l.run(running); running.Err() == nil {
				s.fail(err)
			}
		})
	}
	return s, nil
}

func (s *lights) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = fmt.Errorf("a stream ended: %w", err)
	}
}

// err is why a stream ended that should not have; nil if none did.
func (s *lights) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

func (s *lights) stop() {
	s.cancel()
	for _, l := range s.all {
		if l.conn != nil {
			_ = l.conn.Close()
		}
	}
	s.running.Wait()
}

// at says whether all have read a revision.
func (s *lights) at(revision int64) bool {
	for _, l := range s.all {
		if l.revision.Load() < revision {
			return false
		}
	}
	return true
}

// have says whether all have read so many deltas.
func (s *lights) have(deltas int64) bool {
	for _, l := range s.all {
		if l.deltas.Load() < deltas {
			return false
		}
	}
	return true
}

// since is how long after a moment each had the newest delta.
func (s *lights) since(acknowledged time.Time, took []time.Duration) []time.Duration {
	for _, l := range s.all {
		took = append(took, max(0, time.Duration(l.at.Load()-acknowledged.UnixNano())))
	}
	return took
}
