package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub/view"
	"github.com/guidon-flags/guidon/store"
)

// flagdPorts are where flagd's clients look: evaluation, sync, OFREP.
const flagdPorts = "8013,8015,8016"

// clientFlags are the flags about clients of OFREP and of flagd's protocols, and
// about how all clients are sent away at the end.
type clientFlags struct {
	openEnvironment string
	// openAnywhere lets others than this machine use it.
	openAnywhere bool
	ports        string
	static       map[string]string
	fromHeader   map[string]string
	clientRate   int
	serverRate   int
	addressRate  int
	drainDelay   time.Duration
	// standard opens flagdPorts if nobody says otherwise.
	standard bool
}

func (f *clientFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.openEnvironment, "open-environment", "",
		"answer calls without a key as if they had this environment's server key; on a loopback address only, or with --open-anywhere")
	flags.BoolVar(&f.openAnywhere, "open-anywhere", false,
		"let --open-environment answer on any address: whoever reaches it reads the environment's flags, for a network that nobody else is in")
	flags.StringVar(&f.ports, "flagd-ports", "",
		"further ports on loopback for flagd's clients, as in "+flagdPorts+`; without a key they get --open-environment (default $GUIDON_FLAGD_PORTS, then "none")`)
	flags.StringToStringVar(&f.static, "static-context", nil, "attribute=value for every evaluation over OFREP and flagd's protocols; may be repeated")
	flags.StringToStringVar(&f.fromHeader, "context-from-header", nil, "Header=attribute for them, above --static-context; may be repeated")
	flags.IntVar(&f.clientRate, "client-rate", 0, "evaluations per second for each client key (default 10000)")
	flags.IntVar(&f.serverRate, "server-rate", 0, "evaluations per second for each other key (default without bound)")
	flags.DurationVar(&f.drainDelay, "drain-delay", 0,
		"how long to go on answering at least after SIGTERM, not ready, for balancers to see it")
	flags.IntVar(&f.addressRate, "address-rate", 0,
		"evaluations per second with client keys, and calls without a good key, from each address; a proxy has one for all (default without bound)")
}

// configure says to a server what was asked for. It listens on an address that
// others must not reach if it is open.
func (f *clientFlags) configure(c *server.Config, addr net.Addr) error {
	if f.openEnvironment != "" && !f.openAnywhere && !isLoopback(addr) {
		return fmt.Errorf("--open-environment needs a loopback address to listen on, not %s, or --open-anywhere", addr)
	}
	for name, rate := range map[string]int{"client": f.clientRate, "server": f.serverRate, "address": f.addressRate} {
		if rate < 0 {
			return usagef("--%s-rate %d: want more than 0", name, rate)
		}
	}
	if f.drainDelay < 0 || f.drainDelay > time.Hour {
		return usagef("--drain-delay %v: want 0s to 1h", f.drainDelay)
	}
	c.DrainDelay = f.drainDelay
	c.OpenEnvironment, c.ClientRate, c.ServerRate, c.AddressRate = f.openEnvironment, f.clientRate, f.serverRate, f.addressRate
	contexts, err := view.NewContexts(f.static, f.fromHeader)
	if err != nil {
		return usagef("%v", err)
	}
	c.Contexts = contexts
	return nil
}

// known refuses an open environment that there is none of: all calls without a
// key would fail.
func (f *clientFlags) known(ctx context.Context, db *store.DB) error {
	if f.openEnvironment == "" {
		return nil
	}
	environments, err := db.Environments(ctx)
	if err != nil {
		return err
	}
	for _, e := range environments {
		if e.Name == f.openEnvironment {
			return nil
		}
	}
	return usagef("--open-environment %q: there is no such environment", f.openEnvironment)
}

// listen opens the ports for flagd's clients, on loopback, for an environment
// that needs no key there. One that is taken is passed over: it may be flagd's.
func (f *clientFlags) listen(ctx context.Context, environment string, log *slog.Logger) ([]server.Open, error) {
	text := cmp.Or(f.ports, os.Getenv("GUIDON_FLAGD_PORTS"))
	if text == "" && f.standard {
		text = flagdPorts
	}
	if text == "" || text == "none" {
		return nil, nil
	}
	var open []server.Open
	closeAll := func() {
		for _, o := range open {
			_ = o.Close()
		}
	}
	for port := range strings.SplitSeq(text, ",") {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			closeAll()
			return nil, usagef("--flagd-ports %q: want ports with commas between, as in %s, or none", text, flagdPorts)
		}
		l, err := listen(ctx, net.JoinHostPort("127.0.0.1", port))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			log.LogAttrs(ctx, slog.LevelWarn, "a port for flagd's clients is taken and left out", slog.String("port", port))
			continue
		case err != nil:
			closeAll()
			return nil, err
		}
		log.LogAttrs(ctx, slog.LevelInfo, "serving flagd's clients", slog.String("address", l.Addr().String()), slog.String("environment", environment))
		open = append(open, server.Open{Listener: l, Environment: environment})
	}
	return open, nil
}
