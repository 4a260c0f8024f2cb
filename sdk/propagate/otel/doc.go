// Package guidonotel carries the flag state of a request wherever the
// instrumentation of OpenTelemetry already carries its traces.
//
// # The idea
//
// A [propagation.TextMapPropagator] is asked to write into a carrier, and not
// told where that goes. The flag state may only go to allowed destinations, so
// somebody who knows must say: [Transport], around an instrumented HTTP
// transport, or [To], for clients of another kind, mark the context with the
// destination, and only under a mark that the Propagator allows is anything
// injected. A process that talks to its own zone alone may do without, by
// [WithoutDestinationCheck].
//
// # Duplicates
//
// Two guidon values in one message are an attempt at smuggling and refused.
// Carriers that are a [propagation.ValuesGetter] show both; one that only has
// Get shows the first and hides the other, and then the first is read as if it
// were alone. The carriers of propagation for HTTP headers show all.
//
// # Beside the other transports
//
// Where [propagate.Propagator.Middleware] stands outside of the instrumentation,
// its State stays. Inside, it would find one that was extracted here, and then
// neither ask Config.Context nor strip headers at an edge: put it outside.
//
// # What this package does not do
//
// It writes no baggage and no correlation ID, since a trace has its own: put
// [Attributes] on a span to find one from the other. It starts no spans.
package guidonotel
