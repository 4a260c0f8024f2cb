package store

import "sync/atomic"

// Stats counts what healed by itself since Open, and what the pools hold now.
type Stats struct {
	// Retries is how many writes were tried again: for a lock that was not
	// had in time, a deadlock, or a connection that died.
	Retries int64
	// Lost is how many connections were found dead when they were used.
	Lost int64
	// Unlistened is how often the listener's connection ended.
	Unlistened int64
	// Unhinted is how many notifications could not be sent. Listeners found
	// out by their poll.
	Unhinted int64
	// Busy is how often no connection was free in time; see [ErrBusy].
	Busy int64
	// Unreplicated is how many changes were answered with ErrUnknownDurability.
	Unreplicated int64
	// Groups is how many transactions small change sets were carried out in, and
	// Grouped how many change sets those were; Waiting is how many are in line.
	Groups, Grouped int64
	Waiting         int
	// Reads, Writes and Jobs are the connections in use, and the most there may be.
	Reads, MaxReads, Writes, MaxWrites, Jobs, MaxJobs int32
}

type counters struct{ retries, lost, unlistened, unhinted, busy, unreplicated, groups, grouped atomic.Int64 }

// Stats returns the counters. It asks nobody and may be called often.
func (db *DB) Stats() Stats {
	reads, writes, jobs := db.reads.Stat(), db.writes.Stat(), db.jobs.Stat()
	return Stats{
		Retries: db.count.retries.Load(), Lost: db.count.lost.Load(),
		Unlistened: db.count.unlistened.Load(), Unhinted: db.count.unhinted.Load(),
		Busy: db.count.busy.Load(), Unreplicated: db.count.unreplicated.Load(),
		Groups: db.count.groups.Load(), Grouped: db.count.grouped.Load(), Waiting: db.line.length(),
		Reads: reads.AcquiredConns(), MaxReads: reads.MaxConns(), Writes: writes.AcquiredConns(), MaxWrites: writes.MaxConns(),
		Jobs: jobs.AcquiredConns(), MaxJobs: jobs.MaxConns(),
	}
}
