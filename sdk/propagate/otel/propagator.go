package guidonotel

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

// New returns a propagator over p, safe for concurrent use, that belongs into a
// composite with those of OpenTelemetry.
//
// Inject writes the header of the State in the context, the received bytes if
// nothing was added, under a destination mark that p allows; see To.
//
// Extract returns a context with the State of the message that the carrier
// belongs to, as p's mode says. A State that the context already has stays if
// the carrier says nothing else: no guidon value, or the one it came from. At an
// edge nothing is taken out of the carrier.
func New(p *propagate.Propagator, options ...Option) propagation.TextMapPropagator {
	t := &propagator{p: p}
	for _, o := range options {
		o.apply(t)
	}
	return t
}

// Option changes what New makes.
type Option interface{ apply(*propagator) }

// WithoutDestinationCheck injects under every context, marked or not: for
// processes all of whose calls and messages stay in the zone.
func WithoutDestinationCheck() Option { return unchecked{} }

type unchecked struct{}

func (unchecked) apply(t *propagator) { t.unchecked = true }

type propagator struct {
	p         *propagate.Propagator
	unchecked bool
}

// Fields implements propagation.TextMapPropagator.
func (t *propagator) Fields() []string { return []string{propagate.HeaderName} }

// Inject implements propagation.TextMapPropagator.
func (t *propagator) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	if value, ok := t.outgoing(ctx); ok {
		carrier.Set(propagate.HeaderName, value)
	}
}

// outgoing returns what a call under ctx may carry.
func (t *propagator) outgoing(ctx context.Context) (value string, ok bool) {
	state, ok := propagate.FromContext(ctx)
	if !ok || t.p.Mode() == propagate.Off {
		return "", false
	}
	if !t.unchecked {
		to, marked := ctx.Value(markKey{}).(mark)
		if !marked || !t.p.AllowsRequest(&http.Request{URL: to.url, Response: to.redirectedBy}) {
			return "", false
		}
	}
	return state.Header()
}

// Extract implements propagation.TextMapPropagator.
func (t *propagator) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	if propagate.CorrelationID(ctx) != "" && settled(ctx, textMap{carrier}.Values(propagate.HeaderName)) {
		return ctx
	}
	return t.p.Extract(ctx, textMap{carrier})
}

// settled reports whether the State of ctx is that of a message with these
// values.
func settled(ctx context.Context, values []string) bool {
	if len(values) != 1 {
		return len(values) == 0
	}
	state, ok := propagate.FromContext(ctx)
	if !ok || !state.Sealed() {
		return false
	}
	value, _ := state.Header()
	return value == values[0]
}

// textMap is a carrier of OpenTelemetry as one of ours.
type textMap struct{ propagation.TextMapCarrier }

// Values implements propagate.Carrier.
func (m textMap) Values(name string) []string {
	if all, ok := m.TextMapCarrier.(propagation.ValuesGetter); ok {
		return all.Values(name)
	}
	if value := m.Get(name); value != "" {
		return []string{value}
	}
	return nil
}
