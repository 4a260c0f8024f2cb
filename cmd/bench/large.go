package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/open-feature/go-sdk/openfeature"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// starts is how many processes are started from disk.
const starts = 10

// large measures what is particular to an environment of many flags, and
// staleness while no notification arrives.
func large(ctx context.Context, out io.Writer, s *servers, changes int) error {
	c, err := s.connect(ctx, len(s.serves))
	if err != nil {
		return err
	}
	defer c.stop()
	flags := c.feeds[0].Snapshot().Len()
	if err := applying(ctx, out, s, flags, changes); err != nil {
		return err
	}
	if err := fromDisk(ctx, out, s, flags); err != nil {
		return err
	}
	return unnotified(ctx, out, s, c, changes)
}

// applying measures one changed flag among many: the bytes that a stream is
// sent, and what an SDK then needs until the new value is served.
func applying(ctx context.Context, out io.Writer, s *servers, flags, changes int) error {
	l, err := openLights(ctx, s.addresses()[:1], s.key, 1, nil)
	if err != nil {
		return err
	}
	defer l.stop()
	record := &recording{Source: s.source()}
	f := feed.New(feed.Config{Source: record})
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		_ = f.Run(running) // fails only when run twice
		close(ended)
	}()
	defer func() {
		stop()
		<-ended
	}()
	there := func() error {
		return eventually(ctx, patience, "the change is there", func() bool {
			return l.at(s.newest) && f.Snapshot() != nil && f.Snapshot().Revision() >= s.newest
		})
	}
	if err := there(); err != nil {
		return errors.Join(err, l.err())
	}
	before := l.read.Load()
	for range changes {
		if err := s.change(ctx); err != nil {
			return err
		}
		if err := there(); err != nil {
			return errors.Join(err, l.err())
		}
	}
	bytes := float64(l.read.Load()-before) / float64(changes)
	stop()
	<-ended // record.took is ours now
	fmt.Fprintf(out, "sync:  %d flags, one changed: %.0f bytes on the wire; decode, compile, check the digest and swap in an SDK: %s\n",
		flags, bytes, quantiles(record.took))
	return nil
}

// recording is a Source that measures how long each delta takes to be applied.
type recording struct {
	feed.Source
	took []time.Duration
}

func (r *recording) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		for event, err := range r.Source.Sync(ctx, have) {
			start := time.Now()
			more := yield(event, err) // a feed applies an event before it asks for the next
			if event.GetDelta() != nil {
				r.took = append(r.took, time.Since(start))
			}
			if !more {
				return
			}
		}
	}
}

// source is what a feed of the first replica reads.
func (s *servers) source() feed.Source {
	apis, _ := s.syncs()
	return feed.Connect(apis[s.serves[0].address])
}

// fromDisk measures processes that start while no server can be reached.
func fromDisk(ctx context.Context, out io.Writer, s *servers, flags int) error {
	dir, err := os.MkdirTemp("", "guidon-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	client, err := guidon.Open(ctx, "http://"+s.serves[0].address, guidon.WithKey(s.key), guidon.WithCache(dir))
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := errors.Join(client.WaitReady(waiting), client.Close()); err != nil { // Close writes the file
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var inside, outside, cpu []time.Duration
	for range starts {
		cmd := exec.CommandContext(ctx, self, "started", "http://"+s.serves[0].address, s.key, dir, strconv.FormatBool(s.on)) //nolint:gosec // this program
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		cmd.Stderr = os.Stderr
		start := time.Now()
		printed, err := cmd.Output()
		if err != nil {
			return err
		}
		outside = append(outside, time.Since(start))
		cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		d, err := time.ParseDuration(string(printed))
		if err != nil {
			return err
		}
		inside = append(inside, d)
	}
	fmt.Fprintf(out, "start: %d flags from disk, no server: Open to the first right value %s; the whole process %s, and its CPU %s\n",
		flags, quantiles(inside), quantiles(outside), quantiles(cpu))
	return nil
}

// started is a process that starts while the server cannot be reached: it
// prints how long it took to the first right value.
func started(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 4 {
		return errUsage
	}
	start := time.Now()
	client, err := guidon.Open(ctx, args[0], guidon.WithKey(args[1]), guidon.WithCache(args[2]), guidon.WithSource(
		func(feed.Source) feed.Source { return gone{} }))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // it returns nil
	if err := openfeature.SetProviderAndWait(client.Provider()); err != nil {
		return err
	}
	value, err := openfeature.NewDefaultClient().BooleanValue(ctx, "bench", args[3] != "true", openfeature.NewEvaluationContext("nobody", nil))
	took := time.Since(start)
	if err != nil || strconv.FormatBool(value) != args[3] {
		return fmt.Errorf("bench came to %v, %w, want %s", value, err, args[3])
	}
	_, err = fmt.Fprint(out, took)
	return err
}

// gone is a server that cannot be reached.
type gone struct{ feed.Source }

var errGone = errors.New("there is no server")

func (gone) Sync(context.Context, *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) { yield(nil, errGone) }
}

// unnotified measures changes while the connections that replicas listen on are
// silent: the processes behind them are stopped.
func unnotified(ctx context.Context, out io.Writer, s *servers, c *clients, changes int) (err error) {
	silent := map[int]bool{}
	defer func() {
		for pid := range silent {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
		}
	}()
	var took []time.Duration
	for i := range changes {
		if err := s.silence(ctx, silent); err != nil {
			return err
		}
		// At a moment of its own between two polls.
		if err := pause(ctx, time.Duration(i*37%100)*10*time.Millisecond); err != nil {
			return err
		}
		if err := s.change(ctx); err != nil {
			return err
		}
		acknowledged := time.Now()
		if err := eventually(ctx, patience, "the change is there", func() bool { return c.at(s.newest) }); err != nil {
			return err
		}
		took = c.since(acknowledged, took)
	}
	fmt.Fprintf(out, "poll:  no notification arrives, %d changes to %d replicas: acknowledged → applied %s\n", changes, len(s.serves), quantiles(took))
	return nil
}

// silence stops the processes of the database that notify, until they are
// continued.
func (s *servers) silence(ctx context.Context, silent map[int]bool) error {
	conn, err := pgx.Connect(ctx, s.ready.DatabaseURL)
	if err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE query ILIKE 'LISTEN %'`) // the error comes out of Collect
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	for _, pid := range pids {
		if !silent[pid] {
			silent[pid] = true
			err = errors.Join(err, syscall.Kill(pid, syscall.SIGSTOP))
		}
	}
	return errors.Join(err, conn.Close(ctx))
}
