package feed

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// NewTransport bounds every step of a call but the stream itself, which the feed
// watches.
func NewTransport() *http.Transport {
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

// NeverRedirect keeps a key from following a redirect to another host.
func NeverRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// NewInstance tells a client from all others, for the lists of who is connected:
// the host's name, for people, and something random, since one process may hold
// several.
func NewInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "-" + rand.Text()[:8]
}

// CacheFile is the last-known-good file in a directory, named after what says
// whose flags it holds: one directory may serve several environments. There is
// none without a directory or a server.
func CacheFile(dir, url, key string) string {
	if dir == "" || url == "" {
		return ""
	}
	name := sha256.Sum256([]byte(url + "\x00" + key))
	return filepath.Join(dir, hex.EncodeToString(name[:8])+".guidon")
}
