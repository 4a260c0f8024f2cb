package guidon

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"
)

// newTransport bounds every step but the stream itself, which the feed watches.
func newTransport() *http.Transport {
	dial := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial.DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 10 * time.Second,
		// What is not the stream comes in bursts, and holding a connection costs
		// the server as much as half a stream.
		IdleConnTimeout:     10 * time.Second,
		MaxIdleConnsPerHost: 8,
		// A connection that died without a word would otherwise be used again
		// for the next stream.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// neverRedirect keeps the key from following a redirect to another host.
func neverRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// authorization adds the key to every request.
type authorization string

func (key authorization) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		key.set(request.Header())
		return next(ctx, request)
	}
}

func (key authorization) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		key.set(conn.RequestHeader())
		return conn
	}
}

func (key authorization) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (key authorization) set(header http.Header) {
	if key != "" {
		header.Set("Authorization", "Bearer "+string(key))
	}
}

// newInstance tells this client from all others, for the lists of who is
// connected: the host's name, for people, and something random, since one
// process may hold several.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "-" + rand.Text()[:8]
}

// modulePath is this module's, as build information names it.
const modulePath = "github.com/guidon-flags/guidon"

// moduleVersion is the version of this module that the program was built with.
func moduleVersion() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if build.Main.Path == modulePath {
		return build.Main.Version
	}
	for _, module := range build.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "unknown"
}
