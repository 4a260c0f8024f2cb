package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery is how often the files of a certificate are looked at.
const certificateEvery = time.Second

// Certificate is a certificate and its key in two files, which may be replaced
// while it is in use: connections that begin then get the new one, those that are
// open stay. While the files cannot be used, the last good one is. It is safe for
// concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu       sync.Mutex
	current  *tls.Certificate
	read     [2]version // of the files, when current was read from them
	lookedAt time.Time
	failure  string // why they cannot be used now; empty if they can
}

// version tells whether a file was replaced.
type version struct {
	modified time.Time
	size     int64
}

// OpenCertificate reads a certificate, with those of its issuers after it, and
// its key, all as PEM.
func OpenCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	return c, c.load()
}

// config is for a listener that shows the certificate.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.get}
}

func (c *Certificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.lookedAt) >= certificateEvery {
		c.lookedAt = now
		c.renew(hello.Context())
	}
	return c.current, nil
}

// renew reads the files again if they were replaced, and logs once what became
// of it.
func (c *Certificate) renew(ctx context.Context) {
	found, err := c.versions()
	if err == nil && found == c.read {
		return
	}
	if err == nil {
		err = c.load()
	}
	switch {
	case err == nil:
		c.failure = ""
		c.log.LogAttrs(ctx, slog.LevelInfo, "the TLS certificate was renewed", slog.Time("expires", c.current.Leaf.NotAfter))
	case err.Error() != c.failure:
		c.failure = err.Error()
		c.log.LogAttrs(ctx, slog.LevelError, "the TLS certificate cannot be renewed; the old one is used", slog.Any("error", err))
	}
}

// load reads both files. Their versions are taken before: one that is replaced
// meanwhile is read again.
func (c *Certificate) load() error {
	found, err := c.versions()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current, c.read = &pair, found
	return nil
}

func (c *Certificate) versions() (found [2]version, err error) {
	for i, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return found, fmt.Errorf("TLS certificate: %w", err)
		}
		found[i] = version{info.ModTime(), info.Size()}
	}
	return found, nil
}
