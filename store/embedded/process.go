package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a postmaster that this process started.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when it has ended and was waited for
}

// startProcess starts a postmaster that does not outlive this process where
// the system can promise that; see dieWithParent.
func startProcess(binary string, args []string, data string, who account, log *slog.Logger) (*process, error) {
	p := &process{cmd: &exec.Cmd{Path: binary, Args: append([]string{binary}, args...)}, out: &output{log: log}, done: make(chan struct{})}
	p.cmd.Dir = data
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = who.attributes()
	// A Ctrl-C in the terminal goes to the whole foreground group; Postgres
	// must not stop before its clients have.
	p.cmd.SysProcAttr.Setpgid = true
	dieWithParent(p.cmd.SysProcAttr)
	started := make(chan error, 1)
	go func() {
		// The signal at the parent's death is tied to the thread that started
		// the child, so that thread must live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its last words
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// end asks the postmaster to stop, ever less politely.
func (p *process) end() error {
	for _, try := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{
		{syscall.SIGINT, 30 * time.Second}, // fast shutdown: disconnect clients, checkpoint
		{syscall.SIGQUIT, 5 * time.Second}, // immediate: recover at the next start
		{syscall.SIGKILL, 5 * time.Second},
	} {
		_ = p.cmd.Process.Signal(try.signal) // it may have ended already
		select {
		case <-p.done:
			return nil
		case <-time.After(try.wait):
		}
	}
	return fmt.Errorf("postgres (pid %d) does not end", p.cmd.Process.Pid)
}

func (p *process) lastWords() string { return p.out.String() }

// output passes on what Postgres writes, line by line, and keeps the last of it.
type output struct {
	log  *slog.Logger
	mu   sync.Mutex
	rest []byte
	last []string
}

const lastLines = 20

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, b...)
	for {
		line, rest, found := bytes.Cut(o.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		o.rest = rest
		o.last = append(o.last, string(line))
		if len(o.last) > lastLines {
			o.last = o.last[1:]
		}
		o.log.LogAttrs(context.Background(), slog.LevelDebug, "postgres", slog.String("line", string(line)))
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.last, "\n")
}

// alive reports whether a process exists, whoever it belongs to.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, syscall.EPERM)
}
