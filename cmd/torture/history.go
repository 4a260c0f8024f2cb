package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"
)

// History is a file of what was asked for and answered, and the same in memory
// for the checker.
type History struct {
	mu     sync.Mutex
	file   *os.File
	out    *bufio.Writer
	events []event
}

// event is one line: an operation was invoked, and then ended once.
type event struct {
	At time.Time `json:"at"`
	// Type is invoke, ok (acknowledged), fail (refused, nothing was changed) or
	// unknown.
	Type string `json:"type"`
	Key  string `json:"key"` // idempotency key: names the operation
	// Chains are the environments that it changes, and "" if it changes what
	// belongs to none.
	Chains []string `json:"chains,omitempty"`
	// Revisions are those that it made, once it is acknowledged.
	Revisions map[string]int64 `json:"revisions,omitempty"`
	Error     string           `json:"error,omitempty"`
}

func newHistory(path string) (*History, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &History{file: f, out: bufio.NewWriter(f)}, nil
}

func (h *History) add(e event) {
	e.At = time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	_, _ = h.out.Write(append(line, '\n')) // close says whether it failed
}

// outcomes are the last events of all operations, by key.
func (h *History) outcomes() map[string]event {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := map[string]event{}
	for _, e := range h.events {
		last[e.Key] = e
	}
	return last
}

func (h *History) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.out.Flush(), h.file.Close())
}
