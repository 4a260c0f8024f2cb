package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// held is the memory of a process, in bytes.
type held struct{ rss, peak int64 }

// memory returns what a process holds, and held at most.
func memory(pid int) (held, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) //nolint:gosec // of what this program starts
	if err != nil {
		return held{}, err
	}
	var h held
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &h.rss, "VmHWM:": &h.peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err != nil {
					return held{}, err
				}
				*to = kb << 10
			}
		}
	}
	return h, nil
}

// computed is how long the threads of processes have computed, this one's
// for no process at all.
func computed(pids ...int) time.Duration {
	if len(pids) == 0 {
		pids = []int{os.Getpid()}
	}
	total := time.Duration(0)
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // a good pattern
		for _, path := range threads {
			text, err := os.ReadFile(path) //nolint:gosec // of what this program starts
			if err != nil {
				continue // the thread has ended
			}
			if fields := strings.Fields(string(text)); len(fields) > 0 {
				n, _ := strconv.ParseInt(fields[0], 10, 64)
				total += time.Duration(n)
			}
		}
	}
	return total
}
