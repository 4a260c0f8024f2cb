package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/guidon-flags/guidon/migrations"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
)

const (
	// importEnvironment is where dev puts the flags of --import.
	importEnvironment = "development"
	// startTimeout bounds the time from an open database to a server that has
	// read it.
	startTimeout = 15 * time.Second
	// devDrain is how long Ctrl-C may take because of open streams: there is
	// no crowd of services that must not come back all at once.
	devDrain = 200 * time.Millisecond
)

func newDevCommand() *cobra.Command {
	var d dev
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: a Postgres of its own, the server, flags and keys",
		Long: "Run everything on this machine: a Postgres of its own in --data, which PostgreSQL's installed\n" +
			"binaries run and which nothing else can reach; the schema; a master key and API keys, made\n" +
			"once; the server; and the flags of --import. It prints the URLs and the keys when all is\n" +
			"ready. A second start, after Ctrl-C or after kill -9, carries on where the first ended.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.in, d.out = cmd.InOrStdin(), cmd.OutOrStdout()
			return d.run(cmd.Context(), d.logger(cmd.ErrOrStderr()))
		},
	}
	d.register(cmd.Flags(), slog.LevelWarn)
	cmd.Flags().Lookup("database-url").Usage = "use this Postgres instead of one in --data"
	cmd.Flags().Lookup("master-key-file").Usage = "use this master key instead of one in --data"
	cmd.Flags().StringVar(&d.data, "data", "", "directory that keeps everything between runs (required)")
	cmd.Flags().StringArrayVar(&d.imports, "import", nil,
		"flagd document whose flags go into "+importEnvironment+" unless they are there; may be repeated")
	d.clients.standard = true
	cmd.Flags().Lookup("flagd-ports").Usage = "where flagd's clients find " + importEnvironment + ` without a key, or "none" (default $GUIDON_FLAGD_PORTS, then ` + flagdPorts + ")"
	cmd.Flags().StringVar(&d.readyFile, "ready-file", "", "write URLs and keys here, as JSON, when all is ready")
	if err := cmd.MarkFlagRequired("data"); err != nil {
		panic(err) // it was defined just above
	}
	return cmd
}

// dev is one run of guidon dev.
type dev struct {
	serveFlags
	data      string
	imports   []string
	readyFile string
	in        io.Reader
	out       io.Writer
}

func (d *dev) run(ctx context.Context, log *slog.Logger) (err error) {
	dir, err := openDataDir(d.data)
	if err != nil {
		return err
	}
	defer dir.close()
	if err := removeReady(d.readyFile); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeReady(d.readyFile)) }()
	// The likeliest failures come before Postgres: a document that does not
	// parse, an address that is taken.
	sets, err := d.readImports()
	if err != nil {
		return err
	}
	listener, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // the server has closed it, if it ran
	var asked server.Config
	if err := d.clients.configure(&asked, listener.Addr()); err != nil {
		return err
	}
	open, err := d.clients.listen(ctx, cmp.Or(d.clients.openEnvironment, importEnvironment), log)
	if err != nil {
		return err
	}
	defer func() {
		for _, o := range open {
			_ = o.Close()
		}
	}()

	// The shell's GUIDON_DATABASE_URL is not looked at: it may be another
	// installation's, which dev must not migrate or fill.
	url := d.databaseURL
	var postgres *embedded.Server
	if url == "" {
		postgres, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(dir.path, "postgres"), Log: log})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, postgres.Stop()) }()
		url = postgres.DatabaseURL()
	}
	db, keys, err := d.prepare(ctx, url, dir, log)
	if err != nil {
		return err
	}
	defer db.Close()

	config := serverConfig(db, log)
	config.Drain = devDrain
	config.OpenEnvironment, config.Contexts = asked.OpenEnvironment, asked.Contexts
	config.ClientRate, config.ServerRate, config.AddressRate = asked.ClientRate, asked.ServerRate, asked.AddressRate
	return serve(ctx, listener, open, config, func(ctx context.Context) error {
		r := ready{URL: localURL(listener.Addr()), DatabaseURL: url, Keys: keys, given: d.databaseURL != ""}
		r.AdminURL = r.URL + "/admin/"
		for _, o := range open {
			r.Flagd = append(r.Flagd, o.Addr().String())
		}
		if err := fill(ctx, newAPI(r.URL, keys.admin, time.Minute), config.Hub, sets); err != nil {
			return err
		}
		if d.readyFile != "" {
			if err := r.write(d.readyFile); err != nil {
				return err
			}
		}
		if err := r.print(d.out, dir.path); err != nil {
			return err
		}
		return untilStopped(ctx, postgres)
	})
}

// readImports reads the documents of --import.
func (d *dev) readImports() ([]*importSet, error) {
	var sets []*importSet
	for _, file := range d.imports {
		set, err := readImportSet(file, d.in, target{
			environment: importEnvironment, reason: "dev --import " + filepath.Base(file), createOnly: true,
		})
		if err != nil {
			return nil, fmt.Errorf("--import %w", err)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// prepare brings the database to this build's schema and makes sure of keys.
func (d *dev) prepare(ctx context.Context, url string, dir *dataDir, log *slog.Logger) (_ *store.DB, keys apiKeys, err error) {
	if err := migrations.Up(ctx, url); err != nil {
		return nil, keys, err
	}
	// As with the database, the shell's master key may be another installation's.
	var master store.MasterKey
	if d.masterKeyFile != "" {
		master, err = d.masterKey()
	} else {
		master, err = dir.masterKey()
	}
	if err != nil {
		return nil, keys, err
	}
	db, err := openSealed(ctx, store.Config{DatabaseURL: url, MasterKey: master, Log: log})
	if err != nil {
		return nil, keys, err
	}
	if keys, err = dir.apiKeys(ctx, db); err == nil && d.clients.openEnvironment != "" && keys.servers[d.clients.openEnvironment] == "" {
		err = usagef("--open-environment %q: there is no such environment", d.clients.openEnvironment)
	}
	if err != nil {
		db.Close()
		return nil, keys, err
	}
	return db, keys, nil
}

// fillGCPercent is how much garbage an import may leave beside what is in use.
const fillGCPercent = 25

// fill waits until the server has read the database, imports what documents
// have and the environment has not, and waits until the server has seen that.
func fill(ctx context.Context, api *api, h *hub.Hub, sets []*importSet) error {
	// An import makes more garbage at once than all that follows. Without this the
	// process would be as large as that takes, and it is in no hurry yet.
	defer debug.SetGCPercent(debug.SetGCPercent(fillGCPercent))
	if err := awaitReady(ctx, h); err != nil {
		return err
	}
	for _, set := range sets {
		res, err := set.apply(ctx, api, false, false)
		if err != nil {
			return fmt.Errorf("--import %s: %w", set.file, err)
		}
		for name, revision := range res.GetRevisions() {
			environment, err := h.Environment(name)
			if err != nil {
				return err
			}
			if err := environment.Await(ctx, revision); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitReady waits until every environment has been read once.
func awaitReady(ctx context.Context, h *hub.Hub) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := h.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// untilStopped waits for the end of ctx, or of Postgres, which is an error.
func untilStopped(ctx context.Context, postgres *embedded.Server) error {
	if postgres == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-postgres.Done():
		return errors.New("the embedded Postgres ended by itself")
	}
}
