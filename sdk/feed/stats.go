package feed

import "sync/atomic"

// Stats counts what a [Feed] did since it was made. The counters only grow and
// are read while they do; copy none of them but by Load.
type Stats struct {
	// Streams counts the streams that were opened, Lost those that ended for
	// any reason but the end of Run.
	Streams, Lost atomic.Int64
	// Polls counts how often the server was asked for news because streams kept
	// failing.
	Polls atomic.Int64
	// Silent counts the streams given up because nothing was heard for three
	// heartbeat intervals: a half-open connection.
	Silent atomic.Int64
	// Snapshots and Deltas count what was applied.
	Snapshots, Deltas atomic.Int64
	// DigestMismatches counts the snapshots and deltas whose content was not
	// what their digest says; each was dropped and a whole snapshot asked for.
	DigestMismatches atomic.Int64
	// Malformed counts the events that could not be decoded or contradict the
	// protocol, and the answers about one flag that do.
	Malformed atomic.Int64
	// Newer counts the rows that were taken of kinds that this version does not
	// know, and that are of one flag or of none. TooNew counts the events that were
	// refused, among those of Malformed, because any flag may depend on such a row:
	// the values stay as they are until this version is updated.
	Newer, TooNew atomic.Int64
	// Lower counts the revisions that were ignored because they are not above
	// the one held: a server that lags, or whose history was set back.
	Lower atomic.Int64
	// Emptied counts the snapshots without any flag that were refused because
	// they would have replaced one with flags.
	Emptied atomic.Int64
	// SupersededHits counts the flags of older revisions found in the cache,
	// Fetches those asked of the server, the emergency log among them,
	// FetchFailures those it did not answer (in time), Evicted those the cache
	// dropped to stay within its bytes.
	SupersededHits, Fetches, FetchFailures, Evicted atomic.Int64
	// Acks counts how often the server was told what is held, AckFailures how
	// often it did not answer.
	Acks, AckFailures atomic.Int64
	// CacheLoads counts the starts from the last-known-good file, CacheIgnored
	// the files that could not be used, CacheSaves and CacheFailures what became
	// of writing it.
	CacheLoads, CacheIgnored, CacheSaves, CacheFailures atomic.Int64
	// Foreign counts the streams of another environment than the one the feed
	// began with from its file or bootstrap, whose flags were then replaced.
	Foreign atomic.Int64
	// Checkpoints counts the checkpoints of the audit log that extend the one
	// remembered, CheckpointsUnproven those that the server had no proof for,
	// CheckpointFailures those that show that the log was rewritten or cut off.
	Checkpoints, CheckpointsUnproven, CheckpointFailures atomic.Int64
	// Waits counts the pins ahead of this process that waited for the stream.
	Waits atomic.Int64
}
