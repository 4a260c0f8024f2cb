package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// What follows is the other process: torture runs itself again, and there are
// nothing but SDKs in it, so that what they hold can be told from what servers
// and torture hold. It is told what to do by lines, and answers each with one
// line of JSON.

// crowd is the first line: which applications there are.
type crowd struct {
	Groups []group `json:"groups"`
	// Resolver is the address of the DNS server to ask, if not the machine's.
	Resolver string `json:"resolver,omitempty"`
	// Shared says that all share one pool of connections, as they must where
	// there are many: each one's idle connection would count as much as its
	// stream.
	Shared bool `json:"shared,omitempty"`
}

// group are applications that reach the servers in the same way.
type group struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	Key  string `json:"key"`
	N    int    `json:"n"`
	// Cache is a directory for the last-known-good files.
	Cache string `json:"cache,omitempty"`
}

// held is what the process says.
type held struct {
	Goroutines int     `json:"goroutines"`
	FDs        int     `json:"fds"`
	RSS        int64   `json:"rss"`
	Groups     []heard `json:"groups,omitempty"`
}

// heard is what the applications of a group saw. What says "since" counts from
// the last line that said mark.
type heard struct {
	Name string `json:"name"`
	// Held counts what is held now, as "digest at revision".
	Held map[string]int `json:"held"`
	// Ready counts those that have flags, Connected those with a stream, Noticed
	// those that say why they have none.
	Ready     int            `json:"ready"`
	Connected int            `json:"connected"`
	Noticed   int            `json:"noticed"`
	Errors    map[string]int `json:"errors,omitempty"`
	// Reads counts evaluations, Wrong those that were; Broken is what was wrong,
	// with them or with the revisions.
	Reads  int64    `json:"reads"`
	Wrong  int64    `json:"wrong"`
	Broken []string `json:"broken,omitempty"`
	// Values is what the probe was worth at the revisions seen, Digests their
	// digests.
	Values  map[int64]int64  `json:"values,omitempty"`
	Digests map[int64]string `json:"digests,omitempty"`
	// Applied counts the revisions that were seen since, Skipped those in
	// between that were not.
	Applied int64 `json:"applied"`
	Skipped int64 `json:"skipped"`
	// Gap is the longest time without a stream since, in milliseconds.
	Gap int64 `json:"gap"`
	// Lags are from the moment a change was asked for until it was seen, in
	// microseconds, since.
	Lags []int64 `json:"lags,omitempty"`
	// What the SDKs count.
	Streams    int64 `json:"streams"`
	Lost       int64 `json:"lost"`
	Polls      int64 `json:"polls"`
	Silent     int64 `json:"silent"`
	Malformed  int64 `json:"malformed"`
	Emptied    int64 `json:"emptied"`
	Lower      int64 `json:"lower"`
	Mismatches int64 `json:"mismatches"`
	// CacheLoads to CacheFailures are what became of last-known-good files.
	CacheLoads    int64 `json:"cacheLoads"`
	CacheSaves    int64 `json:"cacheSaves"`
	CacheFailures int64 `json:"cacheFailures"`
}

// Flags that applications look at.
const (
	// always is 1 from before the first application on.
	always = "always"
	// clock is worth the microsecond at which its change was asked for.
	clock = "clock"
	// probe is the flag of the first writer.
	probe = "writer-0"
)

// run is the process, until its input ends.
func (p *crowd) run(ctx context.Context, in io.Reader, out io.Writer) error {
	lines, answer := bufio.NewScanner(in), json.NewEncoder(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.New("no applications were asked for")
	}
	if err := json.Unmarshal(lines.Bytes(), p); err != nil {
		return err
	}
	if p.Resolver != "" {
		net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", p.Resolver)
		}}
	}
	before, err := process(os.Getpid())
	if err != nil {
		return err
	}
	if err := answer.Encode(before); err != nil {
		return err
	}
	groups, end, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	for lines.Scan() {
		now, err := process(os.Getpid())
		if err != nil {
			return err
		}
		switch lines.Text() {
		case "report", "mark":
			for _, g := range groups {
				now.Groups = append(now.Groups, g.report(lines.Text() == "mark"))
			}
		case "rest":
			end()
			groups = nil
			debug.FreeOSMemory()
			if now, err = rested(ctx, before); err != nil {
				return err
			}
		default:
			return fmt.Errorf("applications do not know what %q means", lines.Text())
		}
		if err := answer.Encode(now); err != nil {
			return err
		}
	}
	return lines.Err()
}

// rested waits until no more is held than before, or for long.
func rested(ctx context.Context, before held) (now held, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience/3)
	defer cancel()
	for {
		if now, err = process(os.Getpid()); err != nil || now.Goroutines <= before.Goroutines && now.FDs <= before.FDs {
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// process is what a process holds; the goroutines are this one's.
func process(pid int) (h held, err error) {
	h.Goroutines = runtime.NumGoroutine()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, err
	}
	h.FDs = len(fds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return h, err
			}
			h.RSS = kb << 10
		}
	}
	return h, nil
}

// open starts the applications; end ends them.
func (p *crowd) open(ctx context.Context) (groups []*watched, end func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	idle := func() {}
	var options []guidon.Option
	if p.Shared {
		dialer := &net.Dialer{Timeout: 10 * time.Second}
		transport := &http.Transport{DialContext: dialer.DialContext, ResponseHeaderTimeout: 30 * time.Second, MaxIdleConnsPerHost: 100}
		options = append(options, guidon.WithHTTPClient(&http.Client{Transport: transport}))
		idle = transport.CloseIdleConnections
	}
	end = sync.OnceFunc(func() {
		cancel()
		watching.Wait()
		for _, g := range groups {
			for _, a := range g.applications {
				_ = a.client.Close() // returns nil
			}
		}
		idle()
	})
	for _, spec := range p.Groups {
		g := &watched{heard: heard{Name: spec.Name, Values: map[int64]int64{}, Digests: map[int64]string{}}}
		groups = append(groups, g)
		options := append(slices.Clip(options), guidon.WithKey(spec.Key), guidon.WithService(spec.Name))
		if spec.Cache != "" {
			options = append(options, guidon.WithCache(spec.Cache))
		}
		for range spec.N {
			client, err := guidon.Open(ctx, spec.URL, options...)
			if err != nil {
				end()
				return nil, nil, err
			}
			g.applications = append(g.applications, &application{client: client})
		}
	}
	for _, g := range groups {
		watching.Go(func() { g.watch(ctx) })
	}
	return groups, end, nil
}

// application is one SDK, as its watcher saw it last.
type application struct {
	client *guidon.Client
	last   int64
	clock  int64
	lost   time.Time
}

// watched is a group that one goroutine reads, over and over, as applications
// would.
type watched struct {
	applications []*application

	mu    sync.Mutex
	heard heard
}

func (g *watched) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, a := range g.applications {
			g.mu.Lock()
			g.look(ctx, a)
			g.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// look holds I3 and I5: revisions only grow, the same one has the same digest
// everywhere, and a flag that is never touched always has its value.
func (g *watched) look(ctx context.Context, a *application) {
	snapshot, now := a.client.Snapshot(), time.Now()
	switch connected := a.client.Status().Connected; {
	case connected && !a.lost.IsZero():
		g.heard.Gap = max(g.heard.Gap, now.Sub(a.lost).Milliseconds())
		a.lost = time.Time{}
	case !connected && a.lost.IsZero() && snapshot != nil:
		a.lost = now
	}
	if snapshot == nil {
		return // it has never been connected
	}
	if a.last == 0 {
		if provider, ok := a.client.Provider().(openfeature.StateHandler); !ok || provider.Init(openfeature.EvaluationContext{}) != nil {
			g.broken("I5: an application has flags, and its provider is not ready")
		}
	}
	g.heard.Reads++
	if got := a.client.Provider().IntEvaluation(ctx, always, -1, openfeature.FlattenedContext{}); got.Value != 1 {
		g.broken("I5: at revision %d an application evaluated to %d, %s %v, want 1", snapshot.Revision(), got.Value, got.Reason, got.ResolutionError)
	}
	revision := snapshot.Revision()
	if revision == a.last {
		return
	}
	if revision < a.last {
		g.broken("I3: an application went from revision %d to %d", a.last, revision)
	}
	g.heard.Applied++
	if a.last > 0 {
		g.heard.Skipped += max(0, revision-a.last-1)
	}
	a.last = revision
	digest := snapshot.Digest().String()
	if other, ok := g.heard.Digests[revision]; ok && other != digest {
		g.broken("I3: revision %d is %s and %s", revision, other, digest)
	}
	g.heard.Digests[revision] = digest
	if value, ok := worth(snapshot, probe); ok {
		g.heard.Values[revision] = value
	}
	if asked, ok := worth(snapshot, clock); ok && asked != a.clock {
		a.clock = asked
		g.heard.Lags = append(g.heard.Lags, max(0, now.UnixMicro()-asked))
	}
}

// worth is what a flag is worth, if there is one.
func worth(snapshot *eval.Snapshot, key string) (int64, bool) {
	flag := snapshot.Flag(key)
	if flag == nil {
		return 0, false
	}
	return flag.Evaluate(nil, 0).Integer()
}

func (g *watched) broken(format string, args ...any) {
	if strings.HasPrefix(format, "I5") {
		g.heard.Wrong++
	}
	const shown = 3
	if len(g.heard.Broken) < shown {
		g.heard.Broken = append(g.heard.Broken, fmt.Sprintf(format, args...))
	}
}

// report says what was seen; mark begins to count anew.
func (g *watched) report(mark bool) heard {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.heard
	h.Held, h.Errors, h.Broken = map[string]int{}, map[string]int{}, slices.Clone(h.Broken)
	h.Values, h.Digests = maps.Clone(h.Values), maps.Clone(h.Digests)
	for _, a := range g.applications {
		if snapshot := a.client.Snapshot(); snapshot != nil {
			h.Ready++
			h.Held[fmt.Sprintf("%s at %d", snapshot.Digest(), snapshot.Revision())]++
		} else {
			h.Held["nothing"]++
		}
		status := a.client.Status()
		if status.Connected {
			h.Connected++
		}
		if status.LastError != "" {
			h.Noticed++
			if len(h.Errors) < 5 || h.Errors[status.LastError] > 0 {
				h.Errors[status.LastError]++
			}
		}
		if !a.lost.IsZero() {
			h.Gap = max(h.Gap, time.Since(a.lost).Milliseconds())
		}
		stats := a.client.FeedStats()
		h.Streams += stats.Streams.Load()
		h.Lost += stats.Lost.Load()
		h.Polls += stats.Polls.Load()
		h.Silent += stats.Silent.Load()
		h.Malformed += stats.Malformed.Load()
		h.Emptied += stats.Emptied.Load()
		h.Lower += stats.Lower.Load()
		h.Mismatches += stats.DigestMismatches.Load()
		h.CacheLoads += stats.CacheLoads.Load()
		h.CacheSaves += stats.CacheSaves.Load()
		h.CacheFailures += stats.CacheFailures.Load()
	}
	if mark {
		g.heard.Lags, g.heard.Gap, g.heard.Applied, g.heard.Skipped = nil, 0, 0, 0
	} else {
		h.Lags, h.Values, h.Digests = nil, nil, nil // only whoever ends a phase wants all of them
	}
	return h
}
