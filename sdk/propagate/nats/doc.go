// Package guidonnats carries the flag state of a request in the headers of NATS
// messages: core publish, request and subscribe, and JetStream.
//
// # The idea
//
// A message waits, is stored, is delivered again; its State must not depend on
// when. So the header is written once, into the message, and NATS keeps it:
// every delivery, the first as the fifth and days later, restores the same pin
// from the same bytes. Each message has its own State. A batch has none, and
// whoever handles one uses the context of the message at hand.
//
// Names of NATS headers are case-sensitive: the key is "guidon", in lower case,
// and the correlation ID travels as "x-correlation-id".
//
// # Zones
//
// Subjects are the destinations of NATS. A [Zone] is a set of them: only
// messages to its subjects carry the state, whatever broker they go through.
//
// # What this package does not do
//
// Replies carry nothing: the one who asked has the State already. Publishing,
// acknowledging and retrying stay with nats.go. Nothing here imports its
// jetstream package; [Zone.Incoming] takes the headers of its messages.
package guidonnats
