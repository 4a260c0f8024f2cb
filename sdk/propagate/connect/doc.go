// Package guidonconnect carries the flag state of a request over Connect, gRPC
// and gRPC-Web calls made with connectrpc.com/connect.
//
// # The idea
//
// A Connect call is an HTTP request, so the rules are those of net/http and
// stay where they are, in [propagate.Propagator.Middleware] and
// [propagate.Propagator.Transport]. The interceptor shows them the call as the
// request it is, and does with its headers what they did.
//
// # Interceptor or middleware
//
// Either serves, and both together do no harm: the inner one finds the work
// done. The interceptor sees the call's procedure and spares the rest of a mux;
// Middleware answers with the correlation ID even if a request cannot be
// decoded. A client that may be sent elsewhere by a redirect needs Transport:
// an interceptor never hears of redirects, and net/http repeats its headers
// wherever they lead.
//
// # Streams
//
// A stream has one State, that of its request: all its messages see the same
// flags, however long it is open. A handler that wants a message to see newer
// ones asks [propagate.Propagator.Reroot] for a context per message.
//
// Answers get the correlation ID and, inside the zone and rarely, what the call
// has met of emergencies: in a header of unary calls, in a trailer of streams.
package guidonconnect
