package guidonotel_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/propagation"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	guidonotel "github.com/guidon-flags/guidon/sdk/propagate/otel"
)

// The flag state travels where traces do, except to hosts outside the zone.
func Example() {
	p := stage.New().Service(propagate.Internal, nil)
	propagator := propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, guidonotel.New(p))
	ctx := p.Root(context.Background(), nil)
	for _, host := range []string{"inventory.internal", "payments.example.com"} {
		carrier := propagation.MapCarrier{}
		propagator.Inject(guidonotel.To(ctx, host), carrier)
		fmt.Println(host, carrier.Keys())
	}
	// Output:
	// inventory.internal [guidon]
	// payments.example.com []
}
