package guidon

import (
	"context"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"
)

// authorization adds the key to every request.
type authorization string

func (key authorization) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		key.set(request.Header())
		return next(ctx, request)
	}
}

func (key authorization) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		key.set(conn.RequestHeader())
		return conn
	}
}

func (key authorization) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (key authorization) set(header http.Header) {
	if key != "" {
		header.Set("Authorization", "Bearer "+string(key))
	}
}

// modulePath is this module's, as build information names it.
const modulePath = "github.com/guidon-flags/guidon"

// moduleVersion is the version of this module that the program was built with.
func moduleVersion() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if build.Main.Path == modulePath {
		return build.Main.Version
	}
	for _, module := range build.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "unknown"
}
