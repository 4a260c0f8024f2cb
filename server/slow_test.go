package server_test

import (
	"cmp"
	"encoding/base64"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// narrow are clients that hold little of what they do not read. With narrowly,
// one large event keeps the server waiting for them.
func narrow(t *testing.T) map[string]*http.Client {
	t.Helper()
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	dialer := &net.Dialer{Control: buffer(syscall.SO_RCVBUF)}
	clients := map[string]*http.Client{
		"HTTP/1.1": {Transport: &http.Transport{DialContext: dialer.DialContext}},
		"h2c":      {Transport: &http.Transport{Protocols: h2c, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}}},
	}
	t.Cleanup(func() {
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	})
	return clients
}

// narrowly makes a server hold little of what its clients do not read.
func narrowly(o *options) { o.listen.Control = buffer(syscall.SO_SNDBUF) }

// buffer makes one of a socket's buffers small.
func buffer(which int) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, which, 4096) })
		return cmp.Or(err, failed)
	}
}

// TestSlowClientCoalesces: a client that does not read while changes are made
// gets the newest at last, and few of those in between; others do not wait.
func TestSlowClientCoalesces(t *testing.T) {
	t.Parallel()
	for name, client := range narrow(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, narrowly)
			g.apply(t, "staging", putFlag("staging", "a", "on"))
			key := g.key(t, store.KeyServer, "staging")
			slow, quick := g.followWith(t, client, key, nil), g.follow(t, key, nil)
			slow.reach(2)
			quick.reach(2)
			// The server is stuck in the first of these, for the slow one.
			newest := g.apply(t, "staging", putNoise(1))
			const changes = 20
			for i := range changes {
				newest = g.apply(t, "staging", setState("staging", "a", []string{"DISABLED", "ENABLED"}[i%2]))
				quick.reach(newest)
			}
			if quick.deltas != changes+1 {
				t.Errorf("the quick client got %d deltas, want %d: it waited for the slow one", quick.deltas, changes+1)
			}
			slow.reach(newest)
			if slow.deltas > 3 {
				t.Errorf("the slow client got %d deltas, want at most 3: the large one, one under way, and the rest as one", slow.deltas)
			}
			if slow.snapshot.Digest() != quick.snapshot.Digest() {
				t.Error("the slow client ended with another digest")
			}
		})
	}
}

// TestStalledClientIsCut: one that never reads again does not stay for ever.
func TestStalledClientIsCut(t *testing.T) {
	t.Parallel()
	for name, client := range narrow(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, narrowly, func(o *options) { o.server.Progress = 100 * time.Millisecond })
			f := g.followWith(t, client, g.key(t, store.KeyServer, "staging"), nil)
			f.reach(1)
			g.apply(t, "staging", putNoise(1))
			storetest.Eventually(t, "the stream is cut", func() bool {
				metrics := g.do(t, http.MethodGet, "/metrics", "").body
				return strings.Contains(metrics, "guidon_sync_stalled_total 1") &&
					strings.Contains(metrics, `guidon_sync_streams{environment="staging"} 0`)
			})
		})
	}
}

// putNoise puts a flag of 400 KB that does not compress, another one for each i.
func putNoise(i int) *guidonv1.Operation {
	noise := make([]byte, 300<<10)
	_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
	return putDefinition("staging", "noise", map[string]any{
		"state": "ENABLED", "defaultVariant": "on", "variants": map[string]any{"on": base64.StdEncoding.EncodeToString(noise)},
	})
}
