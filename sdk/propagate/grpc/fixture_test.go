package guidongrpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
)

// text is the only message of the tests' service.
type text = wrapperspb.StringValue

const unary, client, server, bidi = "/shop.v1.Shop/Unary", "/shop.v1.Shop/Client", "/shop.v1.Shop/Server", "/shop.v1.Shop/Bidi"

var (
	clientStream = grpc.StreamDesc{StreamName: "Client", ClientStreams: true}
	serverStream = grpc.StreamDesc{StreamName: "Server", ServerStreams: true}
	bidiStream   = grpc.StreamDesc{StreamName: "Bidi", ClientStreams: true, ServerStreams: true}
)

// shop answers every message of every kind of call with what say returns. The
// messages "fail" and "trailer" get what they ask for.
func shop(say func(context.Context) string) *grpc.ServiceDesc {
	answer := func(ctx context.Context, message any) (any, error) {
		said := say(ctx)
		switch message.(*text).GetValue() {
		case "fail":
			return nil, status.Error(codes.NotFound, said)
		case "trailer":
			return wrapperspb.String(said), grpc.SetTrailer(ctx, metadata.Pairs("stock", "7"))
		}
		return wrapperspb.String(said), nil
	}
	streams := []grpc.StreamDesc{clientStream, serverStream, bidiStream}
	streams[0].Handler = func(_ any, s grpc.ServerStream) error {
		var all []string
		for {
			err := s.RecvMsg(new(text))
			if errors.Is(err, io.EOF) {
				return s.SendMsg(wrapperspb.String(strings.Join(all, " ")))
			}
			if err != nil {
				return err
			}
			all = append(all, say(s.Context()))
		}
	}
	streams[1].Handler = func(_ any, s grpc.ServerStream) error {
		err := s.RecvMsg(new(text))
		return errors.Join(err, s.SendMsg(wrapperspb.String(say(s.Context()))), s.SendMsg(wrapperspb.String(say(s.Context()))))
	}
	streams[2].Handler = func(_ any, s grpc.ServerStream) error {
		for {
			err := s.RecvMsg(new(text))
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = s.SendMsg(wrapperspb.String(say(s.Context())))
			}
			if err != nil {
				return err
			}
		}
	}
	return &grpc.ServiceDesc{
		ServiceName: "shop.v1.Shop",
		Streams:     streams,
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(text)
			if err := decode(in); err != nil {
				return nil, err
			}
			if intercept == nil {
				return answer(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: unary}, answer)
		}}},
	}
}

// serve listens on loopback for HTTP/2 in the clear. p may be nil. The wire is
// what arrived, seen before the interceptors of p.
func serve(t testing.TB, p *propagate.Propagator, say func(context.Context) string) (address string, arrived *wire) {
	t.Helper()
	arrived = new(wire)
	unaries, streams := []grpc.UnaryServerInterceptor{arrived.tapUnary}, []grpc.StreamServerInterceptor{arrived.tapStream}
	if p != nil {
		unaries, streams = append(unaries, guidongrpc.UnaryServerInterceptor(p)), append(streams, guidongrpc.StreamServerInterceptor(p))
	}
	s := grpc.NewServer(grpc.ChainUnaryInterceptor(unaries...), grpc.ChainStreamInterceptor(streams...))
	s.RegisterService(shop(say), nil)
	return listen(t, s, "tcp", "127.0.0.1:0"), arrived
}

// listen serves until the test ends.
func listen(t testing.TB, s *grpc.Server, network, address string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// wire keeps what the last call brought.
type wire struct{ guidon, correlation []string }

func (w *wire) keep(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	w.guidon, w.correlation = md["guidon"], md["x-correlation-id"]
}

func (w *wire) tapUnary(ctx context.Context, message any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	w.keep(ctx)
	return next(ctx, message)
}

func (w *wire) tapStream(service any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	w.keep(s.Context())
	return next(service, s)
}

// dial connects to a target, with the interceptors of p unless it is nil.
func dial(t testing.TB, target string, p *propagate.Propagator, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if p != nil {
		options = append(options,
			grpc.WithChainUnaryInterceptor(guidongrpc.UnaryClientInterceptor(p)),
			grpc.WithChainStreamInterceptor(guidongrpc.StreamClientInterceptor(p)))
	}
	cc, err := grpc.NewClient(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return cc
}

// reply is what a call brought back.
type reply struct {
	said            []string
	header, trailer metadata.MD
}

// call makes a call of one message, or of two where the client may stream.
func call(ctx context.Context, cc *grpc.ClientConn, method, message string) (r reply, err error) {
	if method == unary {
		out := new(text)
		err := cc.Invoke(ctx, method, wrapperspb.String(message), out, grpc.Header(&r.header), grpc.Trailer(&r.trailer))
		r.said = []string{out.GetValue()}
		return r, err
	}
	desc := map[string]*grpc.StreamDesc{client: &clientStream, server: &serverStream, bidi: &bidiStream}[method]
	s, err := cc.NewStream(ctx, desc, method)
	if err != nil {
		return r, err
	}
	if err = s.SendMsg(wrapperspb.String(message)); err == nil && desc.ClientStreams {
		err = s.SendMsg(wrapperspb.String(message))
	}
	if err := errors.Join(err, s.CloseSend()); err != nil {
		return r, err
	}
	for {
		out := new(text)
		if err := s.RecvMsg(out); errors.Is(err, io.EOF) {
			r.header, err = s.Header()
			r.trailer = s.Trailer()
			return r, err
		} else if err != nil {
			return r, err
		}
		r.said = append(r.said, out.GetValue())
	}
}
