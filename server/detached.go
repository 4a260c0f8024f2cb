package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/guidon-flags/guidon/server/hub"
)

// # Detached streams
//
// A stream is silent nearly always. Over HTTP/1.1, net/http keeps buffers and a
// deep stack for it, some 35 KB in all, and each event goes through six layers
// that do the same for everybody. So once Connect has answered, and the client
// has all there is, a stream of Connect's own protocol leaves net/http with its
// connection: what is left of it are two small goroutines, and an event is one
// write of bytes that all streams share. Other protocols, and streams with a
// time limit, stay where they are.
//
// What a client reads is the same in every byte.

// servedKey marks the contexts of requests of [Server.Serve], which waits for
// streams that left net/http.
type servedKey struct{}

// connectStream is the content type of the streams that may be detached.
const connectStream = "application/connect+proto"

// detachable reports whether the answer to r is framed as a detached stream
// frames it.
func detachable(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor >= 1 && r.Header.Get("Content-Type") == connectStream && r.Context().Value(servedKey{}) != nil
}

// detach takes the connection of a stream that is current out of net/http, and
// serves it beside the call, which is then over. It reports whether it did.
func (s *stream) detach(ctx context.Context) bool {
	if _, limited := ctx.Deadline(); limited || !s.call.detachable {
		return false
	}
	conn, _, err := s.call.control.Hijack()
	if err != nil {
		return false
	}
	s.call.recorder.detached = true
	// What else belongs to the request is of no more use, and large.
	s.call = &call{procedure: s.call.procedure, requestID: s.call.requestID, correlationID: s.call.correlationID, principal: s.call.principal}
	s.conn, s.out = conn, nil
	if s.detached.take(conn) {
		go s.follow(conn) //nolint:contextcheck,gosec // the context of the request ends with it
	} else {
		s.end() // it came too late, and was closed
	}
	return true
}

// follow serves a detached stream until it ends.
func (s *stream) follow(conn net.Conn) {
	defer s.detached.done(conn)
	ctx, leave := context.WithCancel(context.WithValue(context.Background(), callKey{}, s.call))
	defer leave()
	defer func() {
		if panicked := recover(); panicked != nil {
			s.close(answer(s.call, panicError(panicked)))
		}
		s.end()
		s.report(ctx, s.call, time.Since(s.began))
	}()
	s.detached.running.Go(func() { listen(conn, leave) })
	s.close(answer(s.call, s.run(ctx, ctx.Done())))
}

// listen calls leave when the connection is closed, by the client or by
// [detached.end]. A client that sends what nobody asked it for is not listened
// to any more: that it has left shows when it is written to.
func listen(conn net.Conn, leave func()) {
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		leave()
	}
}

// close tells the client why its stream ends, and that it does.
func (s *stream) close(why *connect.Error) {
	if s.broken {
		return // in the middle of a chunk, or there is nobody to tell
	}
	_ = s.conn.SetWriteDeadline(s.now().Add(s.cfg.Progress))
	// In Connect's own words, framed like a message.
	last := &lastFrame{header: http.Header{}}
	request := &http.Request{Method: http.MethodPost, Header: http.Header{"Content-Type": {connectStream}, "Connect-Protocol-Version": {"1"}}}
	if connect.NewErrorWriter().Write(last, request, why) == nil && s.chunk(last.Bytes()) == nil {
		_, _ = s.conn.Write([]byte("0\r\n\r\n")) // the connection is closed next
	}
}

// lastFrame takes the last frame of a stream.
type lastFrame struct {
	bytes.Buffer
	header http.Header
}

func (f *lastFrame) Header() http.Header { return f.header }
func (*lastFrame) WriteHeader(int)       {}

// message sends one message: a frame of Connect in a chunk of HTTP.
func (s *stream) message(event proto.Message) error {
	payload, err := binaryCodec{}.encode(event)
	if err != nil {
		return err
	}
	frame := [5]byte{} // no flags, and the length
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	return s.chunk(frame[:], payload)
}

// chunk writes parts as one chunk, in one system call. They are not copied, but
// for TLS, which would make a record of each.
func (s *stream) chunk(parts ...[]byte) error {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	head := append(strconv.AppendInt(s.scratch[:0], int64(n), 16), "\r\n"...)
	s.parts = append(append(append(s.parts[:0], head), parts...), crlf)
	var err error
	if _, plain := s.conn.(*net.TCPConn); plain {
		s.sending = s.parts // writing consumes it, and parts is for the next
		_, err = s.sending.WriteTo(s.conn)
	} else {
		_, err = s.conn.Write(bytes.Join(s.parts, nil))
	}
	s.broken = err != nil
	return err
}

var crlf = []byte("\r\n")

// encode returns a message in protobuf, without a copy if it is encoded
// already.
func (binaryCodec) encode(message any) ([]byte, error) {
	if event, ok := message.(*hub.Event); ok {
		return event.Encoded(), nil
	}
	return binaryCodec{}.MarshalAppend(nil, message)
}

// detached are the streams that left net/http.
type detached struct {
	running sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	closed  bool
}

// take counts a stream in. If it is too late for that, it closes the connection.
func (d *detached) take(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = conn.Close() // nobody is told: the server has stopped
		return false
	}
	if d.conns == nil {
		d.conns = map[net.Conn]struct{}{}
	}
	d.conns[conn] = struct{}{}
	d.running.Add(1)
	return true
}

// done closes the connection of a stream that has ended.
func (d *detached) done(conn net.Conn) {
	_ = conn.Close() // whatever was to be said has been
	d.mu.Lock()
	delete(d.conns, conn)
	d.mu.Unlock()
	d.running.Done()
}

// end takes no more streams and waits for those that there are. When ctx ends
// it closes what is left, and returns why.
func (d *detached) end(ctx context.Context) error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	over := make(chan struct{})
	go func() {
		d.running.Wait()
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	for conn := range d.conns {
		_ = conn.Close() // it had its time
	}
	d.mu.Unlock()
	<-over
	return ctx.Err()
}
