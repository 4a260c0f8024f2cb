package ofrep

import (
	"sync"
	"time"
)

// buckets are one for each key that is bounded. There are at most as many as
// there are live keys.
type buckets struct {
	rate float64
	now  func() time.Time

	mu sync.Mutex
	by map[string]*bucket
}

// bucket fills at the rate, up to two seconds' worth.
type bucket struct {
	level float64
	at    time.Time
}

// take takes one from the bucket of a key. If there is none it returns how long
// to wait for the next.
func (b *buckets) take(key string) time.Duration {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.by[key]
	if k == nil {
		k = &bucket{level: 2 * b.rate, at: now}
		b.by[key] = k
	}
	k.level = min(2*b.rate, k.level+b.rate*max(0, now.Sub(k.at).Seconds()))
	k.at = now
	if k.level < 1 {
		return time.Duration((1 - k.level) / b.rate * float64(time.Second))
	}
	k.level--
	return 0
}
