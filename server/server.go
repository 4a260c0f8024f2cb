package server

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/collector"
	"github.com/guidon-flags/guidon/server/flagd"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
)

// Config says what a server serves.
type Config struct {
	// Store is written to, and read for history. Required.
	Store *store.DB
	// Relay serves what needs no database: streams, evaluations and who is
	// connected. Store is then not needed, and Verify is.
	Relay bool
	// APIKeys is what a relay was told it knows its clients by, for the relays
	// that stream from it. Defaults to asking Store.
	APIKeys func() *guidonv1.APIKeys
	// Verify returns the key that a text is, or one of the store's ErrKey errors.
	// Defaults to asking Store.
	Verify func(ctx context.Context, text string) (store.Key, error)
	// Hub gives current state. Its Run is the caller's to call. Required.
	Hub *hub.Hub
	// Fleet knows who is connected. Its Run is the caller's to call. Defaults to
	// one that knows this replica's clients and tells nobody.
	Fleet *fleet.Fleet
	// Notary has the checkpoints that streams begin with. Its Run is the
	// caller's to call. Defaults to one that knows none.
	Notary *notary.Notary
	// Collector is what the metrics show of the collection of old revisions. Its
	// Run is the caller's to call. Defaults to one that never ran.
	Collector *collector.Collector
	// Certificate is shown to clients, who must then use TLS, except on open
	// listeners. Defaults to none.
	Certificate *Certificate
	// Admin answers paths under /admin/, which it sees whole. Defaults to 404.
	Admin http.Handler
	// Log gets a line for each call at level Debug, or Error where someone must
	// act, and one at Info for each change and each key made or revoked.
	// Defaults to discarding.
	Log *slog.Logger
	// Security gets a line for each call that was refused, because of its key or
	// because there were too many, and for each that was to change something and
	// failed; about 5 a second from one address and 50 in all, with a count of
	// those left out. Defaults to Log, with log=security.
	Security *slog.Logger
	// Version of the program, for metrics. Defaults to "devel".
	Version string
	// Heartbeat is how often a Sync stream carries something at the latest.
	// Defaults to 15s.
	Heartbeat time.Duration
	// Progress is how long one write to a Sync stream may take before the
	// client is cut off. Defaults to 10s.
	Progress time.Duration
	// Recheck is how often the key of an open stream is verified again.
	// Defaults to 2s, so that no stream outlives its key by 5s.
	Recheck time.Duration
	// MaxStreams bounds the streams that are open at a time, over all protocols;
	// further ones are sent elsewhere, and those that are open stay. What one
	// takes in memory `make bench-fanout` prints. Defaults to 20,000.
	MaxStreams int
	// StreamRate is how many streams may be opened a second. Those that come
	// faster are told when to come back. Defaults to 500.
	StreamRate int
	// Drain is the time over which the streams of a server that stops are told
	// to go elsewhere, so that they do not all come at once. Defaults to 10s.
	Drain time.Duration
	// DrainDelay is how long a server that stops goes on accepting calls at least,
	// while it says that it is not ready: who sends traffic to those that are ready
	// needs a while to see it. Defaults to 0: until its streams have left.
	DrainDelay time.Duration
	// KeyWait is how long a new propagation key is handed out at least before it
	// signs, and how long this server waits for instances to connect again after
	// it began to serve. Defaults to 30s.
	KeyWait time.Duration
	// KillRecord is how often it is noted how kills go, if there is news.
	// Defaults to 3s.
	KillRecord time.Duration
	// OpenEnvironment names an environment that calls without a key may use as
	// if they carried its server key. Only for a listener that nothing else
	// can reach. Defaults to none.
	OpenEnvironment string
	// Contexts are added to the evaluation contexts of OFREP's and flagd's
	// clients. Defaults to nothing.
	Contexts view.Contexts
	// ClientRate bounds the evaluations per second of each client key, single or
	// bulk, over all protocols; twice as many may come at once. Defaults to half
	// of MaxStreams, and to 1,000 at least: at a change each page that has a
	// stream open evaluates again, and one that is refused misses the change.
	ClientRate int
	// ServerRate bounds those of each other key likewise. Defaults to no bound:
	// who holds one is trusted.
	ServerRate int
	// AddressRate bounds, for each address that they come from, the evaluations
	// with client keys and the calls without a key that is good. Behind a proxy
	// all calls come from the proxy. Defaults to no bound.
	AddressRate int
	// Now is the clock of evaluations. Defaults to time.Now.
	Now func() time.Time
}

// Server answers Guidon's API. Its methods are safe for concurrent use.
type Server struct {
	cfg     Config
	store   *store.DB
	hub     *hub.Hub
	fleet   *fleet.Fleet
	auth    *auth.Authenticator
	log     *slog.Logger
	metrics *metrics
	handler http.Handler
	now     func() time.Time
	// draining ends when the server begins to stop.
	draining context.Context //nolint:containedctx // a signal to streams, not a scope of work
	drain    context.CancelFunc
	// open counts Sync streams, polls the calls that wait for news.
	open, polls atomic.Int64
	admission   *admission
	relayKeys   relayKeys
	rates       rates
	security    *securityLog
	verifying   chan struct{} // holds one for each verification under way
	detached    detached
}

// New returns a server. It starts nothing; see [Server.Serve].
func New(cfg Config) *Server {
	cfg.Version = cmp.Or(cfg.Version, "devel")
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 15*time.Second)
	cfg.Progress = cmp.Or(cfg.Progress, 10*time.Second)
	cfg.Recheck = cmp.Or(cfg.Recheck, 2*time.Second)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, 20_000)
	cfg.StreamRate = cmp.Or(cfg.StreamRate, 500)
	cfg.Drain = cmp.Or(cfg.Drain, 10*time.Second)
	cfg.ClientRate = cmp.Or(cfg.ClientRate, max(cfg.MaxStreams/burst, 1000))
	cfg.KeyWait = cmp.Or(cfg.KeyWait, 30*time.Second)
	cfg.KillRecord = cmp.Or(cfg.KillRecord, 3*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Security == nil {
		cfg.Security = cfg.Log.With(slog.String("log", "security"))
	}
	if cfg.Notary == nil {
		cfg.Notary = notary.New(notary.Config{Store: cfg.Store, Log: cfg.Log})
	}
	if cfg.Collector == nil {
		cfg.Collector = collector.New(collector.Config{})
	}
	if cfg.Fleet == nil {
		cfg.Fleet = fleet.New(fleet.Config{Now: cfg.Now})
	}
	var allKeys func(context.Context) ([]store.KeyHash, error)
	if cfg.Verify == nil {
		cfg.Verify = cfg.Store.KeyByText
		allKeys = func(ctx context.Context) ([]store.KeyHash, error) { return cfg.Store.KeyHashes(ctx, "") }
	}
	if cfg.Admin == nil {
		cfg.Admin = http.NotFoundHandler()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		verifying: make(chan struct{}, maxVerifying),
		cfg:       cfg, store: cfg.Store, hub: cfg.Hub, fleet: cfg.Fleet, log: cfg.Log, now: cfg.Now,
		auth:      auth.New(auth.Config{Verify: cfg.Verify, All: allKeys, Away: cfg.Hub.Away, OpenEnvironment: cfg.OpenEnvironment, Now: cfg.Now}),
		metrics:   newMetrics(cfg.Version, cfg.Store, held{cfg.Hub, cfg.Fleet, cfg.Collector, cfg.Notary}),
		admission: newAdmission(cfg.StreamRate, time.Now),
	}
	s.rates = rates{
		client:  newLimiter(cfg.ClientRate, cfg.Now, s.metrics.limited.WithLabelValues("client key").Inc),
		server:  newLimiter(cfg.ServerRate, cfg.Now, s.metrics.limited.WithLabelValues("server key").Inc),
		address: newLimiter(cfg.AddressRate, cfg.Now, s.metrics.limited.WithLabelValues("address").Inc),
	}
	s.security = newSecurityLog(cfg.Security.Handler(), func(ctx context.Context, err error) {
		s.log.LogAttrs(ctx, slog.LevelError, "cannot write the security log", slog.Any("error", err))
	}, cfg.Now, s.metrics)
	s.draining, s.drain = context.WithCancel(context.Background())
	s.handler = s.mux()
	return s
}

// ServeHTTP answers one request. It is for those who own an [http.Server].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// mux lays out everything that is reachable. What needs no key is here in
// full: liveness, readiness, metrics, grpc.health.v1 and the files of the UI.
func (s *Server) mux() http.Handler {
	mux, protection := http.NewServeMux(), http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(s.foreign))
	options := connect.WithHandlerOptions(
		connect.WithRequestGate(s.gate),
		connect.WithRecover(recovered),
		connect.WithInterceptors(interceptor{}),
		connect.WithCodec(binaryCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithConditionalHandlerOptions(procedureOptions),
	)
	mounted := map[string]bool{}
	service := func(path string, h http.Handler) {
		mounted[strings.Trim(path, "/")] = true
		mux.Handle(path, s.observe(limit(h)))
	}
	service(guidonv1connect.NewEvaluationServiceHandler(evaluations{s}, options))
	service(guidonv1connect.NewFleetServiceHandler(fleets{s}, options))
	service(guidonv1connect.NewSyncServiceHandler(syncs{s}, options))
	if !s.cfg.Relay {
		service(guidonv1connect.NewAuditServiceHandler(audits{s}, options))
		service(guidonv1connect.NewChangeServiceHandler(changes{s}, options))
		service(guidonv1connect.NewEnvironmentServiceHandler(environments{s}, options))
		service(guidonv1connect.NewFlagServiceHandler(flags{s}, options))
		service(guidonv1connect.NewHeaderServiceHandler(headers{s}, options))
		service(guidonv1connect.NewKeyServiceHandler(keys{s}, options))
		service(guidonv1connect.NewOverrideServiceHandler(overrides{s}, options))
		service(guidonv1connect.NewProjectServiceHandler(projects{s}, options))
		service(guidonv1connect.NewRevisionServiceHandler(revisions{s}, options))
		service(guidonv1connect.NewSegmentServiceHandler(segments{s}, options))
	}

	mux.Handle("POST "+auth.State, s.observe(http.HandlerFunc(s.state)))
	mux.Handle("GET /guidon/v1/environments/{environment}/revisions/{revision}", s.observe(http.HandlerFunc(s.revision)))
	for path, h := range s.flagdService(options).Routes() {
		service(path, h)
		mux.HandleFunc("OPTIONS "+path, preflight)
		protection.AddInsecureBypassPattern(path) // see preflight
	}
	for pattern, h := range s.ofrepHandler().Routes() {
		mux.Handle(pattern, s.observe(h))
	}
	mux.HandleFunc("OPTIONS /ofrep/v1/", preflight)
	protection.AddInsecureBypassPattern("/ofrep/v1/")

	mux.Handle(grpchealth.NewHandler(health{s, mounted}, connect.WithReadMaxBytes(maxBody)))
	mux.HandleFunc("GET /healthz", live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.Handle("/admin/", s.cfg.Admin)
	mux.Handle("GET /{$}", http.RedirectHandler("/admin/", http.StatusFound))
	return timed(flagd.Renamed(narrowed(protection.Handler(mux))))
}
