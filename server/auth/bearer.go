package auth

import (
	"context"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
)

// Bearer is a key as those send it who call a server: as an interceptor of their
// clients it goes with each call and stream. The empty key sends nothing.
//
// It is safe for concurrent use.
type Bearer string

// redacted is what is shown of a key.
const redacted = "[redacted]"

var _ connect.Interceptor = Bearer("")

func (key Bearer) set(header http.Header) {
	if key != "" {
		header.Set("Authorization", "Bearer "+string(key))
	}
}

// String hides the key.
func (Bearer) String() string { return redacted }

// GoString hides the key from %#v.
func (Bearer) GoString() string { return redacted }

// LogValue hides the key from slog.
func (Bearer) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key from encoders.
func (Bearer) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// WrapUnary implements [connect.Interceptor].
func (key Bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		key.set(request.Header())
		return next(ctx, request)
	}
}

// WrapStreamingClient implements [connect.Interceptor].
func (key Bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		key.set(conn.RequestHeader())
		return conn
	}
}

// WrapStreamingHandler implements [connect.Interceptor]; a handler sends no key.
func (key Bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
