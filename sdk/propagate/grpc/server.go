package guidongrpc

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// UnaryServerInterceptor puts the State of each call into its context, as p's
// mode says, and answers with the correlation ID, on errors too. What the mode
// or a refusal removes is gone from the incoming metadata before the handler
// runs. Config.Context is asked with a request that has the full method as
// path, the metadata as headers and the peer's address, but no body.
func UnaryServerInterceptor(p *propagate.Propagator) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, message any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, answer := receive(ctx, p, info.FullMethod)
		_ = grpc.SetHeader(ctx, answer) // fails only if an interceptor before has already sent the headers
		response, err := next(ctx, message)
		if seen := told(ctx, p); seen != nil {
			_ = grpc.SetTrailer(ctx, seen) // fails only where there is no call to answer
		}
		return response, err
	}
}

// StreamServerInterceptor does for streams what UnaryServerInterceptor does for
// unary calls. All messages of a stream share one State.
func StreamServerInterceptor(p *propagate.Propagator) grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx, answer := receive(stream.Context(), p, info.FullMethod)
		_ = stream.SetHeader(answer) // fails only if an interceptor before has already sent the headers
		err := next(service, &serverStream{stream, ctx})
		if seen := told(ctx, p); seen != nil {
			stream.SetTrailer(seen)
		}
		return err
	}
}

// told is the trailer that tells the caller of emergencies, nil for none.
func told(ctx context.Context, p *propagate.Propagator) metadata.MD {
	if value, ok := p.Seen(ctx); ok {
		return metadata.Pairs(propagate.SeenName, value)
	}
	return nil
}

// serverStream has a context with the State of its call.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream is asked for its context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// receive lets Middleware handle the call, and returns the context it made and
// what it answered.
func receive(ctx context.Context, p *propagate.Propagator, method string) (context.Context, metadata.MD) {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	request := &http.Request{
		Method:     http.MethodPost,
		URL:        &url.URL{Path: method},
		RequestURI: method,
		Proto:      "HTTP/2.0",
		ProtoMajor: 2,
		Header:     headerOf(md),
		Body:       http.NoBody,
	}
	if authority := md[":authority"]; len(authority) > 0 {
		request.Host = authority[0]
	}
	if from, ok := peer.FromContext(ctx); ok && from.Addr != nil {
		request.RemoteAddr = from.Addr.String()
	}
	var seen *http.Request
	answer := make(response)
	handler := p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r }))
	handler.ServeHTTP(answer, request.WithContext(ctx))

	ctx = seen.Context()
	if adopt(md, seen.Header) {
		ctx = metadata.NewIncomingContext(ctx, md)
	}
	said := make(metadata.MD, len(answer))
	adopt(said, http.Header(answer))
	return ctx, said
}

// headerOf spells metadata as HTTP headers.
func headerOf(md metadata.MD) http.Header {
	header := make(http.Header, len(md)+2)
	for key, values := range md {
		if !strings.HasPrefix(key, ":") {
			header[http.CanonicalHeaderKey(key)] = values
		}
	}
	return header
}

// adopt makes md say what header says, and reports whether that is a change.
func adopt(md metadata.MD, header http.Header) (changed bool) {
	for key := range md {
		if _, kept := header[http.CanonicalHeaderKey(key)]; !kept && !strings.HasPrefix(key, ":") {
			delete(md, key)
			changed = true
		}
	}
	for name, values := range header {
		if key := strings.ToLower(name); !slices.Equal(md[key], values) {
			md[key] = values
			changed = true
		}
	}
	return changed
}

// response keeps the headers that Middleware answers with.
type response http.Header

// Header implements http.ResponseWriter.
func (r response) Header() http.Header { return http.Header(r) }

// WriteHeader implements http.ResponseWriter.
func (response) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (response) Write(b []byte) (int, error) { return len(b), nil }
