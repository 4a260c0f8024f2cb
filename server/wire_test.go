package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/store"
)

// raw is a Sync stream as it comes over the wire.
type raw struct {
	t      testing.TB
	conn   *bufio.Reader
	header http.Header
	body   io.Reader
	last   bool // the connection ends with this answer
}

// dial opens a stream over Connect and HTTP/1.1.
func dial(t testing.TB, address, key string, headers ...string) *raw {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+guidonv1connect.SyncServiceSyncProcedure,
		bytes.NewReader(make([]byte, 5))) // the frame of an empty message
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/connect+proto")
	request.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: bufio.NewReader(conn)}
	response, err := http.ReadResponse(r.conn, request)
	if err != nil {
		t.Fatal(err)
	}
	r.header, r.body, r.last = response.Header, response.Body, response.Close
	return r
}

// frame reads one frame, and returns it whole.
func (r *raw) frame() string {
	r.t.Helper()
	head := make([]byte, 5)
	if _, err := io.ReadFull(r.body, head); err != nil {
		r.t.Fatalf("the stream ended: %v", err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(r.body, frame); err != nil {
		r.t.Fatalf("a frame of %d bytes ended: %v", len(frame), err)
	}
	return string(head) + string(frame)
}

// TestDetachedStreamsAreTheSame: a stream that has left net/http sends the same
// bytes as one that has not, to its very end.
func TestDetachedStreamsAreTheSame(t *testing.T) {
	t.Parallel()
	adjust := func(c *server.Config) {
		c.Recheck, c.Heartbeat = 20*time.Millisecond, time.Hour
	}
	g := start(t, func(o *options) { adjust(&o.server) })
	// Whoever serves by himself keeps his connections.
	config := server.Config{Store: g.db, Hub: g.hub, Fleet: fleet.New(fleet.Config{})}
	adjust(&config)
	own := httptest.NewServer(server.New(config))
	t.Cleanup(own.Close)
	key, text, err := g.db.CreateKey(t.Context(), store.NewKey{Kind: store.KeyServer, Environment: "staging", Name: "short", Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	detached := dial(t, strings.TrimPrefix(g.url, "http://"), text.Reveal())
	attached := dial(t, own.Listener.Addr().String(), text.Reveal())
	names := func(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }
	if diff := cmp.Diff(names(attached.header), names(detached.header)); diff != "" {
		t.Errorf("headers (-attached +detached):\n%s", diff)
	}
	same := func(what string) string {
		t.Helper()
		a, d := attached.frame(), detached.frame()
		if a != d {
			t.Errorf("%s: %d bytes that begin with %q, want %d that begin with %q", what, len(d), d[:min(len(d), 50)], len(a), a[:min(len(a), 50)])
		}
		return d
	}
	attached.frame() // hello names the time
	detached.frame()
	same("the snapshot")
	g.apply(t, "staging", setState("staging", "a", "DISABLED"))
	same("a delta")
	g.apply(t, "staging", putNoise(1))
	same("a large delta")
	if _, err := g.db.RevokeKey(t.Context(), store.Revocation{ID: key.ID, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	if last := same("the last frame"); !strings.Contains(last, `"code":"unauthenticated"`) {
		t.Errorf("the last frame is %q, want why the stream ended", last)
	}
	for name, s := range map[string]*raw{"attached": attached, "detached": detached} {
		if rest, err := io.ReadAll(s.body); len(rest) > 0 || err != nil {
			t.Errorf("the %s body goes on with %d bytes, %v, want its end", name, len(rest), err)
		}
	}
	if _, err := detached.conn.ReadByte(); err != io.EOF {
		t.Errorf("after its end: %v, want a closed connection", err)
	}
}

// TestStreamWithATimeLimit: what a client asks of Connect holds for streams too.
func TestStreamWithATimeLimit(t *testing.T) {
	t.Parallel()
	g := start(t)
	s := dial(t, strings.TrimPrefix(g.url, "http://"), g.key(t, store.KeyServer, "staging"), "Connect-Timeout-Ms", "300")
	for !strings.Contains(s.frame(), `"code":"deadline_exceeded"`) {
	}
}

// TestSyncOverTLS: streams are the same over TLS, whatever version of HTTP.
func TestSyncOverTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := pair(t, t.TempDir(), 1)
	certificate, err := server.OpenCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, func(o *options) { o.server.Certificate = certificate; o.server.Drain = 50 * time.Millisecond })
	g.url = "https" + strings.TrimPrefix(g.url, "http")
	key := g.key(t, store.KeyServer, "staging")
	followers := map[string]*follower{}
	for name, second := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: second}
		t.Cleanup(transport.CloseIdleConnections)
		followers[name] = g.followWith(t, &http.Client{Transport: transport}, key, nil)
		followers[name].reach(1)
	}
	applied, err := g.db.Apply(t.Context(), store.ChangeSet{Actor: "test", Operations: []store.Operation{store.PutFlag{
		Environment: "staging", Key: "a", Definition: []byte(`{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}}`),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	g.hub.Look()
	for _, f := range followers {
		f.reach(applied.Revisions["staging"])
	}
	stopped := make(chan struct{})
	go func() { g.stop(); close(stopped) }()
	for name, f := range followers {
		if f.receive().GetGoingAway() == nil || f.stream.Receive() || connect.CodeOf(f.stream.Err()) != connect.CodeUnavailable {
			t.Errorf("%s: the stream ended with %v, want going_away and unavailable", name, f.stream.Err())
		}
	}
	<-stopped
}
