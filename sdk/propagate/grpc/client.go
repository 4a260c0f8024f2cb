package guidongrpc

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// UnaryClientInterceptor sends the State of the context along to destinations
// that p allows, by the target of the connection: the received bytes if nothing
// was added. Other destinations get no guidon entry, not even one that the
// caller copied from an inbound call. What the answer tells of emergencies is
// joined.
func UnaryClientInterceptor(p *propagate.Propagator) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
		var header, trailer metadata.MD
		to := host(cc.CanonicalTarget())
		options = append(slices.Clone(options), grpc.Header(&header), grpc.Trailer(&trailer))
		err := next(send(ctx, p, to), method, request, reply, cc, options...)
		answered(ctx, p, to, header, trailer)
		return err
	}
}

// StreamClientInterceptor does for streams what UnaryClientInterceptor does for
// unary calls: the State travels once, with the call that opens the stream.
func StreamClientInterceptor(p *propagate.Propagator) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		to := host(cc.CanonicalTarget())
		stream, err := next(send(ctx, p, to), desc, cc, method, options...)
		if err != nil {
			return stream, err
		}
		return &clientStream{ClientStream: stream, ended: func() { answered(ctx, p, to, stream.Trailer()) }}, nil
	}
}

// clientStream joins what the trailers tell when the stream has ended.
type clientStream struct {
	grpc.ClientStream
	ended func()
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil {
		s.ended()
	}
	return err
}

// send writes what a call to that host carries into a copy of the caller's
// metadata.
func send(ctx context.Context, p *propagate.Propagator, to string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = make(metadata.MD, 2)
	}
	if !adopt(md, p.Outbound(ctx, to, headerOf(md))) {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// answered joins what an answer from that host tells of emergencies.
func answered(ctx context.Context, p *propagate.Propagator, from string, all ...metadata.MD) {
	for _, md := range all {
		if values := md[propagate.SeenName]; len(values) > 0 {
			p.Answered(ctx, from, http.Header{"Guidonseen": values})
		}
	}
}

// host returns the endpoint of a canonical target, "scheme://authority/endpoint",
// which may have a port. A list of endpoints stays one, and no destination
// allows it.
func host(target string) string {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "unix", u.Scheme == "unix-abstract":
		return "localhost"
	}
	return strings.TrimPrefix(u.Path, "/")
}
