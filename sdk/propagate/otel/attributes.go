package guidonotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Attributes says on a span which request it belongs to and what that is pinned
// to: guidon.correlation_id and guidon.revision, and once the State is sealed
// guidon.environment and guidon.root. Nothing of the subject is among them.
// They are for spans; as labels of metrics they would be one series per request.
// Without a State there are none, where propagation is off only the first.
func Attributes(ctx context.Context) []attribute.KeyValue {
	correlation := propagate.CorrelationID(ctx)
	if correlation == "" {
		return nil
	}
	attributes := append(make([]attribute.KeyValue, 0, 4), attribute.String("guidon.correlation_id", correlation))
	state, ok := propagate.FromContext(ctx)
	if !ok {
		return attributes
	}
	attributes = append(attributes, attribute.Int64("guidon.revision", state.Revision()))
	if pin, sealed := state.Pin(); sealed {
		attributes = append(attributes, attribute.String("guidon.environment", pin.Environment), attribute.String("guidon.root", pin.Root))
	}
	return attributes
}
