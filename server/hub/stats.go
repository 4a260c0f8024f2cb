package hub

import "sync/atomic"

// Stats counts what a hub did since it was made.
type Stats struct {
	// Looks is how often the database was asked for news, LooksFailed how often
	// it did not answer in full.
	Looks, LooksFailed int64
	// HistoryReads is how often something older was read from the database,
	// HistoryFailed how often in vain, HistoryHits how often it was at hand.
	HistoryReads, HistoryFailed, HistoryHits int64
	// HistoryBytes is about what is kept of older revisions.
	HistoryBytes int64
}

// counters are the Stats as they are counted.
type counters struct{ looks, looksFailed, reads, readsFailed, hits atomic.Int64 }

// Stats returns the counts so far.
func (h *Hub) Stats() Stats {
	c := &h.counters
	return Stats{
		Looks: c.looks.Load(), LooksFailed: c.looksFailed.Load(),
		HistoryReads: c.reads.Load(), HistoryFailed: c.readsFailed.Load(), HistoryHits: c.hits.Load(),
		HistoryBytes: h.history.kept.size(),
	}
}
