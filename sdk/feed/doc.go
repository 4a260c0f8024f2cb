// Package feed keeps one environment's newest snapshot in the process, and
// reaches the flags of older revisions.
//
// The one idea: a snapshot is replaced whole, by one atomic pointer, and only
// by a newer revision whose digest was checked. Whatever else the network
// brings (nothing, half an answer, an older revision, bytes that do not
// decode) is counted and leaves the values as they were. Values never expire:
// a process cut off for a week goes on with what it knows and says
// [StateStale].
//
// A request pinned to an older revision needs no older snapshot: the newest one
// knows since when each flag is what it is, so nearly always its answer is
// exact. The rest comes from a cache of superseded flags, bounded in bytes, and then from
// the server, within a budget: see [Feed.FlagAt].
//
// The package knows nothing of propagation or of OpenFeature, and evaluates
// nothing: package guidon joins it to those.
package feed
