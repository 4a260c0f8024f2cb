// Package view is what a caller with somebody else's protocol sees of an
// environment: which flags, at which revision, evaluated for whom.
//
// The one idea: a view is settled once for a request, and all that the request
// asks comes from it. A selector, and the kind of key and its projects, say which flags
// there are. A valid guidon header says at which revision and for whom they are
// evaluated, by the rules that Go services apply ([propagate]), so that a service
// without an engine gets the state that its callers have. Without one it is the
// newest revision, and the context is the request's, beneath what the operator
// set for all and what came in headers the operator named.
//
// The package speaks no protocol: server/ofrep and server/flagd do.
package view
