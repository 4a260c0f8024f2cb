package store

import (
	"context"
	"hash/fnv"
	"slices"
)

// queues line up the writers of this process before they ask Postgres for the
// lock of an environment. Waiting there costs a connection each, and a crowd
// on one row slows down whoever is next, in no fair order; here it costs a
// goroutine. Two are let through: one works while the other is already
// waiting for its lock. The lock itself is the one in Postgres.
type queues [64]chan struct{}

const letThrough = 2

func newQueues() *queues {
	var q queues
	for i := range q {
		q[i] = make(chan struct{}, letThrough)
	}
	return &q
}

// enter waits for a turn in each environment and returns how to leave them.
// Environments share a queue by their hash; queues are entered in one order,
// so that nobody waits in a circle.
func (q *queues) enter(ctx context.Context, environments []string) (leave func(), err error) {
	var turns []int
	for _, name := range environments {
		h := fnv.New32a()
		h.Write([]byte(name))
		turns = append(turns, int(h.Sum32()%uint32(len(q))))
	}
	turns = slices.Compact(slices.Sorted(slices.Values(turns)))
	for i, turn := range turns {
		select {
		case q[turn] <- struct{}{}:
		case <-ctx.Done():
			q.leave(turns[:i])
			return nil, ctx.Err()
		}
	}
	return func() { q.leave(turns) }, nil
}

func (q *queues) leave(turns []int) {
	for _, turn := range turns {
		<-q[turn]
	}
}
