// Command bench measures how a server treats many streams, from a process of
// its own: fanout says how long a change takes to all of them and what a stream
// costs, herd what becomes of them when the server is killed.
//
// It starts what it measures: a `guidon dev`, for its Postgres and for the
// changes, and beside it a `guidon serve` on the same database, which has the
// streams. Each stream is a real feed with a connection of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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

var errUsage = errors.New("want: bench fanout|herd --guidon BINARY --data DIRECTORY [--streams 100,1000] [--changes 20]")

func run(ctx context.Context, out io.Writer, args []string) (err error) {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	binary := flags.String("guidon", ".bin/guidon", "the guidon to measure")
	data := flags.String("data", "", "directory for its data, made and removed; PostgreSQL's account must get to it")
	streams := flags.String("streams", "100,1000,9500", "how many streams, one measurement each")
	changes := flags.Int("changes", 20, "how many changes to measure")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *data == "" || flags.NArg() > 0 {
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
	s, err := start(ctx, *binary, *data)
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
		default:
			err = errUsage
		}
		if err != nil {
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
