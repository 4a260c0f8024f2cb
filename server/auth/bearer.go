package auth

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
)

// Bearer is a key as those send it who call a server: as an interceptor of their
// clients it goes with each call and stream. The empty key sends nothing.
//
// It is safe for concurrent use.
type Bearer string

var _ connect.Interceptor = Bearer("")

func (key Bearer) set(header http.Header) {
	if key != "" {
		header.Set("Authorization", "Bearer "+string(key))
	}
}

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
