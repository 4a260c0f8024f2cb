package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endLeftover stops a postmaster that an earlier process left running in the
// data directory. The caller holds the lock, so no living process of ours
// wants that postmaster. A pid file whose process is gone is left to Postgres.
func endLeftover(ctx context.Context, data string) error {
	file := filepath.Join(data, "postmaster.pid")
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line)) // no number is no process
	switch {
	case pid <= 1 || !alive(pid):
		return nil
	case runsIn(ctx, pid, data):
		return endPid(ctx, pid, data)
	}
	// Some other process has the number by now. Postgres would take it for a
	// running server and refuse to start.
	return os.Remove(file)
}

// endPid stops a postmaster that is not our child.
func endPid(ctx context.Context, pid int, data string) error {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = syscall.Kill(pid, signal) // it may have ended already
		for range 500 {
			if !alive(pid) || !runsIn(ctx, pid, data) {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("an earlier postgres (pid %d) does not end: %w", pid, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return fmt.Errorf("an earlier postgres (pid %d) does not end", pid)
}

// runsIn reports whether a process is a Postgres of the data directory: a pid
// alone proves nothing, it may have been given to another process since. A
// postmaster works in its data directory and is called by its path.
func runsIn(ctx context.Context, pid int, data string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if command, err := os.ReadFile(filepath.Join(proc, "cmdline")); err == nil {
		name, _, _ := bytes.Cut(command, []byte{0})
		dir, err := os.Readlink(filepath.Join(proc, "cwd"))
		return err == nil && dir == data && strings.HasPrefix(filepath.Base(string(name)), "postgres")
	}
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres") && strings.Contains(string(out), data)
}
