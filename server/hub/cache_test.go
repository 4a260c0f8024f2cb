package hub

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestCacheRanges(t *testing.T) {
	t.Parallel()
	c := newCache(1000)
	a, b := place{"staging", "a"}, place{"staging", "b"}
	c.put(a, entry{value: "old", from: 2, to: 5, bytes: 1})
	c.put(a, entry{value: "new", from: 5, to: 9, bytes: 1})
	c.put(b, entry{value: "b", from: 1, to: 100, bytes: 1})
	for revision, want := range map[int64]any{1: nil, 2: "old", 4: "old", 5: "new", 8: "new", 9: nil} {
		if got, ok := c.get(a, revision); got != want || ok != (want != nil) {
			t.Errorf("get(a, %d) = %v, %v, want %v", revision, got, ok, want)
		}
	}
	c.put(a, entry{value: "longer", from: 5, to: 12, bytes: 3})
	if got, _ := c.get(a, 11); got != "longer" || c.bytes != 5 {
		t.Errorf("after it was put again: %v with %d bytes kept, want longer with 5", got, c.bytes)
	}
	if _, ok := c.get(place{"production", "a"}, 3); ok {
		t.Error("an entry of staging was found in production")
	}
}

func TestCacheForgetsTheLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	c := newCache(3)
	for i := range int64(3) {
		c.put(place{"e", ""}, entry{value: i, from: i, to: i + 1, bytes: 1})
	}
	c.get(place{"e", ""}, 0)
	c.put(place{"e", ""}, entry{value: int64(3), from: 3, to: 4, bytes: 1})
	for revision, want := range []bool{true, false, true, true} {
		if _, ok := c.get(place{"e", ""}, int64(revision)); ok != want {
			t.Errorf("revision %d is kept: %v, want %v", revision, ok, want)
		}
	}
	c.put(place{"e", "huge"}, entry{from: 1, to: 2, bytes: 4})
	if _, ok := c.get(place{"e", "huge"}, 1); ok || c.bytes != 3 {
		t.Errorf("an entry above the bound is kept: %v, %d bytes, want no and 3", ok, c.bytes)
	}
}

// TestCacheBound puts at random and compares with what must hold at any time.
func TestCacheBound(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	c := newCache(500)
	for range 20_000 {
		at := place{"e", strconv.Itoa(random.IntN(5))}
		from := random.Int64N(50)
		if random.IntN(2) == 0 {
			c.put(at, entry{value: from, from: from, to: from + 1 + random.Int64N(3), bytes: 1 + random.IntN(60)})
		} else if got, ok := c.get(at, from); ok && got.(int64) > from {
			t.Fatalf("get(%v, %d) = an entry from %v", at, from, got)
		}
		if c.bytes > c.limit {
			t.Fatalf("%d bytes kept, bound %d", c.bytes, c.limit)
		}
	}
	sum, elements := 0, 0
	for _, list := range c.by {
		elements += len(list)
		for _, e := range list {
			sum += e.Value.(*cached).bytes
		}
	}
	if sum != c.bytes || elements != c.order.Len() {
		t.Errorf("counted %d bytes in %d entries, the cache says %d in %d", sum, elements, c.bytes, c.order.Len())
	}
}
