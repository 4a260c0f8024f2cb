package feed

import (
	"slices"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// publish makes next the newest snapshot, keeps what it supersedes for the pins
// that are still under way, and tells who waits. Run alone calls it.
func (f *Feed) publish(next *eval.Snapshot) {
	held := f.snapshot.Load()
	var keys []string
	switch {
	case held == nil:
	case f.provisional.Load():
		keys = all(held, next)
	default:
		keys = changed(held, next)
		// Before the swap: a pin that finds the newer flag must find the older
		// one in the cache already.
		f.superseded.retire(held, keys)
	}
	f.appliedAt.Store(time.Now().UnixNano())
	f.snapshot.Store(next)
	f.provisional.Store(false)
	f.foreign = false
	f.acks.wake()
	f.saves.wake()
	f.advancedMu.Lock()
	close(f.advanced)
	f.advanced = make(chan struct{})
	f.advancedMu.Unlock()
	if held == nil {
		close(f.ready)
		return
	}
	if len(keys) > 0 {
		f.config.Changed(keys)
	}
}

// all lists the flags of two snapshots whose revisions cannot be compared,
// sorted.
func all(held, next *eval.Snapshot) []string {
	var keys []string
	for flag := range held.Flags() {
		keys = append(keys, flag.Key())
	}
	for flag := range next.Flags() {
		keys = append(keys, flag.Key())
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// changed lists the flags that differ between two snapshots, sorted. It trusts
// what each flag knows of its age, which covers what the flag reads, and looks
// at none that both share.
func changed(held, next *eval.Snapshot) []string {
	var keys []string
	for was, is := range next.Unshared(held) {
		switch {
		case is == nil:
			keys = append(keys, was.Key())
		case was == nil || is.EffectiveFrom() > held.Revision():
			keys = append(keys, is.Key())
		}
	}
	return keys
}
