package storetest

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// Eventually waits for what happens by itself, and fails the test if it does
// not within two minutes, which is longer than any backoff on a busy machine.
// The condition is asked every few milliseconds by the goroutine of the test,
// so it may end the test too.
func Eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited two minutes in vain: %s", what)
		}
	}
}

// Log is what something prints while a test reads it. The zero value is empty.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is all that was printed so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
