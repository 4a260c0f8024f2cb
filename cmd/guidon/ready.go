package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
)

// ready is what dev tells whoever started it: in the ready file for programs,
// on standard output for people.
type ready struct {
	URL         string  `json:"url"`
	AdminURL    string  `json:"adminUrl"`
	DatabaseURL string  `json:"databaseUrl"`
	Keys        apiKeys `json:"keys"`
	// Flagd are the addresses for flagd's clients.
	Flagd []string `json:"flagd,omitempty"`

	// given says that somebody else made the database: its URL may hold a
	// password, which is for programs and not for the screen.
	given bool
}

// write replaces the ready file: it is there whole or not at all.
func (r ready) write(path string) error { return writeFile(path, append(encoded(r), '\n')) }

// removeReady takes away the ready file of an earlier run, which names a server
// that is gone.
func removeReady(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r ready) print(w io.Writer, dir string) error {
	var b strings.Builder
	database := r.DatabaseURL
	if r.given {
		database = "the one that --database-url names"
	}
	fmt.Fprintf(&b, "\nGuidon is ready.\n\n  admin UI  %s\n  API       %s\n  database  %s\n  data      %s\n\n",
		r.AdminURL, r.URL, database, dir)
	if len(r.Flagd) > 0 {
		fmt.Fprintf(&b, "  %s without a key, for OFREP and flagd's clients:\n  %s\n\n", importEnvironment, strings.Join(r.Flagd, ", "))
	}
	width := len("admin")
	for environment := range r.Keys.servers {
		width = max(width, len(environment))
	}
	fmt.Fprintf(&b, "  %-*s key  %s\n", width, "admin", r.Keys.admin)
	for _, environment := range r.Keys.environments {
		fmt.Fprintf(&b, "  %-*s key  %s\n", width, environment, r.Keys.servers[environment])
	}
	b.WriteString("\nCtrl-C stops it. The data stays, and the next start shows the same keys.\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// localURL is where this machine reaches a listener.
func localURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		panic(err) // a TCP listener's address has both
	}
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// isLoopback reports whether only this machine reaches a listener.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
