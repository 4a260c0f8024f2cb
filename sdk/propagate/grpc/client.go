package guidongrpc

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// UnaryClientInterceptor sends the State of the context along to destinations
// that p allows, by the target of the connection: the received bytes if nothing
// was added. Other destinations get no guidon entry, not even one that the
// caller copied from an inbound call.
func UnaryClientInterceptor(p *propagate.Propagator) grpc.UnaryClientInterceptor {
	transport := p.Transport(mirror{})
	return func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, options ...grpc.CallOption) error {
		return next(send(ctx, transport, cc), method, request, reply, cc, options...)
	}
}

// StreamClientInterceptor does for streams what UnaryClientInterceptor does for
// unary calls: the State travels once, with the call that opens the stream.
func StreamClientInterceptor(p *propagate.Propagator) grpc.StreamClientInterceptor {
	transport := p.Transport(mirror{})
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		return next(send(ctx, transport, cc), desc, cc, method, options...)
	}
}

// send lets Transport write what a call over cc carries, into a copy of the
// caller's metadata.
func send(ctx context.Context, transport http.RoundTripper, cc *grpc.ClientConn) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = make(metadata.MD, 2)
	}
	request := &http.Request{URL: &url.URL{Scheme: "http", Host: host(cc.CanonicalTarget())}, Header: headerOf(md)}
	sent, err := transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return ctx
	}
	_ = sent.Body.Close()
	if !adopt(md, sent.Header) {
		return ctx
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// host returns the endpoint of a canonical target, "scheme://authority/endpoint",
// which may have a port, or "" if it is none that one could allow: a list would
// pass for its last name.
func host(target string) string {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "unix", u.Scheme == "unix-abstract":
		return "localhost"
	}
	endpoint := strings.TrimPrefix(u.Path, "/")
	if strings.ContainsAny(endpoint, ",/@") {
		return ""
	}
	return endpoint
}

// mirror answers a request with the headers it came with.
type mirror struct{}

// RoundTrip implements http.RoundTripper.
func (mirror) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: r.Header, Body: http.NoBody, Request: r}, nil
}
