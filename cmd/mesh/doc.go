// Mesh puts services that speak every transport under fire and asks the one
// question that matters: did two evaluations of one request ever disagree?
//
// It is the proof of Property C (see [propagate]) with nothing made of
// cardboard: a Guidon server on a real Postgres, thirteen services of two
// instances each, every instance with an SDK client, a stream and an OpenFeature
// API of its own, calling each other over the loopback network.
//
//	web → 3 services → 3 → 3 → 3
//
// Each service calls three of the next row, over HTTP/1.1, h2c, Connect (unary,
// server stream, two-way stream), gRPC (unary, two-way stream), NATS requests
// and JetStream messages, which are delivered again. Meanwhile a toggler changes
// flags, segments and the travel allow-list a hundred times a second, every
// stream is late by up to two seconds, streams are cut, instances restart, and
// calls are repeated and hedged.
//
// A recorder groups what every evaluation gave by request, flag and subject. One
// group with two answers is a divergence. An explicit ERROR is not one: it is
// what Guidon promises where the state cannot be had, and is counted apart.
//
// Flags are killed, too, and let live again. A kill may change a request under
// way, but only forward, and only to what the kill says: the recorder takes down
// by which kill each answer was decided, and finds whoever went back behind one
// that the request had met (K2) or did not serve one that he knew of (K3).
//
// The same is done without propagation (mode off), with services that evaluate
// once for each call and keep to it (mode once), as vendors advise, and with a
// carrier that strips the pin and takes along only the decisions made so far
// (mode decisions), as sticky-decision schemes do. These are the controls: if they do
// not tear, the mesh was not under fire, and the run fails.
package main
