package guidongrpc_test

import (
	"context"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A kill that a call meets comes back in its trailers, whatever kind of call it
// is and however it ends.
func TestSeen(t *testing.T) {
	t.Parallel()
	for _, method := range []string{unary, client, server, bidi} {
		for _, message := range []string{"", "fail"} {
			t.Run(method+message, func(t *testing.T) {
				t.Parallel()
				environment := stage.New()
				front, back := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)
				address, _ := serve(t, back, func(ctx context.Context) string {
					environment.Kill()
					return stage.Greet(ctx, back)
				})
				answer, err := call(front.Root(t.Context(), nil), dial(t, address, front), method, message)
				if fails := message == "fail" && method == unary; err != nil != fails || !fails && strings.Trim(strings.Join(answer.said, ""), "of ") != "" {
					t.Errorf("%q, %v, want off", answer.said, err)
				}
				if front.Stats().Events[propagate.Joined] != 1 {
					t.Errorf("counted %v, want one joined", front.Stats().Events)
				}
			})
		}
	}
}
