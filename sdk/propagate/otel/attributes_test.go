package guidonotel_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	guidonotel "github.com/guidon-flags/guidon/sdk/propagate/otel"
)

func TestAttributes(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	if got := guidonotel.Attributes(t.Context()); got != nil {
		t.Errorf("without a State: %v, want none", got)
	}
	sealed := guidonotel.New(p).Extract(t.Context(), propagation.MapCarrier{"guidon": stage.Header("production", stage.Key)})
	environment.Publish("plain")
	open := p.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
	off := p.WithMode(propagate.Off).Root(t.Context(), nil)
	for _, tt := range []struct {
		name string
		got  []attribute.KeyValue
		want map[attribute.Key]any
	}{
		{"sealed", guidonotel.Attributes(sealed), map[attribute.Key]any{
			"guidon.correlation_id": "0198c0de5a7e7f00a1b2c3d4e5f60718", "guidon.revision": int64(1),
			"guidon.environment": "production", "guidon.root": "4f3c2b1a09d8e7f6",
		}},
		{"open", guidonotel.Attributes(open), map[attribute.Key]any{
			"guidon.correlation_id": propagate.CorrelationID(open), "guidon.revision": int64(2),
		}},
		{"off", guidonotel.Attributes(off), map[attribute.Key]any{"guidon.correlation_id": propagate.CorrelationID(off)}},
	} {
		got := make(map[attribute.Key]any, len(tt.got))
		for _, a := range tt.got {
			got[a.Key] = a.Value.AsInterface()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
