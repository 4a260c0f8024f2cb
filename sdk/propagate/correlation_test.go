package propagate_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

func TestCorrelationID(t *testing.T) {
	t.Parallel()
	const id, second, trace = "corr-elation_ID-01", "request-id-000001", "0af7651916cd43dd8448eb211c80319c"
	parent := "00-" + trace + "-b7ad6b7169203331-01"
	generated := regexp.MustCompile(`^[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$`)
	tests := []struct {
		name    string
		mode    propagate.Mode
		headers []string
		want    string // "" = generated
		refused uint64
	}{
		{"nothing", propagate.Internal, nil, "", 0},
		{"correlation before request ID", propagate.Internal, []string{"X-Request-Id", second, "X-Correlation-Id", id}, id, 0},
		{"request ID before trace", propagate.Internal, []string{"Traceparent", parent, "X-Request-Id", second}, second, 0},
		{"trace", propagate.Internal, []string{"Traceparent", parent}, trace, 0},
		{"later trace version", propagate.Internal, []string{"Traceparent", "01" + parent[2:] + "-more"}, trace, 0},
		{"trace of zeros", propagate.Internal, []string{"Traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01"}, "", 0},
		{"trace version ff", propagate.Internal, []string{"Traceparent", "ff" + parent[2:]}, "", 0},
		{"trace in upper case", propagate.Internal, []string{"Traceparent", strings.ToUpper(parent)}, "", 0},
		{"trace too long", propagate.Internal, []string{"Traceparent", parent + "-more"}, "", 0},
		{"too short", propagate.Internal, []string{"X-Correlation-Id", "short"}, "", 1},
		{"too long", propagate.Internal, []string{"X-Correlation-Id", strings.Repeat("a", 65)}, "", 1},
		{"odd character", propagate.Internal, []string{"X-Correlation-Id", "0123456789abcdef\\n"}, "", 1},
		{"twice", propagate.Internal, []string{"X-Correlation-Id", id, "X-Correlation-Id", id}, "", 1},
		{"refused, then request ID", propagate.Internal, []string{"X-Correlation-Id", "short", "X-Request-Id", second}, second, 1},
		{"header first", propagate.Internal, []string{"Guidon", signed(sampleSigned, testKey), "X-Correlation-Id", id}, "0198c0de5a7e7f00a1b2c3d4e5f60718", 0},
		{"edge generates", propagate.Edge, []string{"X-Correlation-Id", id}, "", 0},
		{"off takes over", propagate.Off, []string{"X-Correlation-Id", id}, id, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPropagator(t, shop(t).instance()).WithMode(tt.mode)
			var inside string
			url := service(t, p, func(_ http.ResponseWriter, r *http.Request) { inside = propagate.CorrelationID(r.Context()) })
			answer := get(t, url, tt.headers...)
			if tt.want == "" && !generated.MatchString(inside) || tt.want != "" && inside != tt.want {
				t.Errorf("CorrelationID = %q, want %q (empty: a UUIDv7)", inside, tt.want)
			}
			if got := answer.header.Values("X-Correlation-ID"); !cmp.Equal(got, []string{inside}) {
				t.Errorf("answered %q, want %q", got, inside)
			}
			if got := p.Stats().Events[propagate.CorrelationRefused]; got != tt.refused {
				t.Errorf("correlation_refused = %d, want %d", got, tt.refused)
			}
		})
	}
}
