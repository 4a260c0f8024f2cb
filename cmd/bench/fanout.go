package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// sdks is how many of the streams are real SDKs; the rest are light.
	sdks = 100
	// settle is for what comes after a stream has begun.
	settle = 2 * time.Second
	// apart is the time between two changes.
	apart = time.Second
)

// measured is what some changes to some streams took.
type measured struct {
	streams     int
	took        []time.Duration // acknowledged → there, of each stream and change
	idle, after int64           // bytes, more than without streams
	server      time.Duration   // computed by the servers from a change until all had it
	client      time.Duration   // by this process
}

// mark is where a measurement of computing time began.
type mark struct{ server, client time.Duration }

func (m *measured) begin(pids ...int) mark { return mark{computed(pids...), computed()} }

func (m *measured) end(since mark, pids ...int) {
	m.server += computed(pids...) - since.server
	m.client += computed() - since.client
}

// quantiles are p50, p99 and the longest of times, for people.
func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "nothing"
	}
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v (n %d)", at(0.5), at(0.99), at(1), len(took))
}

func (m *measured) String() string {
	perEvent := func(d time.Duration) time.Duration {
		return (d / time.Duration(max(1, len(m.took)))).Round(100 * time.Nanosecond)
	}
	perStream := func(bytes int64) float64 { return float64(bytes) / float64(m.streams) / 1024 }
	return fmt.Sprintf("%s; CPU per event %v server, %v client; %.1f KB per idle stream, %.1f KB after",
		quantiles(m.took), perEvent(m.server), perEvent(m.client), perStream(m.idle), perStream(m.after))
}

// fan is what a fan-out came to.
type fan struct {
	all   measured
	sdks  []time.Duration // as all.took, of the real SDKs
	busy  float64         // cores that the replicas used meanwhile
	frame []byte          // what a stream was sent for the last change
}

// fanout measures changes with n streams open over all replicas: up to a
// hundred real SDKs, and light streams beside them. Then it measures the bare
// fan-out of the same bytes to as many.
func fanout(ctx context.Context, out io.Writer, s *servers, n, changes int) error {
	f, err := s.fanout(ctx, n, changes)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "fanout: %5d streams over %d replicas, %d changes, acknowledged → applied: %v\n", n, len(s.serves), changes, &f.all)
	fmt.Fprintf(out, "        %5d of them real SDKs: %s; the replicas use %.0f %% of a core at one change a second, acknowledgements and all\n",
		min(n, sdks), quantiles(f.sdks), 100*f.busy)
	bare, err := floor(ctx, f.frame, n, changes)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "floor:  %5d streams of net/http, the same %d bytes: %v\n", n, len(f.frame), &bare)
	return nil
}

func (s *servers) fanout(ctx context.Context, n, changes int) (f fan, err error) {
	before, err := s.memory()
	if err != nil {
		return f, err
	}
	c, err := s.connect(ctx, min(n, sdks))
	if err != nil {
		return f, err
	}
	defer c.stop()
	apis, closeIdle := s.syncs()
	defer closeIdle()
	l, err := openLights(ctx, s.addresses(), s.key, max(n-sdks, 1), apis) // one at least, to see the bytes
	if err != nil {
		return f, err
	}
	defer l.stop()
	there := func() error {
		err := eventually(ctx, patience, "all streams have the change", func() bool { return c.at(s.newest) && l.at(s.newest) })
		return errors.Join(err, l.err())
	}
	if err := errors.Join(there(), pause(ctx, settle)); err != nil {
		return f, err
	}
	idle, err := s.memory()
	if err != nil {
		return f, err
	}
	f.all = measured{streams: n, idle: idle - before}
	began, cpu := time.Now(), computed(s.pids()...)
	for range changes {
		since := f.all.begin(s.pids()...)
		if err := s.change(ctx); err != nil {
			return f, err
		}
		acknowledged := time.Now()
		if err := there(); err != nil {
			return f, err
		}
		f.all.end(since, s.pids()...)
		f.sdks = c.since(acknowledged, f.sdks)
		if f.all.took = c.since(acknowledged, f.all.took); n > sdks {
			f.all.took = l.since(acknowledged, f.all.took)
		}
		if err := pause(ctx, apart); err != nil {
			return f, err
		}
	}
	f.busy = (computed(s.pids()...) - cpu).Seconds() / time.Since(began).Seconds()
	after, err := s.memory()
	f.all.after, f.frame = after-before, framed(*l.all[0].frame.Load())
	return f, err
}
