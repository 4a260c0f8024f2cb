// Package guidongrpc carries the flag state of a request over
// google.golang.org/grpc.
//
// # The idea
//
// A gRPC call is an HTTP/2 request and its metadata are the headers, so the
// rules are those of net/http and stay where they are, in
// [propagate.Propagator.Middleware] and [propagate.Propagator.Transport]. The
// interceptors show them the call as the request it is, and do with its
// metadata what they did to the headers. Metadata keep duplicates apart, so two
// guidon entries are refused as two lines would be.
//
// # Destinations
//
// What a client may tell is decided by its target: the host of "dns:///host:port"
// and "passthrough:///host:port", the service name that a resolver of your own
// looks up. Unix sockets are this machine. A target of several addresses is
// none that can be allowed.
//
// # Streams
//
// A stream has one State, that of the call that opened it: all its messages see
// the same flags, however long it is open. A handler that wants a message to
// see newer ones asks [propagate.Propagator.Reroot] for a context per message.
//
// # Retries
//
// gRPC repeats a call below the interceptors, with the metadata it already has:
// all attempts carry the same bytes.
//
// Header metadata of answers get the correlation ID; trailers, inside the zone
// and rarely, what the call has met of emergencies.
package guidongrpc
