// Package ofrep answers the OpenFeature Remote Evaluation Protocol 0.3.0:
// evaluation of one flag, of all flags, and a stream of events that says when
// to evaluate again.
//
// The one idea: an answer is put together from bytes that were encoded when the
// flag was published. Each flag has its key, variants, values and metadata ready
// (table.go); an evaluation picks some of them and appends the reason. The
// context is read once by the evaluator's own reader; there is no reflection and
// no message in the middle.
//
// A bulk answer is of one snapshot. Its ETag covers everything that it depends
// on: revision, selector, kind of key and the merged context; the whole body
// where flags depend on time or on a pin.
//
// # Leniency
//
// An empty body and a missing targeting key are fine: no flag of ours needs one,
// for targeting says what happens without. Members that OFREP does not know are
// passed over, and the content type is not looked at, as flagd does.
package ofrep
