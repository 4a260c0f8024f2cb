package eval

import (
	"iter"
	"math/bits"
	"slices"
)

// flagTable finds flags by key. It is a hash table whose shards the snapshots of
// an environment share, so that a change copies the shard it touches, where a
// map would be copied whole. The zero table is empty.
type flagTable struct {
	shards [][]hashedFlag // a power of two of them, or none
	// own says which shards may be changed, while the table is being made.
	own []bool
}

type hashedFlag struct {
	hash uint32
	flag *Flag
}

// flagsPerShard is how many flags a shard has on average at most.
const flagsPerShard = 8

// with returns a table of the same flags that may be changed, until it is done,
// and has room for so many.
func (t *flagTable) with(room int) flagTable {
	n := 1 << bits.Len(uint(room/flagsPerShard))
	if n <= len(t.shards) {
		return flagTable{slices.Clone(t.shards), make([]bool, len(t.shards))}
	}
	next := flagTable{make([][]hashedFlag, n), make([]bool, n)}
	for flag := range t.all() {
		next.put(flag)
	}
	return next
}

func (t *flagTable) done() { t.own = nil }

func (t *flagTable) shard(hash uint32) int { return int(hash) & (len(t.shards) - 1) }

// get returns the flag of that key, nil when there is none.
func (t *flagTable) get(key string) *Flag {
	if len(t.shards) <= 1 {
		for _, shard := range t.shards {
			for _, f := range shard {
				if f.flag.key == key {
					return f.flag
				}
			}
		}
		return nil
	}
	hash := hashKey(key)
	for _, f := range t.shards[t.shard(hash)] {
		if f.hash == hash && f.flag.key == key {
			return f.flag
		}
	}
	return nil
}

// put puts a flag in the place of the one of its key.
func (t *flagTable) put(flag *Flag) {
	shard, i, hash := t.find(flag.key)
	if i < 0 {
		*shard = append(*shard, hashedFlag{hash, flag})
	} else {
		(*shard)[i].flag = flag
	}
}

func (t *flagTable) remove(key string) {
	if shard, i, _ := t.find(key); i >= 0 {
		*shard = slices.Delete(*shard, i, i+1)
	}
}

// find returns the shard of a key, now the table's own, and where in it the flag
// of that key stands, or -1.
func (t *flagTable) find(key string) (shard *[]hashedFlag, i int, hash uint32) {
	hash = hashKey(key)
	at := t.shard(hash)
	shard = &t.shards[at]
	if !t.own[at] {
		*shard, t.own[at] = slices.Clone(*shard), true
	}
	return shard, slices.IndexFunc(*shard, func(f hashedFlag) bool { return f.flag.key == key }), hash
}

// all yields the flags, in no order.
func (t *flagTable) all() iter.Seq[*Flag] {
	return func(yield func(*Flag) bool) {
		for _, shard := range t.shards {
			for _, f := range shard {
				if !yield(f.flag) {
					return
				}
			}
		}
	}
}
