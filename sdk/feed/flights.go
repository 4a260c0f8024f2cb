package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// fetchWithin bounds one question to the server. It is longer than what any
// caller waits, so that over a slow network the answer is there for the next.
const fetchWithin = 2 * time.Second

var errEnded = errors.New("the feed has ended")

// flights are the questions to the server that are under way. Callers with the
// same question share one, which goes on when they have left. The zero value is
// none.
type flights[K comparable, V any] struct {
	mu      sync.Mutex
	under   map[K]*flight[V]
	ended   bool
	pending sync.WaitGroup
}

// flight is a question under way; its results are set before done is closed.
type flight[V any] struct {
	cancel context.CancelFunc
	done   chan struct{}
	value  V
	err    error
}

// fetch asks and waits for the answer until ctx ends. Whatever the error, it is
// ErrUnavailable. Failures are not kept: the next caller asks again.
func (f *flights[K, V]) fetch(ctx context.Context, id K, ask func(context.Context, K) (V, error)) (V, error) {
	current, err := f.join(ctx, id, ask)
	if err == nil {
		select {
		case <-current.done:
			return current.value, current.err
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
	var none V
	return none, err
}

// join finds the flight of a question, or begins it.
func (f *flights[K, V]) join(ctx context.Context, id K, ask func(context.Context, K) (V, error)) (*flight[V], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errEnded)
	}
	current := f.under[id]
	if current != nil {
		return current, nil
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
	current = &flight[V]{cancel: cancel, done: make(chan struct{})}
	if f.under == nil {
		f.under = map[K]*flight[V]{}
	}
	f.under[id] = current
	f.pending.Go(func() {
		defer cancel()
		value, err := ask(asking, id)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.under, id)
		current.value, current.err = value, err
		close(current.done)
	})
	return current, nil
}

// end refuses further questions, stops those under way and waits for them.
func (f *flights[K, V]) end() {
	f.mu.Lock()
	f.ended = true
	for _, under := range f.under {
		under.cancel()
	}
	f.mu.Unlock()
	f.pending.Wait()
}
