package server

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

const (
	// callTimeout bounds a unary call, whatever its client asks for.
	callTimeout = 30 * time.Second
	// verifyTimeout bounds a call that reads a chain of the audit log whole and
	// whose client asks for more.
	verifyTimeout = time.Hour
)

// timeout is how long a call may take. Its client's own deadline holds besides.
func timeout(ctx context.Context, procedure string) time.Duration {
	if _, asked := ctx.Deadline(); asked && procedure == guidonv1connect.AuditServiceVerifyProcedure {
		return verifyTimeout
	}
	return callTimeout
}

// gate lets a call through if its key may make it. It runs before the message
// is read: a caller without a key makes us read its headers and no more.
func (s *Server) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, header http.Header) (context.Context, error) {
	c := callOf(ctx)
	principal, err := s.admit(ctx, c, header, spec.Procedure)
	if err == nil {
		err = s.pace(ctx, principal, spec.Procedure)
	}
	if err != nil {
		return nil, answer(c, err)
	}
	return auth.WithPrincipal(ctx, principal), nil
}

// recovered turns a panic of a handler into an error like any other.
func recovered(ctx context.Context, _ connect.Spec, _ http.Header, panicked any) error {
	return answer(callOf(ctx), panicError(panicked))
}

// interceptor stands around every handler: it bounds how long a call takes,
// asks the permission table once more, so that a handler mounted without the
// gate is closed and not open, refuses text that no handler can store or find,
// and applies the error table.
type interceptor struct{}

func (interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout(ctx, request.Spec().Procedure))
		defer cancel()
		c := callOf(ctx)
		if err := auth.Authorize(auth.FromContext(ctx), request.Spec().Procedure); err != nil {
			return nil, answer(c, err)
		}
		if message, ok := request.Any().(proto.Message); ok {
			if err := checkText("", message.ProtoReflect()); err != nil {
				return nil, answer(c, err)
			}
		}
		response, err := next(ctx, request)
		if err != nil {
			return nil, answer(c, err)
		}
		return response, nil
	}
}

func (interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		c := callOf(ctx)
		if err := auth.Authorize(auth.FromContext(ctx), conn.Spec().Procedure); err != nil {
			return answer(c, err)
		}
		if err := next(ctx, conn); err != nil {
			return answer(c, err)
		}
		return nil
	}
}

// WrapStreamingClient is for clients; there are none here.
func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}
