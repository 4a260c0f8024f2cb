package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/admin"
	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/collector"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
)

const defaultListen = "127.0.0.1:8080"

func newServeCommand() *cobra.Command {
	var f serveFlags
	var replicated bool
	var heartbeat time.Duration
	var secure tlsFlags
	var published checkpointFlags
	var refused securityFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve flags from a Postgres whose schema is up to date",
		Long: "Serve flags from a Postgres whose schema is up to date; see 'guidon migrate up'. The keys\n" +
			"that the database holds are sealed with the master key: 32 random bytes in hex or base64\n" +
			"in GUIDON_MASTER_KEY, or in the file that GUIDON_MASTER_KEY_FILE or --master-key-file names.\n" +
			"SIGTERM and SIGINT let calls finish and end streams, then stop.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := f.logger(cmd.ErrOrStderr())
			if heartbeat < 100*time.Millisecond || heartbeat > time.Minute {
				return usagef("--heartbeat %v: want 100ms to 1m", heartbeat)
			}
			certificate, err := secure.open(log)
			if err != nil {
				return err
			}
			publish, err := published.destinations()
			if err != nil {
				return err
			}
			security, err := refused.open(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			url, err := requireDatabase(f.databaseURL)
			if err != nil {
				return err
			}
			key, err := f.masterKey()
			if err != nil {
				return err
			}
			db, err := openSealed(cmd.Context(), store.Config{DatabaseURL: url, MasterKey: key, Log: log, RequireSyncReplication: replicated})
			if err != nil {
				return err
			}
			defer db.Close()
			listener, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			if err := f.clients.known(cmd.Context(), db); err != nil {
				return errors.Join(err, listener.Close())
			}
			config := serverConfig(db, log)
			config.Notary = notary.New(notary.Config{Store: db, Log: log, Publish: publish})
			config.Security = security
			config.Certificate = certificate
			config.Heartbeat = heartbeat
			if err := f.clients.configure(&config, listener.Addr()); err != nil {
				return errors.Join(err, listener.Close())
			}
			open, err := f.clients.listen(cmd.Context(), f.clients.openEnvironment, log)
			if err != nil {
				return errors.Join(err, listener.Close())
			}
			log.LogAttrs(cmd.Context(), slog.LevelInfo, "serving", slog.String("url", secure.url(listener.Addr())))
			return serve(cmd.Context(), listener, open, config, nil)
		},
	}
	f.register(cmd.Flags(), slog.LevelInfo)
	secure.register(cmd.Flags())
	published.register(cmd.Flags())
	refused.register(cmd.Flags())
	cmd.Flags().DurationVar(&heartbeat, "heartbeat", 15*time.Second,
		"how often a stream carries something at the latest; clients take one for dead after three times that")
	cmd.Flags().BoolVar(&replicated, "require-sync-replication", false,
		"refuse to start, and to make changes, while Postgres does not wait for a standby at each commit")
	return cmd
}

// serveFlags are the flags of serve, all of which dev accepts too.
type serveFlags struct {
	listen        string
	databaseURL   string
	masterKeyFile string
	logLevel      slog.Level
	clients       clientFlags
}

func (f *serveFlags) register(flags *pflag.FlagSet, level slog.Level) {
	f.registerOfRelay(flags, level)
	flags.StringVar(&f.databaseURL, "database-url", "", "Postgres (default $GUIDON_DATABASE_URL)")
	flags.StringVar(&f.masterKeyFile, "master-key-file", "", "file with the master key (default $GUIDON_MASTER_KEY_FILE)")
}

// registerOfRelay registers those of a server without a database.
func (f *serveFlags) registerOfRelay(flags *pflag.FlagSet, level slog.Level) {
	flags.StringVar(&f.listen, "listen", "", "address to listen on (default $GUIDON_LISTEN, then "+defaultListen+")")
	flags.TextVar(&f.logLevel, "log-level", level, "least severe lines to log: debug, info, warn or error")
	f.clients.register(flags)
}

func (f *serveFlags) logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: f.logLevel}))
}

// masterKey reads the master key from where the flag or the environment says.
func (f *serveFlags) masterKey() (store.MasterKey, error) {
	file := f.masterKeyFile
	text := os.Getenv("GUIDON_MASTER_KEY")
	if file == "" && text == "" {
		file = os.Getenv("GUIDON_MASTER_KEY_FILE")
	}
	source := "GUIDON_MASTER_KEY"
	switch {
	case file != "":
		source = file
		raw, err := os.ReadFile(file) //nolint:gosec // whoever starts the server may read what it can
		if err != nil {
			return store.MasterKey{}, fmt.Errorf("master key: %w", err)
		}
		text = string(raw)
	case text == "":
		return store.MasterKey{}, errors.New("no master key: set GUIDON_MASTER_KEY to 32 random bytes in hex or base64 " +
			"(openssl rand -hex 32), or GUIDON_MASTER_KEY_FILE to a file with them, and keep them: " +
			"what is sealed with one key cannot be opened with another")
	}
	return parseMasterKey(source, text)
}

func parseMasterKey(source, text string) (store.MasterKey, error) {
	key, err := store.ParseMasterKey(text)
	if err != nil {
		return key, fmt.Errorf("%s: this is no master key: want 32 random bytes in hex or base64", source)
	}
	return key, nil
}

func (f *serveFlags) open(ctx context.Context) (net.Listener, error) {
	return listen(ctx, cmp.Or(f.listen, os.Getenv("GUIDON_LISTEN"), defaultListen))
}

// openCurrent opens a database whose schema this build knows, and refuses
// another one.
func openCurrent(ctx context.Context, c store.Config) (*store.DB, error) {
	schema, err := migrations.Status(ctx, c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(); err != nil {
		return nil, err
	}
	return store.Open(ctx, c)
}

// openSealed is openCurrent, with the master key that sealed what the database
// holds: a server with another one would serve flags, and nobody would notice
// that no header is signed or believed.
func openSealed(ctx context.Context, c store.Config) (*store.DB, error) {
	db, err := openCurrent(ctx, c)
	if err != nil {
		return nil, err
	}
	environments, err := db.Environments(ctx)
	for _, e := range environments {
		if _, _, err = db.PropagationKeys(ctx, e.Name); err != nil {
			break
		}
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

func serverConfig(db *store.DB, log *slog.Logger) server.Config {
	return server.Config{
		Store:     db,
		Hub:       hub.New(hub.Config{Store: db, Log: log}),
		Fleet:     fleet.New(fleet.Config{Store: db, Log: log}),
		Notary:    notary.New(notary.Config{Store: db, Log: log}),
		Collector: collector.New(collector.Config{Store: db, Log: log}),
		Admin:     admin.Handler(),
		Log:       log,
		Version:   currentBuild().Version,
	}
}

// serve answers calls on its listeners until ctx ends, then lets them finish. It
// runs beside, if given, once the listener is open; what fails there ends the
// server.
func serve(ctx context.Context, listener net.Listener, open []server.Open, c server.Config, beside func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	// What calls need goes on until the last of them was answered.
	served, end := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return c.Hub.Run(served) })
	group.Go(func() error { return c.Fleet.Run(served) })
	group.Go(func() error { return c.Notary.Run(served) })
	group.Go(func() error { return c.Store.WatchReplication(served) })
	group.Go(func() error { return c.Collector.Run(ctx) })
	group.Go(func() error {
		defer end()
		return server.New(c).Serve(ctx, listener, open...)
	})
	if beside != nil {
		group.Go(func() error { return beside(ctx) })
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
