package server

import (
	"context"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// TestTimeout: a verification may take as long as its client asks, up to an
// hour; nothing else takes longer than a call may.
func TestTimeout(t *testing.T) {
	t.Parallel()
	asked, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, c := range []struct {
		ctx       context.Context
		procedure string
		want      time.Duration
	}{
		{t.Context(), guidonv1connect.AuditServiceVerifyProcedure, callTimeout},
		{asked, guidonv1connect.AuditServiceVerifyProcedure, verifyTimeout},
		{asked, guidonv1connect.AuditServiceListProcedure, callTimeout},
	} {
		if got := timeout(c.ctx, c.procedure); got != c.want {
			t.Errorf("%s may take %v, want %v", c.procedure, got, c.want)
		}
	}
}
