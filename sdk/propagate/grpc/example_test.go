package guidongrpc_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A service and its caller agree on a flag although it is changed while the
// call is on its way. In a real service the Propagator is that of the SDK's
// client, and the service is generated.
func Example() {
	environment := stage.New()
	front, back := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)

	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(guidongrpc.UnaryServerInterceptor(back)),
		grpc.ChainStreamInterceptor(guidongrpc.StreamServerInterceptor(back)))
	server.RegisterService(shop(func(ctx context.Context) string { return stage.Greet(ctx, back) }), nil)
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	connection, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(guidongrpc.UnaryClientInterceptor(front)),
		grpc.WithChainStreamInterceptor(guidongrpc.StreamClientInterceptor(front)))
	if err != nil {
		panic(err)
	}
	defer func() { _ = connection.Close() }()

	ctx := front.Root(context.Background(), nil)
	fmt.Println("front:", stage.Greet(ctx, front))
	environment.Publish("plain")
	var answer wrapperspb.StringValue
	if err := connection.Invoke(ctx, "/shop.v1.Shop/Unary", wrapperspb.String(""), &answer); err != nil {
		panic(err)
	}
	fmt.Println("back: ", answer.GetValue())
	// Output:
	// front: formal
	// back:  formal
}
