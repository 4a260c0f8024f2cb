package guidongrpc_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// What the interceptors add to a call, without the call.
func BenchmarkInterceptors(b *testing.B) {
	p := stage.New().Service(propagate.Internal, nil)
	md := metadata.Pairs("guidon", stage.Header("production", stage.Key), ":authority", "inventory", "content-type", "application/grpc", "user-agent", "test")
	incoming := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(b.Context(), md), answering{})
	receive, send := guidongrpc.UnaryServerInterceptor(p), guidongrpc.UnaryClientInterceptor(p)
	b.Run("server", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := receive(incoming, nil, &grpc.UnaryServerInfo{FullMethod: unary}, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	cc := dial(b, "inventory", nil)
	ctx := p.Extract(b.Context(), propagate.HTTPCarrier{"Guidon": md["guidon"]})
	b.Run("client", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := send(ctx, unary, nil, nil, cc, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// answering takes the headers of an answer and forgets them.
type answering struct{ grpc.ServerTransportStream }

func (answering) SetHeader(metadata.MD) error { return nil }
