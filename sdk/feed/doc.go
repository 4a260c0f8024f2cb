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
// # A newer server
//
// What a definition says and this version does not know makes that flag an
// error, and no other. So does a row of a kind that is not known, if the kind's
// word says that it is of one flag; one that is of none changes nothing; and both
// are under the digest, kept in the file, and handed on by relays: see
// [eval.Kind]. [Stats.Newer] counts them. A kind that any flag may depend on
// cannot be passed over: the revision is refused, the values stay what they were
// ([StateStale], with the kind in [Status.LastError], an Error line in the log,
// and [Stats.TooNew]), and go on with the first revision without such a row, or
// with the first process of a newer version.
//
// # Older revisions
//
// A request pinned to an older revision needs no older snapshot: the newest one
// knows since when each flag is what it is, so nearly always its answer is
// exact. The rest comes from a cache of superseded flags, bounded in bytes, and then from
// the server, within a budget: see [Feed.FlagAt].
//
// The package knows nothing of propagation or of OpenFeature, and evaluates
// nothing: package guidon joins it to those.
package feed
