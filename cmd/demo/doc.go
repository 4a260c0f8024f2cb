// Demo is a small shop of five services that shows what Guidon is for: one
// request sees one flag state, in every service it touches, while flags change
// and each service learns of the change at another moment.
//
// The five run in one process and share nothing but the loopback network: each
// has its own port, its own SDK instance with its own stream from Guidon, and
// its own OpenFeature API.
//
//	web ─┬─ HTTP ─ cart ─ Connect ─ inventory
//	     ├─ HTTP ─ proxy ─ HTTP ─ pricing ─ gRPC ─ inventory
//	     └─ NATS JetStream ─ mailer (50 ms later)
//
// The proxy is a plain httputil.ReverseProxy that reads no flags and passes the
// header on. The NATS server runs in this process too; what it stores is gone
// when the shop closes.
//
// Every service reports which variant of each flag it saw. A request is torn
// when two of its hops saw different variants of one flag. With propagation on
// that does not happen; with propagation off, the control, it does: the guidon
// header is then neither sent nor read, and every service evaluates at its own
// newest revision with the same evaluation context, sent as a plain header so
// that the comparison is fair.
//
// "demo storm" puts a bounded load on a running shop while it flips a flag
// through Guidon's API, first with propagation and then without, and fails
// unless the first tore nothing and the second something.
//
// The demo keeps nothing, authenticates nobody and belongs on a loopback
// address.
package main
