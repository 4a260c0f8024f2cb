package ofrep

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// The paths of OFREP, as patterns of [http.ServeMux].
const (
	singlePattern = "POST /ofrep/v1/evaluate/flags/{key}"
	bulkPattern   = "POST /ofrep/v1/evaluate/flags"
	slashPattern  = "POST /ofrep/v1/evaluate/flags/{$}"
	eventsPattern = "GET " + eventsPath

	eventsPath = "/ofrep/v1/events"
)

// Caller is who sends a request.
type Caller struct {
	Environment *hub.Environment
	// Principal has the key, which goes into the sealed token of event streams.
	Principal auth.Principal
	// ClientOnly says that the caller sees client-visible flags only.
	ClientOnly bool
	// Projects are those that the caller sees.
	Projects hub.Projects
	// Propagates says that any request of the caller may have a pin.
	Propagates bool
}

// Config says what a handler works with.
type Config struct {
	// Caller says who sends a request, which evaluates or only asks who it is,
	// and sets what headers depend on that. Required.
	Caller func(r *http.Request, evaluates bool) (Caller, error)
	// Environment finds an environment by name. Required.
	Environment func(name string) (*hub.Environment, error)
	// Explain is the server's table of errors: a code, a text that the caller
	// may read, and when to come back. Required.
	Explain func(context.Context, error) *connect.Error
	// Hold has the key of an event stream verified again and again, once for all
	// that go on with it. Required.
	Hold func(context.Context, auth.Principal) *auth.Hold
	// Enter counts an event stream of an environment until what it returns is
	// called, and refuses one too many. Required.
	Enter func(ctx context.Context, environment string) (leave func(), err error)
	// Draining ends when the server begins to stop: event streams end then.
	// Defaults to never.
	Draining context.Context //nolint:containedctx // a signal to streams, not a scope of work
	// Contexts are added to those of requests. Defaults to nothing.
	Contexts view.Contexts
	// KeepAlive is how often an event stream carries something at the latest.
	// Defaults to 15s.
	KeepAlive time.Duration
	// Progress is how long one write to an event stream may take. Defaults to
	// 10s.
	Progress time.Duration
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Handler answers OFREP. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	tables  sync.Map // of *tables by *hub.Environment
	buffers sync.Pool
	zips    sync.Pool
}

// New returns a handler. It starts nothing.
func New(cfg Config) *Handler {
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, 15*time.Second)
	cfg.Progress = cmp.Or(cfg.Progress, 10*time.Second)
	if cfg.Draining == nil {
		cfg.Draining = context.Background()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Handler{
		cfg:     cfg,
		buffers: sync.Pool{New: func() any { return new(buffer) }},
		zips:    sync.Pool{New: newZip},
	}
}

// Routes yields what the handler answers, by pattern.
func (h *Handler) Routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		singlePattern: h.single, bulkPattern: h.bulk, slashPattern: h.bulk, eventsPattern: h.events,
	}
}

// buffer is what a request is read into and an answer put together in. It goes
// back to the pool.
type buffer struct{ in, out []byte }

// maxKept is the largest buffer that is kept for the next request.
const maxKept = 256 << 10

func (h *Handler) buffer() *buffer {
	b := h.buffers.Get().(*buffer)
	b.in, b.out = b.in[:0], b.out[:0]
	return b
}

func (h *Handler) release(b *buffer) {
	if cap(b.in) <= maxKept && cap(b.out) <= maxKept {
		h.buffers.Put(b)
	}
}
