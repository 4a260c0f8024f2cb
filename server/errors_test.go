package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/collector"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store"
)

func TestErrorTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code connect.Code
		says string
	}{
		{fmt.Errorf("flag %q: %w", "a", store.ErrNotFound), connect.CodeNotFound, `flag "a": not found`},
		{&store.ConflictError{Environment: "staging", Expected: 1, Actual: 2}, connect.CodeAborted, "revision 2, expected 1"},
		{&store.RefusedError{Operations: []*store.OperationError{{Index: 3, Path: "$.flag", Err: eval.ErrInvalid}}}, connect.CodeInvalidArgument, "operation 3"},
		{&store.FieldError{Field: "reason", Message: "is required"}, connect.CodeInvalidArgument, "reason: is required"},
		{fmt.Errorf("dial 10.0.0.7: %w: password", store.ErrUnavailable), connect.CodeUnavailable, "the database cannot be reached"},
		{fmt.Errorf("%w: x", auth.ErrDenied), connect.CodePermissionDenied, "permission denied"},
		{fmt.Errorf("%w: %w", auth.ErrNoPrincipal, store.ErrKeyRevoked), connect.CodeUnauthenticated, "revoked"},
		{&store.RefusedError{Operations: []*store.OperationError{{Err: store.ErrPierceNever}}}, connect.CodeFailedPrecondition, "new roots only"},
		{fmt.Errorf("%w: flag %q", store.ErrNotOverridable, "a"), connect.CodeFailedPrecondition, "not overridable"},
		{fmt.Errorf("apply: %w: %w", store.ErrUnavailable, store.ErrBusy), connect.CodeUnavailable, "connections to the database are in use; try again"},
		{fmt.Errorf("audit log: %w (%w): 57014", store.ErrSlow, store.ErrUnavailable), connect.CodeDeadlineExceeded, "ask for less, such as a shorter range of time"},
		{fmt.Errorf("apply: %w: %w", store.ErrUnknownOutcome, context.Canceled), connect.CodeUnavailable, "to learn what became of it"},
		{fmt.Errorf("%w: secret", store.ErrUnknownDurability), connect.CodeUnavailable, "repeat it with the same idempotency key"},
		{store.ErrNotReplicated, connect.CodeUnavailable, "does not replicate synchronously"},
		{store.ErrNotRecovered, connect.CodeUnavailable, "guidon recover"},
		{fmt.Errorf("revision 7: %w", store.ErrRevisionLost), connect.CodeNotFound, "lost"},
		{fmt.Errorf("revision 7: %w", store.ErrRevisionCollected), connect.CodeNotFound, "keeps"},
		{hub.ErrNotReady, connect.CodeUnavailable, "not read its flags"},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "too long"},
		{errors.New("SELECT secret FROM keys"), connect.CodeInternal, "internal error; request 4711"},
		{panicError("secret"), connect.CodeInternal, "internal error; request 4711"},
		{connect.NewError(connect.CodeUnimplemented, errors.New("compression")), connect.CodeUnimplemented, "compression"},
	} {
		c := &call{requestID: "4711"}
		got := answer(c, tt.err)
		if got.Code() != tt.code || !strings.Contains(got.Message(), tt.says) || c.code != tt.code || !errors.Is(c.err, tt.err) {
			t.Errorf("answer(%v) = %v, noted %v %v, want %v %q", tt.err, got, c.code, c.err, tt.code, tt.says)
		}
		if hidden := tt.code == connect.CodeInternal || tt.code == connect.CodeUnavailable; hidden && strings.Contains(got.Error(), "secret") || strings.Contains(got.Error(), "10.0.0.7") {
			t.Errorf("answer(%v) tells the caller %q", tt.err, got)
		}
	}
	if got := answer(&call{}, nil); got != nil {
		t.Errorf("answer(nil) = %v", got)
	}
}

// TestPanicBelowConnect: what panics outside every handler is answered and
// reported like any other failure.
func TestPanicBelowConnect(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := &Server{log: slog.New(slog.NewTextHandler(&log, nil)), metrics: newMetrics("test", nil, held{hub.New(hub.Config{}), fleet.New(fleet.Config{}), collector.New(collector.Config{}), notary.New(notary.Config{})})}
	h := s.observe(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("spilled a secret") }))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/guidon.v1.FlagService/List", nil))
	id := w.Header().Get(requestHeader)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), id) {
		t.Errorf("answered %d %q, want 500 with the request ID alone", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "spilled a secret") || !strings.Contains(log.String(), id) {
		t.Errorf("logged %q, want an error with the panic and the request ID", log.String())
	}
}

// TestHandlerWithoutGate: a handler that was mounted without the gate is
// closed, and one that panics does not end the process.
func TestHandlerWithoutGate(t *testing.T) {
	t.Parallel()
	called := false
	closed := interceptor{}.WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) {
		called = true
		return nil, nil
	})
	if _, err := closed(t.Context(), connect.NewRequest(&struct{}{})); connect.CodeOf(err) != connect.CodeUnauthenticated || called {
		t.Errorf("without a principal: %v, called %v, want unauthenticated and no call", err, called)
	}
	if err := recovered(t.Context(), connect.Spec{}, nil, "a secret"); connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "secret") {
		t.Errorf("a panic is answered with %v, want internal and no more", err)
	}
}
