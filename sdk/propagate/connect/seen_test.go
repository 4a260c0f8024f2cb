package guidonconnect_test

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A kill that a call meets comes back with its answer, whatever kind of call it
// is and however it ends, over each of the protocols.
func TestSeen(t *testing.T) {
	t.Parallel()
	for protocol, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpcweb": {connect.WithGRPCWeb()}} {
		for _, procedure := range []string{unary, client, server, bidi} {
			t.Run(protocol+procedure, func(t *testing.T) {
				t.Parallel()
				environment := stage.New()
				front, back := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)
				url := serve(t, shop(func(ctx context.Context) string {
					environment.Kill()
					return stage.Greet(ctx, back)
				}, connect.WithInterceptors(guidonconnect.NewInterceptor(back))))
				c := dial(t, url, procedure, append(options, connect.WithInterceptors(guidonconnect.NewInterceptor(front)))...)
				answer, err := call(front.Root(t.Context(), nil), c, procedure, nil)
				if err != nil || strings.Trim(answer.said, "of ") != "" {
					t.Errorf("%q, %v, want off", answer.said, err)
				}
				if front.Stats().Events[propagate.Joined] != 1 || len(answer.header["Guidonseen"])+len(answer.trailer["Guidonseen"]) != 0 {
					t.Errorf("counted %v, left %v %v", front.Stats().Events, answer.header, answer.trailer)
				}
			})
		}
	}
}
