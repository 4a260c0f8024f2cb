// Package eval is Guidon's flag language: it compiles flagd flag definitions
// into immutable snapshots, evaluates them, validates them and explains them.
// It is of use alone.
//
// The one idea: the value of a flag is a pure function of a revision and an
// evaluation context. [Compile] makes a revision into a [Snapshot] once; after
// that [Flag.Evaluate] parses nothing, allocates nothing for scalars, never
// fails and never panics. [Snapshot.With] derives the next revision and shares
// what did not change.
//
// The package does no I/O, reads no clock (the time of an evaluation is an
// argument) and writes no log. It does not store, deliver or propagate anything, and
// knows no defaults: a resolution without a variant leaves the value to its caller.
//
// # The language on one page
//
// A flag has a state, named variants of one type (boolean, string, number or
// object), perhaps a default variant, and perhaps targeting:
//
//	{"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
//	 "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}}
//
// It resolves in this order, to a variant, a reason and at times an error code:
//
//   - no such flag: ERROR, FLAG_NOT_FOUND;
//   - killed by an [Emergency]: its variant with its value, STATIC;
//   - state DISABLED: DISABLED, and the caller's own default;
//   - no targeting: the default variant, STATIC; without one the caller's
//     default, DEFAULT;
//   - targeting comes to null: the default variant or the caller's default, DEFAULT;
//   - it comes to the name of a variant (or true, false, a number, which name
//     "true", "false", "1"): that variant, TARGETING_MATCH;
//   - it comes to anything else: ERROR, GENERAL;
//   - the definition does not compile: ERROR, PARSE_ERROR; see [Flag.Err];
//   - the caller asked for another type, [Resolution.As]: ERROR, TYPE_MISMATCH.
//
// Targeting is a rule: an object of one member, operator and operands. Operands
// are rules or literals. False are null, false, 0, "", [] and {}.
//
//	{"var": "user.plan"}  {"var": ["plan", "free"]}        an attribute; with a default
//	{"if": [c1, v1, c2, v2, …, otherwise]}                 the first whose condition is true; also "?:"
//	and or ! !!                                            yield operands, as && and || do
//	== != === !== < <= > >=                                loose and strict; {"<": [1, x, 9]} is between
//	{"in": [x, ["de", "fr"]]}  {"in": ["part", text]}      a member, or a part of a text
//	starts_with ends_with                                  null unless both are texts
//	{"sem_ver": [version, "^", "1.2.0"]}                   = != < <= > >= ^ (major) ~ (minor)
//	+ - * / % max min  cat substr  merge                   numbers, texts, lists
//	map filter reduce all none some                        over lists; {"var": ""} is the item
//	missing missing_some  log                              what is absent; its operand as it is
//	{"fractional": [by, ["on", 10], ["off", 90]]}          a split by hash, see below
//	{"$ref": "name"}                                       a segment stands here
//
// $flagd.flagKey and $flagd.timestamp (Unix seconds) are attributes that the
// evaluator provides. == coerces as JavaScript does, but null equals only null.
// In the bodies of filter, none and some a name that exists around the loop
// hides the item's; {"var": ".name"} is the item's in any case.
// testdata/scenarios tells every corner.
//
// fractional hashes "by", a text, or flag key and targeting key when it is left
// out, with murmur3 to 32 bits, scales that to the sum of the weights, and
// takes the share it falls into. Raising one weight of a two-way split keeps
// everyone who is in. That is v2; [Settings] may choose v3, which hashes any
// value in CBOR. testdata/buckets.csv has vectors of both.
//
// A flag that requires others runs its targeting only where each of them
// resolves to one of the named variants; elsewhere it serves its false variant
// if it is boolean and has one, else its default. Requirements and segments are
// inlined into [Flag.Definition], for providers that know only flagd's
// language.
//
// # Beyond flagd
//
// Evaluations agree with flagd 0.16 wherever that has an answer, except that
//
//   - keys, variants and sizes are bounded (below), a whole flag is isolated for
//     what is wrong in a branch that would not be reached, and variants have one type;
//   - integers are read losslessly: 3.5 and 2^53 are no integers;
//   - a targeting of null is none;
//   - data is never run as a rule: an attribute {"var": "x"} is an object, and a
//     list of the context is no share of fractional;
//   - log is known; abs, set, contains_all, contains_any and contains_none,
//     which are in no schema, are not.
//
// Where flagd's engine stumbles over a value of a type that an operator does
// not take (its PARSE_ERROR), there is an answer: arithmetic yields not a
// number, which is no match and compares false; a loop over what is no list
// goes round no time; in is false; cat prints booleans and takes null for
// empty; the rest yields null.
//
// # Bounds
//
// A definition has at most 512 KiB; a rule 32 operators inside one another,
// 2,000 operators and operands, 4 loops inside one another; a list that in
// searches 100,000 items. What is written must besides go round loops at most
// 10,000 times, a list of the context counted as 1,000. An evaluation context
// has at most 10,000 values, 32 deep. Every evaluation has fuel for about a
// millisecond; one that runs out of it matches nothing.
//
// # Why values look as they do
//
// A value is four words, because the compiler keeps structs up to that size in
// registers; with a fifth every call of the evaluator went through memory and
// took three times as long. Programs are trees walked by methods rather than
// closures, because an argument of a closure escapes to the heap, and a run
// must not.
package eval
