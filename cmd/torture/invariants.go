package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// invariant is one of those that hold whatever is broken, with the numbers that
// show it.
type invariant struct {
	Name     string   `json:"name"`
	Numbers  string   `json:"numbers"`
	Problems []string `json:"problems,omitempty"`
}

func (i *invariant) problem(format string, args ...any) {
	const shown = 20
	if len(i.Problems) < shown {
		i.Problems = append(i.Problems, fmt.Sprintf(format, args...))
	}
}

const (
	// slack is how many more goroutines or file descriptors there may be in the
	// end than in the beginning.
	slack = 5
	// serverMemory and clientMemory bound what processes hold in the end,
	// streamMemory and sdkMemory what each stream and each SDK adds to that:
	// memory that was used is not given back at once, and an SDK keeps the flags
	// that were superseded lately.
	serverMemory, clientMemory, streamMemory, sdkMemory = 192 << 20, 192 << 20, 96 << 10, 512 << 10
)

// judge holds I3 to I6, once a scenario has mended what it broke.
func (c *Cluster) judge(ctx context.Context) ([]invariant, error) {
	var all []invariant
	if len(c.applications) > 0 {
		i4, err := c.judgeAgreement(ctx)
		if err != nil {
			return nil, err
		}
		i3, i5, err := c.judgeApplications(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, i3, i4, i5)
	}
	i6, err := c.judgeRest(ctx)
	return append(all, i6), err
}

// judgeAgreement is I4: all applications and servers come to hold one digest.
func (c *Cluster) judgeAgreement(ctx context.Context) (i invariant, err error) {
	i.Name = "I4"
	began := time.Now()
	for {
		digests := map[string]int{}
		if err := c.digests(ctx, digests); err == nil && len(digests) == 1 {
			for digest, n := range digests {
				_, revision, _ := strings.Cut(digest, " at ")
				i.Numbers = fmt.Sprintf("%d servers and applications at one digest, revision %s, %d ms after the last change",
					n, revision, time.Since(began).Milliseconds())
			}
			return i, nil
		} else if time.Since(began) > patience {
			i.problem("applications and servers hold different flags after %v: %v, %v", patience, digests, err)
			return i, nil
		}
		select {
		case <-ctx.Done():
			return i, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// digests counts what is held.
func (c *Cluster) digests(ctx context.Context, counts map[string]int) error {
	for _, s := range c.Alive() {
		res, err := guidonv1connect.NewEnvironmentServiceClient(c.http, s.URL, c.keyed()).
			Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: watchedEnvironment})
		if err != nil {
			return err
		}
		counts[fmt.Sprintf("%s at %d", res.GetEnvironment().GetDigest(), res.GetEnvironment().GetRevision())]++
	}
	for _, a := range c.applications {
		now, err := a.Report(ctx)
		if err != nil {
			return err
		}
		for _, g := range now.Groups {
			for digest, n := range g.Held {
				counts[digest] += n
			}
		}
	}
	return nil
}

// judgeApplications is I3 and I5: what applications saw was at each revision
// what was published there, and each evaluation was right.
func (c *Cluster) judgeApplications(ctx context.Context) (i3, i5 invariant, err error) {
	i3.Name, i5.Name = "I3", "I5"
	digests, values := map[int64]string{}, map[int64]int64{}
	var reads, wrong int64
	n := 0
	for _, a := range c.applications {
		end, err := a.Mark(ctx)
		if err != nil {
			return i3, i5, err
		}
		for _, g := range end.Groups {
			n += g.Ready
			reads += g.Reads
			wrong += g.Wrong
			for _, problem := range g.Broken {
				invariant, problem, _ := strings.Cut(problem, ": ")
				if invariant == "I3" {
					i3.problem("%s: %s", g.Name, problem)
				} else {
					i5.problem("%s: %s", g.Name, problem)
				}
			}
			for revision, digest := range g.Digests {
				if other, ok := digests[revision]; ok && other != digest {
					i3.problem("revision %d is %s and %s", revision, other, digest)
				}
				digests[revision] = digest
			}
			maps.Copy(values, g.Values)
		}
	}
	compared := 0
	if !c.mayLose {
		compared = c.History.compare(&i3, c.settings.seed, values)
	}
	asked, err := c.compareDigests(ctx, &i3, digests)
	i3.Numbers = fmt.Sprintf("%d applications saw %d revisions, ever newer ones; values at %d of them are those of the history, digests at %d those that Postgres gives",
		n, len(digests), compared, asked)
	i5.Numbers = fmt.Sprintf("%d evaluations, %d wrong", reads, wrong)
	return i3, i5, err
}

// compare holds what the probe was worth against what its writer was told.
func (h *History) compare(i *invariant, seed uint64, values map[int64]int64) (compared int) {
	prefix := fmt.Sprintf("%d-0-", seed)
	published := map[int64]int64{} // by revision
	for key, e := range h.outcomes() {
		number, ok := strings.CutPrefix(key, prefix)
		if !ok || !slices.Contains(e.Chains, watchedEnvironment) {
			continue
		}
		if e.Type != "ok" && e.Type != "fail" {
			return 0 // nobody knows
		}
		if value, err := strconv.ParseInt(number, 10, 64); err == nil && e.Type == "ok" {
			published[e.Revisions[watchedEnvironment]] = value
		}
	}
	revisions := slices.Sorted(maps.Keys(published))
	for revision, value := range values {
		at, exact := slices.BinarySearch(revisions, revision)
		if !exact {
			at--
		}
		if at < 0 {
			i.problem("at revision %d the probe was worth %d before it was published", revision, value)
		} else if want := published[revisions[at]]; value != want {
			i.problem("at revision %d the probe was worth %d, published was %d", revision, value, want)
		}
		compared++
	}
	return compared
}

// compareDigests asks a server for some of the revisions that were seen, which
// it reads from Postgres.
func (c *Cluster) compareDigests(ctx context.Context, i *invariant, digests map[int64]string) (asked int, err error) {
	const most = 40
	s := c.Pick(0)
	if s == nil {
		return 0, errNoServer
	}
	seen := slices.Sorted(maps.Keys(digests))
	c.Random.Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] })
	client := guidonv1connect.NewSyncServiceClient(c.http, s.URL, c.keyed())
	for _, revision := range seen[:min(most, len(seen))] {
		res, err := client.GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: watchedEnvironment, Revision: revision})
		if err != nil && c.mayLose && connect.CodeOf(err) == connect.CodeNotFound {
			continue
		}
		if err != nil {
			return asked, fmt.Errorf("revision %d, which an application held: %w", revision, err)
		}
		if res.GetDigest() != digests[revision] {
			i.problem("revision %d was %s in an application and is %s", revision, digests[revision], res.GetDigest())
		}
		asked++
	}
	return asked, nil
}

// atRest is what a server holds while nobody uses it.
type atRest struct {
	Goroutines, FDs int
	RSS             int64
}

// noteRest notes what servers hold before anything happens.
func (c *Cluster) noteRest(ctx context.Context) error {
	c.http.CloseIdleConnections()
	for last, same := (atRest{}), 0; same < 3; {
		s := c.Pick(0)
		now, err := c.holds(ctx, s)
		if err != nil {
			return err
		}
		if same++; now.Goroutines != last.Goroutines || now.FDs != last.FDs {
			same = 0
		}
		last = now
		c.rest = &now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

const selectConnections = `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`

// holds is what a server says it holds, but for its connections to Postgres,
// which its pools bound. Sockets that it uses to say so count twice.
func (c *Cluster) holds(ctx context.Context, s *Server) (r atRest, err error) {
	metrics, err := s.metrics(ctx)
	if err != nil {
		return r, err
	}
	connections, err := c.databaseConnections(ctx, s)
	if err != nil {
		return r, err
	}
	return atRest{
		Goroutines: int(metrics["go_goroutines"]), FDs: int(metrics["process_open_fds"]) - connections, RSS: int64(metrics["process_resident_memory_bytes"]),
	}, nil
}

// databaseConnections counts a server's connections to Postgres. Where they go
// over a network of its own, those that it does not know yet to be dead count too.
func (c *Cluster) databaseConnections(ctx context.Context, s *Server) (n int, err error) {
	if s.serving.database == "" {
		conn, err := pgx.Connect(ctx, c.url)
		if err != nil {
			return 0, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		return n, conn.QueryRow(ctx, selectConnections, s.name).Scan(&n)
	}
	u, err := url.Parse(s.serving.database)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0, err
	}
	sockets, err := sockets()
	for _, k := range sockets {
		if k.remote == uint16(port) {
			n++
		}
	}
	return n, err
}

// socket is one end of a TCP connection of this machine.
type socket struct {
	local, remote uint16 // ports
	unsent        uint64 // bytes that were written and not acknowledged
}

// sockets are those of IPv4 that a process may hold.
func sockets() (all []socket, err error) {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	port := func(address string) uint16 {
		_, text, _ := strings.Cut(address, ":")
		n, _ := strconv.ParseUint(text, 16, 16) // 0 names nothing
		return uint16(n)
	}
	for line := range strings.Lines(string(text)) {
		const timeWait = "06"
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[3] == timeWait || fields[0] == "sl" {
			continue
		}
		queued, _, _ := strings.Cut(fields[4], ":")
		unsent, err := strconv.ParseUint(queued, 16, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, socket{local: port(fields[1]), remote: port(fields[2]), unsent: unsent})
	}
	return all, nil
}

// metrics are what a server counts, by name and labels, and the sums by name.
func (s *Server) metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	request.Close = true // or the connection would be held
	response, err := s.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	sums := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		series, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, err := strconv.ParseFloat(number, 64)
		if series == "#" || err != nil {
			continue
		}
		name, _, labelled := strings.Cut(series, "{")
		if sums[name] += value; labelled {
			sums[series] = value
		}
	}
	return sums, err
}

// judgeRest is I6: once the applications are gone, nothing of them is left, with
// them nor with servers.
func (c *Cluster) judgeRest(ctx context.Context) (i invariant, err error) {
	i.Name = "I6"
	var says []string
	for _, a := range c.applications {
		report, err := a.Report(ctx)
		if err != nil {
			return i, err
		}
		n := 0
		for _, g := range report.Groups {
			n += g.Ready
		}
		after, err := a.ask(ctx, "rest")
		if err != nil {
			return i, err
		}
		if after.Goroutines > a.Before.Goroutines+slack || after.FDs > a.Before.FDs+slack {
			i.problem("the applications' process held %d goroutines and %d files, and holds %d and %d", a.Before.Goroutines, a.Before.FDs, after.Goroutines, after.FDs)
		}
		if bound := int64(clientMemory + n*sdkMemory); after.RSS > bound {
			i.problem("the applications' process holds %d MB, the bound is %d MB", after.RSS>>20, bound>>20)
		}
		c.streams += n
		says = append(says, fmt.Sprintf("applications %d/%d goroutines, %d/%d files, %d MB", after.Goroutines, a.Before.Goroutines, after.FDs, a.Before.FDs, after.RSS>>20))
		if len(says) > 3 {
			says = append(says[:2], fmt.Sprintf("and %d further processes alike", len(c.applications)-2))
		}
	}
	for _, a := range c.applications {
		a.kill()
	}
	c.applications = nil
	for _, f := range c.fronts {
		f.Cut()
	}
	worst := atRest{}
	alive := c.Alive()
	for _, s := range alive {
		now, err := c.comesToRest(ctx, s)
		if err != nil {
			return i, err
		}
		if now.Goroutines > c.rest.Goroutines+slack || now.FDs > c.rest.FDs+slack {
			i.problem("server %s held %d goroutines and %d files, and holds %d and %d", s.name, c.rest.Goroutines, c.rest.FDs, now.Goroutines, now.FDs)
		}
		if bound := int64(serverMemory + c.streams*streamMemory); now.RSS > bound {
			i.problem("server %s holds %d MB, the bound is %d MB", s.name, now.RSS>>20, bound>>20)
		}
		worst = atRest{max(worst.Goroutines, now.Goroutines), max(worst.FDs, now.FDs), max(worst.RSS, now.RSS)}
	}
	says = append(says, fmt.Sprintf("%d servers at most %d/%d goroutines, %d/%d files, %d MB",
		len(alive), worst.Goroutines, c.rest.Goroutines, worst.FDs, c.rest.FDs, worst.RSS>>20))
	i.Numbers = strings.Join(says, "; ")
	return i, nil
}

// comesToRest waits until a server holds no more than it did, or for long.
func (c *Cluster) comesToRest(ctx context.Context, s *Server) (now atRest, err error) {
	for began := time.Now(); time.Since(began) < patience/2; {
		c.http.CloseIdleConnections()
		var failed error
		if now, failed = c.holds(ctx, s); failed == nil && now.Goroutines <= c.rest.Goroutines+slack && now.FDs <= c.rest.FDs+slack {
			return now, nil
		}
		err = failed
		select {
		case <-ctx.Done():
			return now, errors.Join(err, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return now, err
}
