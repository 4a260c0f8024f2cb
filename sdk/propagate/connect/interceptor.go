package guidonconnect

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"sync"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// NewInterceptor returns an interceptor for both sides of a call, unary and
// streaming.
//
// For handlers it puts the State of the call into the context, as p's mode
// says, and answers with the correlation ID, on errors too. What the mode or a
// refusal removes is gone from the request's headers before the handler runs.
// Config.Context is asked with a request that has the call's procedure as
// path, its headers and its peer, but no body.
//
// For clients it sends the State of the context along to destinations that p
// allows, by the host of the client's base URL: the received bytes if nothing
// was added. Other destinations get no guidon header, not even one that the
// caller copied.
func NewInterceptor(p *propagate.Propagator) connect.Interceptor {
	return &interceptor{p: p}
}

type interceptor struct{ p *propagate.Propagator }

// WrapUnary implements connect.Interceptor.
func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, call connect.AnyRequest) (connect.AnyResponse, error) {
		if call.Spec().IsClient {
			i.send(ctx, call.Peer(), call.Header())
			answer, err := next(ctx, call)
			if failed, ok := errors.AsType[*connect.Error](err); ok {
				i.p.Answered(ctx, call.Peer().Addr, failed.Meta())
			} else if err == nil && answer != nil {
				i.p.Answered(ctx, call.Peer().Addr, answer.Header())
				i.p.Answered(ctx, call.Peer().Addr, answer.Trailer())
			}
			return answer, err
		}
		ctx, answer := i.receive(ctx, call.HTTPMethod(), call.Spec(), call.Peer(), call.Header())
		info, ok := connect.CallInfoForHandlerContext(ctx)
		if ok {
			maps.Copy(info.ResponseHeader(), answer) // sent with errors too, which a response is not there for
		}
		response, err := next(ctx, call)
		if ok {
			i.tell(ctx, info.ResponseHeader())
		}
		return response, err
	}
}

// tell writes into an answer what the call has met of emergencies.
func (i *interceptor) tell(ctx context.Context, header http.Header) {
	if value, ok := i.p.Seen(ctx); ok {
		header.Set(propagate.SeenName, value)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		return &stream{StreamingClientConn: conn, i: i, ctx: ctx, open: sync.OnceFunc(func() { i.send(ctx, conn.Peer(), conn.RequestHeader()) })}
	}
}

// stream writes its headers at the last moment before they go out: until then
// the caller may add to them.
type stream struct {
	connect.StreamingClientConn
	i    *interceptor
	ctx  context.Context //nolint:containedctx // the call's, as the connection has it
	open func()
}

// Receive implements connect.StreamingClientConn. The headers of the answer are
// there with its first message, the trailers when it has ended.
func (s *stream) Receive(message any) error {
	err := s.StreamingClientConn.Receive(message)
	s.i.p.Answered(s.ctx, s.Peer().Addr, s.ResponseHeader())
	if err != nil {
		s.i.p.Answered(s.ctx, s.Peer().Addr, s.ResponseTrailer())
	}
	return err
}

// Send implements connect.StreamingClientConn.
func (s *stream) Send(message any) error {
	s.open()
	return s.StreamingClientConn.Send(message)
}

// CloseRequest implements connect.StreamingClientConn.
func (s *stream) CloseRequest() error {
	s.open()
	return s.StreamingClientConn.CloseRequest()
}

// WrapStreamingHandler implements connect.Interceptor.
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		ctx, answer := i.receive(ctx, http.MethodPost, conn.Spec(), conn.Peer(), conn.RequestHeader())
		maps.Copy(conn.ResponseHeader(), answer)
		err := next(ctx, conn)
		i.tell(ctx, conn.ResponseTrailer())
		return err
	}
}

// receive lets Middleware handle the call, and returns the context it made and
// what it answered.
func (i *interceptor) receive(ctx context.Context, method string, spec connect.Spec, peer connect.Peer, header http.Header) (context.Context, http.Header) {
	request := &http.Request{
		Method:     method,
		URL:        &url.URL{Path: spec.Procedure},
		RequestURI: spec.Procedure,
		Header:     header,
		RemoteAddr: peer.Addr,
		Body:       http.NoBody,
	}
	var seen *http.Request
	answer := make(response)
	handler := i.p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))
	handler.ServeHTTP(answer, request.WithContext(ctx))
	replace(header, seen.Header)
	return seen.Context(), http.Header(answer)
}

// send writes what a call to peer carries.
func (i *interceptor) send(ctx context.Context, peer connect.Peer, header http.Header) {
	replace(header, i.p.Outbound(ctx, peer.Addr, header))
}

// replace gives header the content of other, in place: others hold the map. If
// nothing changed, other is that very map.
func replace(header, other http.Header) {
	for name := range header {
		if _, kept := other[name]; !kept {
			delete(header, name)
		}
	}
	maps.Copy(header, other)
}

// response keeps the headers that Middleware answers with.
type response http.Header

// Header implements http.ResponseWriter.
func (r response) Header() http.Header { return http.Header(r) }

// WriteHeader implements http.ResponseWriter.
func (response) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (response) Write(b []byte) (int, error) { return len(b), nil }
