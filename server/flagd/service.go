package flagd

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// Caller is who makes a call.
type Caller struct {
	Environment *hub.Environment
	// ClientOnly says that the caller sees client-visible flags only.
	ClientOnly bool
	// Projects are those that the caller sees.
	Projects hub.Projects
	// Propagates says that any request of the caller may have a pin.
	Propagates bool
}

// Config says what the services work with.
type Config struct {
	// Caller says who makes the call that a context belongs to. Required.
	Caller func(context.Context) (Caller, error)
	// Hold has the key of the call that a context belongs to verified again and
	// again, once for all streams that go on with it. Required.
	Hold func(context.Context) *auth.Hold
	// Enter counts a stream of an environment until what it returns is called,
	// and refuses one too many. Required.
	Enter func(ctx context.Context, environment string) (leave func(), err error)
	// Control sets the deadlines of the connection that a call came on.
	// Required.
	Control func(context.Context) *http.ResponseController
	// Leave ends a stream of a server that stops, at a moment of its own: it
	// waits, and returns what the stream ends with. Required.
	Leave func(context.Context) error
	// Options are those of all handlers: authentication, limits, errors.
	Options []connect.HandlerOption
	// Draining ends when the server begins to stop. Defaults to never.
	Draining context.Context //nolint:containedctx // a signal to streams, not a scope of work
	// Contexts are added to those of requests. Defaults to nothing.
	Contexts view.Contexts
	// KeepAlive is how often an event stream carries something at the latest.
	// Defaults to 20s, as flagd's.
	KeepAlive time.Duration
	// Progress is how long one write to a stream may take. Defaults to 10s.
	Progress time.Duration
	// Log gets a line when a document is nearly larger than providers take.
	// Defaults to discarding.
	Log *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Service answers flagd's protocols. It is safe for concurrent use.
type Service struct {
	cfg Config
	// documents are those of flagd.sync.v1, of newest revisions.
	mu        sync.Mutex
	documents map[documentKey]*document
}

// New returns a service. It starts nothing.
func New(cfg Config) *Service {
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, 20*time.Second)
	cfg.Progress = cmp.Or(cfg.Progress, 10*time.Second)
	if cfg.Draining == nil {
		cfg.Draining = context.Background()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, documents: map[documentKey]*document{}}
}

// Routes yields the handlers by the path below which they answer.
func (s *Service) Routes() map[string]http.Handler {
	options := slices.Concat(s.cfg.Options, []connect.HandlerOption{
		connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	})
	routes := map[string]http.Handler{}
	add := func(path string, h http.Handler) { routes[path] = h }
	add(evaluationv1connect.NewServiceHandler(v1{s}, options...))
	add(evaluationv2connect.NewServiceHandler(v2{s}, options...))
	add(syncv1connect.NewFlagSyncServiceHandler(syncs{s}, options...))
	return routes
}

// Renamed makes calls of the service that flagd had before v1 calls of v1,
// which has the same messages. It wraps all else that looks at paths.
func Renamed(next http.Handler) http.Handler {
	const former = "/schema.v1.Service/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if method, ok := strings.CutPrefix(r.URL.Path, former); ok {
			u := *r.URL
			u.Path, u.RawPath = "/"+evaluationv1connect.ServiceName+"/"+method, ""
			r = r.WithContext(r.Context())
			r.URL = &u
		}
		next.ServeHTTP(w, r)
	})
}
