package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
)

func newRelayCommand() *cobra.Command {
	var f serveFlags
	var secure tlsFlags
	var refused securityFlags
	var upstream, key, cache string
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Serve the flags of one environment from another server, without a database",
		Long: "Serve the flags of one environment from another server or relay, without a database. Clients\n" +
			"come with the keys that they would show the upstream. While the upstream is lost, the relay\n" +
			"serves what it has; with --cache also after a restart. The cache holds the environment's\n" +
			"propagation keys and the hashes of its API keys.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := f.logger(cmd.ErrOrStderr())
			url, key := cmp.Or(upstream, os.Getenv("GUIDON_UPSTREAM")), cmp.Or(key, os.Getenv("GUIDON_KEY"))
			switch {
			case !isURL(url):
				return usagef("--upstream %q: want http://HOST:PORT or https://HOST", url)
			case !isRelayKey(key):
				return usagef("--key: want a relay key; see 'guidon key create --kind relay'")
			}
			certificate, err := secure.open(log)
			if err != nil {
				return err
			}
			security, err := refused.open(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			listener, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			log.LogAttrs(cmd.Context(), slog.LevelInfo, "relaying",
				slog.String("url", secure.url(listener.Addr())), slog.String("upstream", url))
			up := relay.New(relay.Config{URL: url, Key: key, Cache: cache, Version: currentBuild().Version, Log: log})
			config := server.Config{
				Relay: true, Verify: up.Verify, APIKeys: up.APIKeys, Log: log, Security: security, Version: currentBuild().Version, Certificate: certificate,
				Hub:   hub.New(hub.Config{Upstream: up, Log: log}),
				Fleet: fleet.New(fleet.Config{Log: log}),
			}
			if err := f.clients.configure(&config, listener.Addr()); err != nil {
				return errors.Join(err, listener.Close())
			}
			open, err := f.clients.listen(cmd.Context(), f.clients.openEnvironment, log)
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			group, ctx := errgroup.WithContext(cmd.Context())
			// What calls need goes on until the last of them was answered.
			served, end := context.WithCancel(context.WithoutCancel(ctx))
			group.Go(func() error { return up.Run(served) })
			group.Go(func() error { return up.Tell(served, config.Fleet) })
			group.Go(func() error { return config.Hub.Run(served) })
			group.Go(func() error {
				defer end()
				return server.New(config).Serve(ctx, listener, open...)
			})
			if name := f.clients.openEnvironment; name != "" {
				group.Go(func() error { warnUnlessRelayed(ctx, config.Hub, name, log); return nil })
			}
			if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	secure.register(cmd.Flags())
	refused.register(cmd.Flags())
	cmd.Flags().StringVar(&upstream, "upstream", "", "URL of the server or relay to follow (default $GUIDON_UPSTREAM)")
	cmd.Flags().StringVar(&key, "key", "", "relay key, which says of which environment (default $GUIDON_KEY)")
	cmd.Flags().StringVar(&cache, "cache", "", "directory in which to keep what is held, for a restart while the upstream is lost")
	f.registerOfRelay(cmd.Flags(), slog.LevelInfo)
	return cmd
}

// warnUnlessRelayed logs if the environment that is open without a key is not the
// one that is relayed, once that is known.
func warnUnlessRelayed(ctx context.Context, h *hub.Hub, name string, log *slog.Logger) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for e := range h.Environments() {
			if e.Name() != name {
				log.LogAttrs(ctx, slog.LevelWarn, "--open-environment is not the environment that is relayed: calls without a key fail",
					slog.String("open_environment", name), slog.String("environment", e.Name()))
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func isRelayKey(text string) bool {
	_, kind, err := store.ParseKey(text)
	return err == nil && kind == store.KeyRelay
}
