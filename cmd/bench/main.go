// Command bench measures delivery, from a process of its own: fanout says how
// long a change takes to many streams and what a stream costs, herd what becomes
// of them when the server is killed, and sync what a large environment costs:
// on the wire, in an SDK, at its start from disk, and without notifications.
//
// It starts what it measures: a `guidon dev`, for its Postgres and for the
// changes, and beside it replicas of `guidon serve` on the same database, which
// have the streams, each with a connection of its own.
//
// Servers and clients share the machine. So fanout has a hundred real SDKs, and
// for the rest of the streams clients that read and acknowledge as those do and
// compile nothing; it says what both sides computed for an event; and it prints
// the same figures of a handler of net/http that writes the same bytes to as
// many of the same clients.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want: bench fanout|herd|sync --guidon BINARY --data DIRECTORY [--streams 100,1000] [--replicas 3] [--changes 20] [--flags 10000]")

func run(ctx context.Context, out io.Writer, args []string) (err error) {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] { // what this program starts
	case "floor":
		return serveFloor(ctx, out, os.Stdin)
	case "started":
		return started(ctx, out, args[1:])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	binary := flags.String("guidon", ".bin/guidon", "the guidon to measure")
	data := flags.String("data", "", "directory for its data, made and removed; PostgreSQL's account must get to it")
	streams := flags.String("streams", "100,1000,9500", "how many streams, one measurement each")
	replicas := flags.Int("replicas", 3, "how many servers have the streams")
	changes := flags.Int("changes", 20, "how many changes to measure")
	many := flags.Int("flags", 1, "how many flags the environment has; one of them is changed")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *data == "" || flags.NArg() > 0 || *replicas < 1 || *changes < 1 || !slices.Contains([]string{"fanout", "herd", "sync"}, args[0]) {
		return errUsage
	}
	var counts []int
	for text := range strings.SplitSeq(*streams, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("--streams %q: want whole numbers from 1 on", *streams)
		}
		counts = append(counts, n)
	}
	s, err := start(ctx, *binary, *data, *replicas, *many)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	fmt.Fprintf(out, "load average of the machine before: %s\n", load())
	for _, n := range counts {
		switch args[0] {
		case "fanout":
			err = fanout(ctx, out, s, n, *changes)
		case "herd":
			err = herd(ctx, out, s, n)
		}
		if err != nil {
			return err
		}
	}
	if args[0] == "sync" {
		if err := large(ctx, out, s, *changes); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "load average of the machine after: %s\n", load())
	return nil
}

// load is how busy the machine is, this program included.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// pause waits for a while.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventually waits for a condition.
func eventually(ctx context.Context, within time.Duration, what string, condition func() bool) error {
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Since(start) > within {
			return fmt.Errorf("waited %v in vain until %s", within, what)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
