package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
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
	root := shopCommand() //nolint:contextcheck // cobra hands commands their context when they run
	root.SetOut(out)
	root.SetErr(logs)
	root.AddCommand(stormCommand()) //nolint:contextcheck // see above
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		err := cmd.ValidateRequiredFlags() // cobra itself looks later
		understood = err == nil
		return err
	}
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(logs, "demo:", err)
		if !understood {
			return 2
		}
		return 1
	}
	return 0
}

func shopCommand() *cobra.Command {
	config := Config{Propagation: on}
	var readyFile string
	cmd := &cobra.Command{
		Use:   "demo --guidon URL --key KEY",
		Short: "A small shop of five services in which every request sees one flag state",
		Args:  cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return open(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), config, readyFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.Guidon, "guidon", "", "URL of Guidon")
	f.StringVar(&config.Key, "key", "", "server key of one environment")
	f.StringVar(&config.Listen, "listen", "127.0.0.1:8090", "address of web; the other four services take free ports")
	f.DurationVar(&config.Lag, "lag", 0, "delay the streams, so that services learn of a change up to this much later than each other")
	f.Var(&config.Propagation, "propagation", "whether the guidon header travels; POST /propagation switches it later")
	f.StringVar(&readyFile, "ready-file", "", "write the URLs here, as JSON, when the shop is open")
	required(cmd, "guidon", "key")
	return cmd
}

func stormCommand() *cobra.Command {
	var config Storm
	cmd := &cobra.Command{
		Use:   "storm --shop URL --guidon URL --key KEY",
		Short: "Load a running shop while flipping a flag, with propagation and without, and compare",
		Long: "Loads a running shop while flipping " + flipped + " through Guidon's API, with\n" +
			"propagation and then without. Fails if a request was torn with it, or none was\n" +
			"without it: then the comparison proves nothing.",
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return config.Run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&config.Shop, "shop", "", "URL of the shop")
	f.StringVar(&config.Guidon, "guidon", "", "URL of Guidon")
	f.StringVar(&config.Key, "key", "", "admin key: the storm changes a flag")
	f.StringVar(&config.Environment, "environment", "development", "environment that the shop's key belongs to")
	f.IntVar(&config.Requests, "requests", 300, "requests in each mode")
	f.IntVar(&config.Concurrency, "concurrency", 8, "requests at the same time")
	f.DurationVar(&config.FlipEvery, "flip-every", defaultFlipEvery, "time between two flips")
	required(cmd, "shop", "guidon", "key")
	return cmd
}

func required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is not defined: a mistake in this file
		}
	}
}
