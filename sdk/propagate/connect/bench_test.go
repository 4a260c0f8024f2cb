package guidonconnect_test

import (
	"context"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// What the handler's side of the interceptor adds to a call, without the call.
func BenchmarkInterceptor(b *testing.B) {
	p := stage.New().Service(propagate.Internal, nil)
	request := connect.NewRequest(wrapperspb.String(""))
	for name, value := range map[string]string{"Guidon": stage.Header("production", stage.Key), "Content-Type": "application/proto", "User-Agent": "test"} {
		request.Header().Set(name, value)
	}
	handle := guidonconnect.NewInterceptor(p).WrapUnary(func(context.Context, connect.AnyRequest) (connect.AnyResponse, error) { return nil, nil })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := handle(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
