package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/guidon-flags/guidon/store/storetest"
)

// wire carries what a store says to Postgres and what that answers, and breaks
// as it is told to.
type wire struct {
	t testing.TB
	// heard is given what a store says, piece by piece, and tells what becomes of
	// it and of the connection.
	heard  func(said []byte) fate
	target string
}

// fate is what becomes of something said over a wire.
type fate int

const (
	carried    fate = iota
	unsaid          // the connection breaks before Postgres hears it
	unanswered      // the connection breaks once Postgres answers
)

// wired names the sessions that go over a wire.
const wired = "wired"

// through starts the wire and returns the URL of the test's database by way of it.
func (w *wire) through() string {
	w.t.Helper()
	u, err := url.Parse(storetest.URL(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	query := u.Query()
	socket := ".s.PGSQL." + query.Get("port")
	w.target = filepath.Join(query.Get("host"), socket)
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			go w.carry(client)
		}
	}()
	query.Set("host", dir)
	query.Set("application_name", wired)
	u.RawQuery = query.Encode()
	return u.String()
}

// commits reports whether COMMIT is said: prepared once, it goes by a name that
// pgx makes of its text.
func commits(said []byte) bool {
	sum := sha256.Sum256([]byte("commit"))
	return bytes.Contains(said, []byte("\x00stmtcache_"+hex.EncodeToString(sum[:24])+"\x00"))
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	deaf := make(chan struct{})
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() { // what the server says
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-deaf:
				return // the answer is here: what was said is done
			default:
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for { // what the client says
		n, err := client.Read(buf)
		how := carried
		if err == nil {
			how = w.heard(buf[:n])
		}
		if err != nil || how == unsaid {
			server.Close()
			return
		}
		if how == unanswered {
			close(deaf)
		}
		if _, err := server.Write(buf[:n]); err != nil || how == unanswered {
			return
		}
	}
}
