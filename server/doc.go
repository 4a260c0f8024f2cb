// Package server answers Guidon's API: Connect, gRPC and gRPC-Web on one
// port, over HTTP/1.1 and HTTP/2, with TLS or without, with health, metrics and the
// admin UI beside it.
//
// The one idea: a handler decides nothing. It authorises, converts, makes one
// call to the hub or the store, and converts back. What every call needs is
// around the handlers, once: who calls ([auth]), how an error becomes a code
// (errors.go), what may be read of a request and for how long (limit.go),
// what is logged and counted (call.go).
//
// Reads of current state come from the hub's memory, so that evaluation and
// streams go on while Postgres is away; writes, history and the audit log come
// from the store.
//
// The package opens no database, reads no environment variable and starts
// nothing before [Server.Serve].
package server
