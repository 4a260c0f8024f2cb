package feed

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// span is what a flag was from one revision up to, not including, another.
type span struct {
	key      string
	from, to int64
	flag     *eval.Flag // nil: it did not exist
	at       int64      // of an answer: the revision within that it is for
	bytes    int        // that it keeps in memory; of one that is in the cache
}

// spanBytes is what a span keeps in memory beside its flag and its key.
const spanBytes = 300

func (s span) holds(revision int64) bool { return s.from <= revision && revision < s.to }

// superseded is a cache of flags as they were, bounded in bytes, and the one
// place where they are asked of the server.
type superseded struct {
	limit int
	stats *Stats

	mu     sync.Mutex
	bytes  int
	recent *list.List // of span, most recently used first
	byKey  map[string][]*list.Element

	flights flights[question, span]
}

// question is what the server is asked.
type question struct {
	key      string
	revision int64
	nearest  bool // or else the oldest that is kept
}

func newSuperseded(limit int, stats *Stats) *superseded {
	return &superseded{limit: limit, stats: stats, recent: list.New(), byKey: map[string][]*list.Element{}}
}

// lookup finds a flag that is in the cache.
func (s *superseded) lookup(key string, revision int64) (*eval.Flag, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key, revision)
}

func (s *superseded) find(key string, revision int64) (*eval.Flag, bool) {
	for _, element := range s.byKey[key] {
		if found := element.Value.(span); found.holds(revision) {
			s.recent.MoveToFront(element)
			s.stats.SupersededHits.Add(1)
			return found.flag, true
		}
	}
	return nil, false
}

// retire keeps what the named flags were in a snapshot that is about to be
// replaced. They were that at least until its revision: what came between it
// and the next one is not known here.
func (s *superseded) retire(held *eval.Snapshot, keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		was := span{key: key, from: held.Revision(), to: held.Revision() + 1, flag: held.Flag(key)}
		if was.flag != nil {
			was.from = was.flag.EffectiveFrom()
		}
		s.add(was)
	}
}

// add keeps a span, in place of one that began with it and ended sooner, and
// lets go of the least recently used beyond the bound. One that is larger than
// the bound is let go of itself, and no other for it.
func (s *superseded) add(found span) {
	found.bytes = spanBytes + 2*len(found.key)
	if found.flag != nil {
		found.bytes += found.flag.Bytes()
	}
	for _, element := range s.byKey[found.key] {
		if known := element.Value.(span); known.from == found.from {
			found.to = max(found.to, known.to)
			s.remove(element)
			break
		}
	}
	if found.bytes > s.limit {
		s.stats.Evicted.Add(1)
		return
	}
	s.byKey[found.key] = append(s.byKey[found.key], s.recent.PushFront(found))
	for s.bytes += found.bytes; s.bytes > s.limit; s.stats.Evicted.Add(1) {
		s.remove(s.recent.Back())
	}
}

func (s *superseded) remove(oldest *list.Element) {
	gone := s.recent.Remove(oldest).(span)
	s.bytes -= gone.bytes
	key := gone.key
	kept := s.byKey[key][:0]
	for _, element := range s.byKey[key] {
		if element != oldest {
			kept = append(kept, element)
		}
	}
	clear(s.byKey[key][len(kept):])
	if s.byKey[key] = kept; len(kept) == 0 {
		delete(s.byKey, key)
	}
}

// size is how many bytes are kept.
func (s *superseded) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.bytes)
}

// fetch asks for a flag at a revision and waits for the answer until ctx ends.
func (s *superseded) fetch(ctx context.Context, want question, ask func(context.Context, question) (span, error)) (*eval.Flag, int64, error) {
	found, err := s.flights.fetch(ctx, want, func(ctx context.Context, want question) (span, error) {
		if flag, ok := s.lookup(want.key, want.revision); ok {
			return span{flag: flag, at: want.revision}, nil // it came when nobody looked
		}
		s.stats.Fetches.Add(1)
		found, err := ask(ctx, want)
		if err != nil {
			s.stats.FetchFailures.Add(1)
			return span{}, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.add(found)
		return found, nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("%q at revision %d: %w", want.key, want.revision, err)
	}
	return found.flag, found.at, nil
}
