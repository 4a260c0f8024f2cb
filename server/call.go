package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/flagd"
	"github.com/guidon-flags/guidon/store"
)

// The headers of a call's identity, as [http.Header] spells them: another
// spelling is made anew whenever it is used.
const (
	requestHeader     = "X-Request-Id"
	correlationHeader = "X-Correlation-Id"
)

var nosniff = []string{"nosniff"}

// call is what is known of one RPC: for its log line, for the metrics, for the
// audit log. The goroutine that serves the call owns it.
type call struct {
	procedure     string // "unknown" if it is none of ours, so that metrics stay bounded
	requestID     string
	correlationID string
	principal     auth.Principal
	// asked is what the permission table was asked about; empty if it was not.
	asked string
	// recorder is where the answer goes.
	recorder recorder
	// remote is the address of the connection that the call came on, and agent what
	// its program calls itself.
	remote, agent string
	// control sets the deadlines of the connection the call came on.
	control *http.ResponseController
	// header is that of the answer.
	header http.Header
	// http1 says that the connection carries one call at a time.
	http1 bool
	// detachable says that the stream the call may be can leave net/http; see
	// detached.go.
	detachable bool
	// code is how the call ended; 0 for well. err is why, for the operator.
	code connect.Code
	err  error
}

type callKey struct{}

// callOf returns the call that ctx belongs to. It is never nil.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// observe gives each RPC its identity, and reports how it ended whatever
// ended it: the handler, the permission table, a body that cannot be read.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, start := r.Context(), time.Now()
		c := newCall(r)
		c.header = w.Header()
		c.header.Set(requestHeader, c.requestID)
		c.header.Set(correlationHeader, c.correlationID)
		c.header["X-Content-Type-Options"] = nosniff
		c.recorder.ResponseWriter = w
		c.control = http.NewResponseController(&c.recorder)
		c.http1, c.detachable = r.ProtoMajor == 1, detachable(r)
		defer func() {
			panicked := recover()
			if panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // net/http compares with == too
				c.code, c.err = connect.CodeInternal, panicError(panicked)
				if c.recorder.status == 0 {
					http.Error(w, "internal error; request "+c.requestID, http.StatusInternalServerError)
				}
			} else if c.code == 0 {
				c.code = statusCode(c.recorder.status)
			}
			if c.recorder.detached {
				return // it goes on elsewhere
			}
			s.report(ctx, c, time.Since(start))
			if panicked == http.ErrAbortHandler { //nolint:errorlint // see above
				panic(panicked)
			}
		}()
		ctx = context.WithValue(ctx, callKey{}, c)
		if auth.Writes(c.procedure) {
			ctx = store.WithOrigin(ctx, c.origin())
		}
		next.ServeHTTP(&c.recorder, r.WithContext(ctx))
	})
}

func newCall(r *http.Request) *call {
	c := &call{
		procedure:     "unknown",
		requestID:     inboundID(r, requestHeader),
		correlationID: inboundID(r, correlationHeader),
		remote:        r.RemoteAddr,
		agent:         r.UserAgent(),
	}
	switch {
	case auth.Known(r.URL.Path):
		c.procedure = r.URL.Path
	case strings.HasPrefix(r.Pattern, "POST "), strings.HasPrefix(r.Pattern, "GET "): // of OFREP: paths hold flag keys
		c.procedure = r.Pattern
	}
	if c.requestID == "" {
		c.requestID = newID()
	}
	if c.correlationID == "" {
		c.correlationID = c.requestID
	}
	return c
}

// maxAgent bounds what the audit log keeps of a program's name.
const maxAgent = 200

// origin is from where a call is, for the audit log.
func (c *call) origin() string {
	agent := strings.ToValidUTF8(c.agent[:min(len(c.agent), maxAgent)], "")
	return strings.TrimSpace(c.address() + " " + agent)
}

// hangUp ends the connection with the answer, so that a client that is to come
// back later does so on another one: silent connections of thousands who wait
// would hold more memory than their streams do. Over HTTP/2 a connection may
// have other streams, and stays.
func (c *call) hangUp() {
	if c.header != nil && c.http1 {
		c.header.Set("Connection", "close")
	}
}

// report writes the one log line of a call and counts it.
func (s *Server) report(ctx context.Context, c *call, took time.Duration) {
	s.metrics.call(c, took)
	s.secure(ctx, c)
	level := slog.LevelDebug
	// What a flag comes to is no fault of the server, whatever flagd calls it.
	if errors.Is(c.err, flagd.ErrFlag) {
		level = slog.LevelDebug
	} else if c.code == connect.CodeInternal || c.code == connect.CodeUnknown || c.code == connect.CodeDataLoss {
		level = slog.LevelError
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("procedure", c.procedure),
		slog.String("code", codeName(c.code)),
		slog.Duration("took", took),
		slog.String("request_id", c.requestID),
		slog.String("correlation_id", c.correlationID),
		slog.String("key_id", c.principal.KeyID),
	}
	if c.err != nil {
		attrs = append(attrs, slog.Any("error", c.err))
	}
	s.log.LogAttrs(ctx, level, "call", attrs...)
}

// inboundID returns the ID that a caller sent under a header, if there is
// exactly one and it is well formed (propagation.md §8). It is taken whole or
// not at all: repairing it would let two IDs become one.
func inboundID(r *http.Request, header string) string {
	values := r.Header.Values(header)
	if len(values) != 1 || len(values[0]) < 16 || len(values[0]) > 64 {
		return ""
	}
	for _, b := range []byte(values[0]) {
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '_':
		default:
			return ""
		}
	}
	return values[0]
}

// newID returns a UUIDv7 as 32 hex digits.
func newID() string {
	id := uuid.Must(uuid.NewV7()) // fails only if the system has no randomness
	var digits [32]byte
	hex.Encode(digits[:], id[:])
	return string(digits[:])
}

// panicError is a panic as an error, with where it happened.
func panicError(panicked any) error {
	return fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
}

// codeName is how a code is called in logs and metrics.
func codeName(code connect.Code) string {
	if code == 0 {
		return "ok"
	}
	return code.String()
}

// statusCode is the code of an answer that no handler gave: Connect refused
// the request before, by its HTTP status.
func statusCode(status int) connect.Code {
	switch status {
	case 0, http.StatusOK, http.StatusNoContent, http.StatusNotModified:
		return 0
	case http.StatusInternalServerError:
		return connect.CodeInternal
	case http.StatusServiceUnavailable:
		return connect.CodeUnavailable
	case http.StatusUnauthorized:
		return connect.CodeUnauthenticated
	case http.StatusForbidden:
		return connect.CodePermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return connect.CodeUnimplemented
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return connect.CodeResourceExhausted
	default:
		return connect.CodeInvalidArgument
	}
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	// detached says that the connection was taken over; see detached.go.
	detached bool
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.detached {
		return 0, http.ErrHijacked // what Connect writes at the end of a call
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Flush is what Connect asks of a writer it streams to.
func (r *recorder) Flush() {
	if r.detached {
		return
	}
	_ = http.NewResponseController(r.ResponseWriter).Flush()
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
