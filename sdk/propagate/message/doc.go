// Package message carries the flag state of a request in the headers of
// messages, for brokers whose clients hold them as a list of pairs, as those of
// Kafka and MQTT 5 do, or as a table, as those of AMQP. It imports no client.
//
// # The idea
//
// [List] and [Table] are carriers: what a producer injects, a consumer
// extracts.
//
//	p.Inject(ctx, message.List(&record.Headers))         // before producing
//	ctx = p.Extract(ctx, message.List(&record.Headers))  // per message consumed
//
// A message waits, is stored, is delivered again; its State must not depend on
// when. So the header is written once, into the message, and every delivery
// restores the same pin from the same bytes. Each message has its own State. A
// batch has none, and whoever handles one uses the context of the message at
// hand.
//
// Keys of message headers are case-sensitive: they are "guidon" and
// "x-correlation-id", in lower case. Two entries of a list under one key are two
// values, and are refused as two lines of HTTP would be.
//
// # What this package does not do
//
// A carrier does not know where a message goes: inject only into messages to
// topics whose readers belong to the zone, or let [Topics] see to that. An edge roots a State for each message but
// takes nothing out of it, so a consumer that copies headers into a message of
// its own injects afterwards, which replaces what was copied.
package message
