package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// serveFloor is what a fan-out costs that does nothing else: a handler of
// net/http that writes the same bytes to each stream. It runs in a process of
// its own, prints its address, and ends with its input.
func serveFloor(ctx context.Context, out io.Writer, in io.Reader) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := &broadcast{next: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+guidonv1connect.SyncServiceSyncProcedure, b.stream)
	mux.HandleFunc("POST /change", b.change)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	fmt.Fprintln(out, l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// broadcast wakes all streams with the same bytes.
type broadcast struct {
	mu    sync.Mutex
	frame []byte
	next  chan struct{} // closed when there is a newer frame
}

func (b *broadcast) stream(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_, _ = io.Copy(io.Discard, r.Body) // from then on net/http notices that a client has left
	for {
		b.mu.Lock()
		next := b.next
		b.mu.Unlock()
		if control.Flush() != nil {
			return
		}
		select {
		case <-next:
		case <-r.Context().Done():
			return
		}
		b.mu.Lock()
		frame := b.frame
		b.mu.Unlock()
		if _, err := w.Write(frame); err != nil {
			return
		}
	}
}

func (b *broadcast) change(w http.ResponseWriter, r *http.Request) {
	frame, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frame = frame
	close(b.next)
	b.next = make(chan struct{})
}

// floor measures the bare fan-out of one frame to n light streams.
func floor(ctx context.Context, frame []byte, n, changes int) (measured, error) {
	self, err := os.Executable()
	if err != nil {
		return measured{}, err
	}
	cmd := exec.Command(self, "floor") //nolint:noctx // it ends with its input
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return measured{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return measured{}, err
	}
	if err := cmd.Start(); err != nil {
		return measured{}, err
	}
	m, err := against(ctx, cmd.Process.Pid, out, frame, n, changes)
	return m, errors.Join(err, in.Close(), cmd.Wait())
}

func against(ctx context.Context, pid int, out io.Reader, frame []byte, n, changes int) (measured, error) {
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return measured{}, err
	}
	address := strings.TrimSpace(line)
	empty, err := memory(pid)
	if err != nil {
		return measured{}, err
	}
	streams, err := openLights(ctx, []string{address}, "", n, nil)
	if err != nil {
		return measured{}, err
	}
	defer streams.stop()
	if err := pause(ctx, settle); err != nil {
		return measured{}, err
	}
	m := measured{streams: n}
	idle, err := memory(pid)
	if err != nil {
		return measured{}, err
	}
	m.idle = idle.rss - empty.rss
	for i := range int64(changes) {
		before := m.begin(pid)
		response, err := http.Post("http://"+address+"/change", "application/octet-stream", bytes.NewReader(frame)) //nolint:noctx // to this machine
		if err != nil {
			return measured{}, err
		}
		acknowledged := time.Now()
		_ = response.Body.Close() // it has none
		if err := eventually(ctx, patience, "all streams have the frame", func() bool { return streams.have(i + 1) }); err != nil {
			return measured{}, errors.Join(err, streams.err())
		}
		m.end(before, pid)
		m.took = streams.since(acknowledged, m.took)
		if err := pause(ctx, apart); err != nil {
			return measured{}, err
		}
	}
	after, err := memory(pid)
	m.after = after.rss - empty.rss
	return m, err
}
