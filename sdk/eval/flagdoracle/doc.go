// Package flagdoracle holds the tests that compare sdk/eval with flagd's own
// evaluator. It is a module of its own so that nobody who imports Guidon
// downloads flagd:
//
//	go test -C sdk/eval/flagdoracle -mod=mod .
//
// # What is not compared
//
// Where flagd answers PARSE_ERROR for a valid definition, its engine stumbled
// over a value of a type that an operator does not take. Guidon has an answer
// for each of those (see "Beyond flagd" in package eval), so there is nothing
// to agree on. The other listed exceptions, key grammar, limits, lossless
// integers, mixed types and data that looks like a rule, are not generated.
package flagdoracle
