// Command torture breaks Postgres and the servers of an installation of its own
// while writers write, and checks afterwards that nothing that was acknowledged
// is lost, nothing is there twice, revisions have no gaps, and the audit log
// says what the tables say.
//
// The one idea: a [Scenario] is a function over a [Cluster]. It breaks what it
// likes; the cluster knows how to start what was broken, the writers note what
// they asked for and what they were told, and one checker judges all scenarios
// alike, once they have mended what they broke. Everything that is drawn at
// random comes from one seed. The checker holds that
//
//   - I1: what was acknowledged is there, once, and what is there was asked for;
//   - I2: revisions have no gap, and the audit log, verified and replayed, says
//     what the tables say;
//   - I3: an application sees ever newer revisions, and at each of them what was
//     published there;
//   - I4: in the end all servers and applications hold one digest;
//   - I5: no evaluation failed or fell back to its default;
//   - I6: once the applications are gone, neither their process nor a server
//     holds more goroutines, files and memory than before.
//
// The first two read nothing but the history and the database. Applications are
// real SDKs in a process of their own: this program, run again as [Applications].
//
// What kill -9 cannot show is the loss of power: the kernel keeps what was
// written.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Scenario breaks a cluster in one way.
type Scenario struct {
	// Name is that of the plan: F1, F2 …
	Name string
	// Breaks says what.
	Breaks string
	// Run breaks it. What it returns is the scenario's own figures; an error is
	// a failure of the test's machinery or a promise that was not kept.
	Run func(ctx context.Context, c *Cluster) (map[string]any, error)
}

// scenarios in the order in which they run.
func scenarios() []Scenario {
	return []Scenario{
		{"F5", "the server, at each failpoint", failpoints},
		{"F17", "nothing: 64 writers race for each revision of one flag", race},
		{"F1", "the postmaster, with kill -9", killPostgres},
		{"F15", "the primary, with all it has: its synchronous standby takes its place", failOver},
		{"F15-async", "the same, with a standby that nobody waits for", failOverAsync},
		{"F2", "the connections: restarts, immediate stops, terminated backends", restartPostgres},
		{"F4", "servers behind a balancer, with kill -9", killServers},
		{"F20", "nothing: servers are replaced one by one with SIGTERM", restartServers},
		{"F3", "the network between applications and servers", breakNetwork},
		{"F3-postgres", "the network between servers and Postgres", breakDatabaseNetwork},
		{"F8", "nothing: a fifth of the clients hardly reads", slowClients},
		{"F10", "servers, and with them all streams at once", herd},
		{"F11", "the last-known-good files of applications", spoilCache},
		{"F12", "nothing: servers lie to applications", deceive},
		{"F16", "nothing: locks are held, connections sleep, administrators queue", starve},
		{"F18", "where names lead, and the certificates that servers show", mislead},
		{"F19", "nothing: a server without much memory or processor, and many changes", storm},
		{"F7", "the disk: it fills up", fillDisk},
		{"F7-wal", "the disk of the write-ahead log: it fills up", fillLog},
		{"F7-inodes", "the disk: no more files can be made", useUpInodes},
		{"F7-cache", "the disks of applications: full, out of inodes, read-only", spoilCacheVolume},
	}
}

// settings are what the command line says.
type settings struct {
	seed   uint64
	short  bool
	guidon string
	only   []string
	out    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:           "torture",
		Short:         "Break Postgres and the servers under load, and check what is left",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.seed == 0 {
				s.seed = rand.Uint64() >> 32 //nolint:gosec // draws a test, guards nothing
			}
			return torture(cmd.Context(), cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().Uint64Var(&s.seed, "seed", 0, "draws everything that is random (default another one each time)")
	cmd.Flags().BoolVar(&s.short, "short", false, "a sample of each scenario")
	cmd.Flags().StringVar(&s.guidon, "guidon", "", "a guidon built with -tags failpoint (required)")
	cmd.Flags().StringSliceVar(&s.only, "scenario", nil, "only these, as in F1,F5 (default all)")
	cmd.Flags().StringVar(&s.out, "results", "results", "directory for the report and the histories")
	if err := cmd.MarkFlagRequired("guidon"); err != nil {
		panic(err) // it was defined just above
	}
	cmd.AddCommand(&cobra.Command{
		Use: applicationsCommand, Short: "Be the applications of a run", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return new(crowd).run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return cmd
}

// applicationsCommand is what torture runs itself as.
const applicationsCommand = "applications"

// report is what is written, and what is judged.
type report struct {
	Seed      uint64    `json:"seed"`
	Short     bool      `json:"short"`
	Began     time.Time `json:"began"`
	Seconds   float64   `json:"seconds"`
	Scenarios []result  `json:"scenarios"`
}

// result is one scenario's.
type result struct {
	Name    string         `json:"name"`
	Breaks  string         `json:"breaks"`
	Skipped string         `json:"skipped,omitempty"`
	Failed  string         `json:"failed,omitempty"`
	Seconds float64        `json:"seconds"`
	Verdict verdict        `json:"verdict"`
	Figures map[string]any `json:"figures,omitempty"`
}

// skipError says why a scenario cannot run here.
type skipError string

func (e skipError) Error() string { return string(e) }

func torture(ctx context.Context, out io.Writer, s settings) error {
	if err := os.MkdirAll(s.out, 0o750); err != nil {
		return err
	}
	r := report{Seed: s.seed, Short: s.short, Began: time.Now().UTC()}
	fmt.Fprintf(out, "seed %d\n", s.seed)
	failed := false
	for _, scenario := range scenarios() {
		if len(s.only) > 0 && !slices.ContainsFunc(s.only, func(name string) bool {
			return scenario.Name == name || strings.HasPrefix(scenario.Name, name+"-")
		}) {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		result := play(ctx, s, scenario)
		r.Scenarios = append(r.Scenarios, result)
		failed = failed || result.Failed != ""
		fmt.Fprintln(out, result)
	}
	if len(r.Scenarios) == 0 {
		return errors.New("there is no such scenario")
	}
	r.Seconds = time.Since(r.Began).Seconds()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.out, "torture.json"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	if failed {
		return fmt.Errorf("a promise was not kept; again with --seed %d", s.seed)
	}
	return nil
}

// longest is how long a scenario may take.
const longest = 20 * time.Minute

// play runs one scenario on a cluster of its own, and judges what is left.
func play(ctx context.Context, s settings, scenario Scenario) (r result) {
	r = result{Name: scenario.Name, Breaks: scenario.Breaks}
	began := time.Now()
	defer func() { r.Seconds = time.Since(began).Seconds() }()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	c, err := newCluster(s, scenario.Name)
	defer c.close()
	if err == nil {
		r.Figures, err = scenario.Run(ctx, c)
	}
	var delivered []invariant
	if err == nil {
		delivered, err = c.judge(ctx)
	}
	if err == nil {
		r.Verdict, err = c.check(ctx)
		r.Verdict.add(delivered)
	}
	if skip, ok := errors.AsType[skipError](err); ok {
		r.Skipped = string(skip)
	} else if err != nil {
		r.Failed = err.Error()
	} else {
		r.Failed = strings.Join(r.Verdict.Problems, "; ")
	}
	return r
}

// String is the line that people read.
func (r result) String() string {
	head := fmt.Sprintf("%-4s %6.1fs ", r.Name, r.Seconds)
	switch {
	case r.Skipped != "":
		return head + "skipped: " + r.Skipped
	case r.Failed != "":
		return head + "FAILED: " + r.Failed
	}
	figures, err := json.Marshal(r.Figures)
	if err != nil {
		panic(err) // numbers and strings always encode
	}
	v := r.Verdict
	var lines strings.Builder
	fmt.Fprintf(&lines, "%sok: %d acked, %d refused, %d lost, %d duplicated, %d unknown; %s",
		head, v.Acked, v.Refused, v.Lost, v.Duplicated, v.Unknown, figures)
	for _, i := range v.Invariants {
		fmt.Fprintf(&lines, "\n       %s  %s", i.Name, i.Numbers)
	}
	return lines.String()
}
