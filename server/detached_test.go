package server

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// TestDetachedEnd: a server that stops waits for its streams, cuts off those
// that do not end in time, and takes no more.
func TestDetachedEnd(t *testing.T) {
	t.Parallel()
	var d detached
	serve := func() (client net.Conn, taken bool) {
		client, conn := net.Pipe()
		if !d.take(conn) {
			return client, false
		}
		go func() {
			defer d.done(conn)
			_, _ = conn.Read(make([]byte, 1)) // until its client or the server ends it
		}()
		return client, true
	}
	client, _ := serve()
	_ = client.Close() // it cannot fail
	stuck, _ := serve()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.end(ctx) }()
	select {
	case err := <-ended:
		t.Fatalf("end = %v, and a stream is open", err)
	default:
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("end = %v, want that its time was over", err)
	}
	late, taken := serve()
	if taken {
		t.Error("a stream was taken after the end")
	}
	for name, client := range map[string]net.Conn{"that was cut off": stuck, "that came too late": late} {
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the client %s read %v, want EOF", name, err)
		}
	}
	if err := d.end(t.Context()); err != nil {
		t.Errorf("a second end = %v", err)
	}
}
