package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
)

// Exit codes: 0 ok, 1 failed, 2 not understood.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Stdout, os.Stderr, os.Args[1:]...)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, out, logs io.Writer, args ...string) int {
	understood := false
	cmd := meshCommand(&understood) //nolint:contextcheck // cobra hands commands their context when they run
	cmd.SetOut(out)
	cmd.SetErr(logs)
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(logs, "mesh:", err)
		if !understood {
			return 2
		}
		return 1
	}
	return 0
}

func meshCommand(understood *bool) *cobra.Command {
	config := Config{
		Seed: uint64(time.Now().UnixNano()) % 1_000_000, Evaluations: 10_000_000, Control: 500_000, Rate: 100, Lag: 2 * time.Second,
		Instances: 2, Concurrency: 24, Chaos: 500 * time.Millisecond,
		KillEvery: 500 * time.Millisecond, RotateEvery: 2 * time.Second,
	}
	var data, report string
	cmd := &cobra.Command{
		Use:   "mesh --data DIR",
		Short: "Put services that speak every transport under fire, and see whether a request ever disagrees with itself",
		Args:  cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.validate(); err != nil {
				return err
			}
			*understood = true
			got, err := config.runIn(cmd.Context(), data, cmd.ErrOrStderr())
			if err := errors.Join(err, got.Write(cmd.OutOrStdout())); err != nil {
				return err
			}
			if report != "" {
				if err := errors.Join(os.MkdirAll(filepath.Dir(report), 0o750), got.Save(report)); err != nil {
					return err
				}
			}
			return got.verdict()
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "directory for a Postgres of the mesh's own; it is made, and may be removed afterwards")
	f.StringVar(&report, "report", "", "write the report as this file with .txt and .json")
	f.Uint64Var(&config.Seed, "seed", config.Seed, "what the randomness follows from")
	f.IntVar(&config.Evaluations, "evaluations", config.Evaluations, "evaluations to compare with the pin, at least")
	f.IntVar(&config.Control, "control", config.Control, "evaluations in each of the controls, at least")
	f.IntVar(&config.Rate, "rate", config.Rate, "changes a second, 1 to 1000")
	f.DurationVar(&config.Lag, "lag", config.Lag, "how late the latest stream is")
	f.IntVar(&config.Instances, "instances", config.Instances, "instances of each service")
	f.IntVar(&config.Concurrency, "concurrency", config.Concurrency, "requests under way at the same time")
	f.DurationVar(&config.Chaos, "chaos", config.Chaos, "time between two restarts, and between two partitions")
	f.DurationVar(&config.KillEvery, "kill-every", config.KillEvery, "time between two kills; 0 for none")
	f.DurationVar(&config.RotateEvery, "rotate-every", config.RotateEvery, "how often to ask for a new propagation key, once the last one signs; 0 for never")
	if err := cmd.MarkFlagRequired("data"); err != nil {
		panic(err) // the flag is not defined: a mistake in this file
	}
	return cmd
}

func (c Config) validate() error {
	switch {
	case c.Evaluations < 1 || c.Control < 1:
		return errors.New("--evaluations and --control must be 1 or more")
	case c.Rate < 1 || c.Rate > 1000:
		return fmt.Errorf("--rate %d: must be 1 to 1000", c.Rate)
	case c.Lag < 0:
		return fmt.Errorf("--lag %v: must not be negative", c.Lag)
	case c.Instances < 1 || c.Instances > 16:
		return fmt.Errorf("--instances %d: must be 1 to 16", c.Instances)
	case c.Concurrency < 1 || c.Concurrency > 1024:
		return fmt.Errorf("--concurrency %d: must be 1 to 1024", c.Concurrency)
	case c.KillEvery < 0 || c.KillEvery > 0 && c.KillEvery < 10*time.Millisecond:
		return fmt.Errorf("--kill-every %v: must be 0, or 10ms or more", c.KillEvery)
	case c.RotateEvery < 0:
		return fmt.Errorf("--rotate-every %v: must not be negative", c.RotateEvery)
	case c.Chaos < 10*time.Millisecond:
		return fmt.Errorf("--chaos %v: must be 10ms or more", c.Chaos)
	}
	return nil
}

// runIn runs on a Postgres of its own.
func (c Config) runIn(ctx context.Context, dir string, logs io.Writer) (_ Report, err error) {
	postgres, err := embedded.Start(ctx, embedded.Config{Dir: dir, NoSync: true})
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, postgres.Stop()) }()
	if err := migrations.Up(ctx, postgres.DatabaseURL()); err != nil {
		return Report{}, err
	}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelError}))
	db, err := store.Open(ctx, store.Config{DatabaseURL: postgres.DatabaseURL(), MasterKey: store.NewMasterKey([32]byte{1})})
	if err != nil {
		return Report{}, err
	}
	defer db.Close()
	g, err := startGuidon(ctx, db, log, nil)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	return c.run(ctx, g)
}

// run runs all modes against a server.
func (c Config) run(ctx context.Context, g *guidonServer) (Report, error) {
	report := Report{Seed: c.Seed}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: togglers}}
	defer client.CloseIdleConnections()
	changes := newToggler(client, g, c.Seed)
	if err := changes.Start(ctx); err != nil {
		return report, err
	}
	for _, what := range []mode{pinned, off, once, decisions} {
		m, err := Open(ctx, c, g)
		if err != nil {
			return report, err
		}
		evaluations := c.Control
		if what == pinned {
			evaluations = c.Evaluations
		}
		result, err := m.Run(ctx, what, evaluations, changes)
		report.Results = append(report.Results, result)
		if err != nil {
			return report, fmt.Errorf("mode %s: %w", what, err)
		}
	}
	return report, nil
}
