package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// A Result is what one mode came to.
type Result struct {
	Mode     mode `json:"mode"`
	Requests int  `json:"requests"`
	// Torn requests had two answers in one group.
	Torn        int     `json:"torn"`
	TornPercent float64 `json:"tornPercent"`
	// Evaluations are those that were compared; Divergent differ from the first
	// of their group.
	Evaluations int64 `json:"evaluations"`
	Divergent   int64 `json:"divergent"`
	// Bound is 3 / Evaluations, if none diverged: with 95 % confidence the share
	// of divergent evaluations is below it.
	Bound float64 `json:"bound,omitempty"`
	// Errors are explicit ERROR resolutions, by code.
	Errors map[string]int `json:"errors"`
	// NotLocalPercent of the evaluations needed history beyond the newest snapshot.
	NotLocalPercent float64 `json:"pinsNotLocalPercent"`
	Fetches         int     `json:"fetches"`
	FetchP50        float64 `json:"fetchP50Ms"`
	FetchP99        float64 `json:"fetchP99Ms"`
	HeaderP50       int     `json:"headerBytesP50"`
	HeaderP99       int     `json:"headerBytesP99"`
	// OrphanRoots are requests that arrived inside the zone without a header.
	OrphanRoots uint64 `json:"orphanRoots"`
	// ManyRoots are requests whose evaluations descend from several roots.
	ManyRoots int `json:"manyRoots"`
	// Pierced are requests of which a kill changed a value under way; Backward
	// are evaluations that went back behind one (K2), Ignoring those of an
	// instance that knew better (K3), and Unpublished kills that nobody made (K1).
	Pierced     int   `json:"pierced"`
	Backward    int64 `json:"backward"`
	Ignoring    int64 `json:"ignoring"`
	Unpublished int   `json:"unpublished"`
	// KillLast are milliseconds from the acknowledgement of a kill until the last
	// instance evaluates by it, the lag of streams and partitions included;
	// KillBeyond are those of each instance beyond the lag of its stream.
	KillLastP50   float64        `json:"killLastP50Ms"`
	KillLastP99   float64        `json:"killLastP99Ms"`
	KillLastMax   float64        `json:"killLastMaxMs"`
	KillBeyondP50 float64        `json:"killBeyondP50Ms"`
	KillBeyondP99 float64        `json:"killBeyondP99Ms"`
	Changes       int            `json:"changes"`
	PerSecond     float64        `json:"changesPerSecond"`
	Seconds       float64        `json:"seconds"`
	Counts        map[string]int `json:"counts"`
	Examples      []string       `json:"examples,omitempty"`
}

func (m *Mesh) result(what mode, requests, changes int, took time.Duration) Result {
	r := m.recorder
	torn, manyRoots, pierced := r.judged()
	n := r.evaluations.Load()
	res := Result{
		Mode: what, Requests: requests, Torn: torn, TornPercent: 100 * float64(torn) / float64(max(requests, 1)),
		Evaluations: n, Divergent: r.divergent.Load(), Errors: r.errors,
		NotLocalPercent: 100 * float64(m.stats.Events[propagate.PinFetched]) / float64(max(n, 1)),
		Fetches:         len(r.fetches), FetchP50: milliseconds(percentile(r.fetches, 50)), FetchP99: milliseconds(percentile(r.fetches, 99)),
		HeaderP50: percentile(r.bytes, 50), HeaderP99: percentile(r.bytes, 99),
		OrphanRoots: m.stats.Events[propagate.OrphanRooted], ManyRoots: manyRoots,
		Changes: changes, PerSecond: float64(changes) / took.Seconds(), Seconds: took.Seconds(), Counts: r.counts, Examples: r.examples,
	}
	res.Pierced, res.Backward, res.Ignoring = pierced, r.backward.Load(), r.ignoring.Load()
	for e := range r.killed {
		if !m.kills.published[e] {
			res.Unpublished++
		}
	}
	last, beyond := m.kills.last, m.kills.beyond
	res.KillLastP50, res.KillLastP99, res.KillLastMax = milliseconds(percentile(last, 50)), milliseconds(percentile(last, 99)), milliseconds(percentile(last, 100))
	res.KillBeyondP50, res.KillBeyondP99 = milliseconds(percentile(beyond, 50)), milliseconds(percentile(beyond, 99))
	if res.Divergent == 0 {
		res.Bound = 3 / float64(max(n, 1))
	}
	return res
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// A Report is what a whole run came to.
type Report struct {
	Seed    uint64   `json:"seed"`
	Results []Result `json:"results"`
}

// pinUnavailable is what the error of a pin that cannot be had is called.
const pinUnavailable = "PIN_UNAVAILABLE"

// mostUnavailable is the share of pins that cannot be had from which on a run
// shows little of what services do whose pins can.
const mostUnavailable = 0.25

// enoughKills is from how many on some request must have met one.
const enoughKills = 20

// verdict is nil if the run proves what it should.
func (r Report) verdict() error {
	var errs []error
	for _, res := range r.Results {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("mode "+string(res.Mode)+": "+format, args...))
		}
		if failed := res.Counts["failed"]; failed > 0 {
			wrong("%d requests failed and prove nothing", failed)
		}
		switch {
		case res.Mode != pinned && res.Torn == 0:
			wrong("no request was torn: the comparison proves nothing")
		case res.Mode != pinned:
		case res.Divergent > 0:
			wrong("%d of %d evaluations diverged, for example %s", res.Divergent, res.Evaluations, res.Examples[0])
		case res.Backward > 0 || res.Ignoring > 0 || res.Unpublished > 0:
			wrong("%d evaluations went back behind a kill, %d ignored one, %d kills were never made; for example %s",
				res.Backward, res.Ignoring, res.Unpublished, append(res.Examples, "")[0])
		case res.Counts["kills"] >= enoughKills && res.Pierced == 0:
			wrong("no kill of %d changed a request under way: nothing was shown of kills", res.Counts["kills"])
		case float64(res.Errors[pinUnavailable]) > mostUnavailable*float64(res.Evaluations):
			wrong("%d pins could not be had beside %d evaluations: too few were compared", res.Errors[pinUnavailable], res.Evaluations)
		case res.OrphanRoots > 0 || res.ManyRoots > 0:
			wrong("%d headers were lost, %d requests had several roots", res.OrphanRoots, res.ManyRoots)
		}
	}
	return errors.Join(errs...)
}

// Write writes the report as text.
func (r Report) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "mode\trequests\ttorn\ttorn %\tevaluations\tdivergent\texplicit errors\tchanges/s\tseconds\t")
	for _, res := range r.Results {
		explicit := 0
		for _, n := range res.Errors {
			explicit += n
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%d\t%d\t%d\t%.0f\t%.1f\t\n", res.Mode, res.Requests, res.Torn, res.TornPercent,
			res.Evaluations, res.Divergent, explicit, res.PerSecond, res.Seconds)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, res := range r.Results {
		fmt.Fprintf(out, "\n%s\n", res.Mode)
		if res.Mode == pinned {
			if res.Divergent == 0 {
				fmt.Fprintf(out, "  0 of %d evaluations diverged: at 95 %% confidence fewer than %.2g of all do (3/N)\n", res.Evaluations, res.Bound)
			}
			fmt.Fprintf(out, "  pins not local %.2f %% · %d definitions fetched, p50 %.2f ms, p99 %.2f ms\n", res.NotLocalPercent, res.Fetches, res.FetchP50, res.FetchP99)
			fmt.Fprintf(out, "  %d kills changed %d requests under way, %d evaluations went back, %d ignored one\n", res.Counts["kills"], res.Pierced, res.Backward, res.Ignoring)
			fmt.Fprintf(out, "  kill to the last instance p50 %.0f ms, p99 %.0f ms, max %.0f ms; beyond the lag of its stream, to each p50 %.1f ms, p99 %.1f ms\n",
				res.KillLastP50, res.KillLastP99, res.KillLastMax, res.KillBeyondP50, res.KillBeyondP99)
			fmt.Fprintf(out, "  header p50 %d bytes, p99 %d bytes · orphan roots %d\n", res.HeaderP50, res.HeaderP99, res.OrphanRoots)
		}
		fmt.Fprintf(out, "  explicit errors: %s\n  happened: %s\n", list(res.Errors), list(res.Counts))
		for _, example := range res.Examples {
			fmt.Fprintln(out, "  for example:", example)
		}
	}
	_, err := fmt.Fprintf(out, "\nseed %d\n", r.Seed)
	return err
}

func list(counts map[string]int) string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", what, counts[what]))
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}

// Save writes the report as path.txt and path.json.
func (r Report) Save(path string) (err error) {
	text, err := os.Create(path + ".txt")
	if err != nil {
		return err
	}
	if err := errors.Join(r.Write(text), text.Close()); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path+".json", append(data, '\n'), 0o600)
}
