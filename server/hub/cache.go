package hub

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
)

// place is a flag of an environment, or the whole of it where flag is empty.
type place struct{ environment, flag string }

// entry is what holds for a place in the revisions [from, to).
type entry struct {
	value    any
	from, to int64
	bytes    int
}

// cache keeps what was read of older revisions, the most recently used first,
// within a bound of bytes. It is safe for concurrent use.
type cache struct {
	limit int

	mu    sync.Mutex
	bytes int
	order *list.List // of *cached, most recently used first
	// by holds the elements of each place, sorted by from.
	by map[place][]*list.Element
}

type cached struct {
	place
	entry
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), by: map[place][]*list.Element{}}
}

// get returns what holds for a place at a revision.
func (c *cache) get(at place, revision int64) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, exact := c.find(at, revision)
	if !exact {
		i-- // the last one that begins before it
	}
	if i < 0 {
		return nil, false
	}
	element := c.by[at][i]
	e := element.Value.(*cached)
	if revision >= e.to {
		return nil, false
	}
	c.order.MoveToFront(element)
	return e.value, true
}

// put keeps e, in the place of one that begins at the same revision, and lets
// go of the least recently used ones beyond the bound. An entry that is larger
// than the bound is not kept.
func (c *cache) put(at place, e entry) {
	if e.bytes > c.limit {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, exact := c.find(at, e.from); exact {
		c.drop(c.by[at][i])
	}
	i, _ := c.find(at, e.from)
	c.by[at] = slices.Insert(c.by[at], i, c.order.PushFront(&cached{at, e}))
	c.bytes += e.bytes
	for c.bytes > c.limit {
		c.drop(c.order.Back())
	}
}

// forget lets go of all places of an environment.
func (c *cache) forget(environment string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for element := c.order.Front(); element != nil; {
		next := element.Next()
		if element.Value.(*cached).environment == environment {
			c.drop(element)
		}
		element = next
	}
}

// size returns how many bytes are kept.
func (c *cache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.bytes)
}

// find returns where in its place an entry is, or would be, that begins at from.
func (c *cache) find(at place, from int64) (int, bool) {
	return slices.BinarySearchFunc(c.by[at], from, func(element *list.Element, from int64) int {
		return cmp.Compare(element.Value.(*cached).from, from)
	})
}

func (c *cache) drop(element *list.Element) {
	e := c.order.Remove(element).(*cached)
	c.bytes -= e.bytes
	i, _ := c.find(e.place, e.from)
	if c.by[e.place] = slices.Delete(c.by[e.place], i, i+1); len(c.by[e.place]) == 0 {
		delete(c.by, e.place)
	}
}
