package auth

import (
	"context"
	"sync"
	"time"
)

// Hold is one call's interest in its key. See [Authenticator.Hold].
type Hold struct {
	auth *Authenticator
	of   *held // nil for a call without a key
	gone sync.Once
}

// held is a key that calls which take long go on with.
type held struct {
	hash  [32]byte
	users int // under the authenticator's lock
	stop  context.CancelFunc
	// lost ends when the key is not good any more, for the reason that is its cause.
	lost context.Context //nolint:containedctx // a signal to calls, not a scope of work
	lose context.CancelCauseFunc
}

// Hold is for calls that take long: while there is one that goes on with a key,
// the key is verified again and again, once for all of them, so that none waits
// for that. Every caller names the same interval. The caller must release what
// it gets.
func (a *Authenticator) Hold(p Principal, every time.Duration) *Hold {
	if p.text == nil {
		return &Hold{auth: a} // there is no key to be revoked
	}
	hash := p.text.Hash()
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.held[hash]
	if h == nil {
		ctx, stop := context.WithCancel(context.Background())
		h = &held{hash: hash, stop: stop}
		h.lost, h.lose = context.WithCancelCause(context.Background())
		a.held[hash] = h
		go a.watch(ctx, h, p, every) // until the last one releases it
	}
	h.users++
	return &Hold{auth: a, of: h}
}

// watch verifies a key again and again, until it is not good any more or nobody
// holds it.
func (a *Authenticator) watch(ctx context.Context, h *held, p Principal, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.Recheck(ctx, p); err != nil && ctx.Err() == nil {
			a.mu.Lock()
			a.forget(h) // whoever comes next with the key has it verified anew
			a.mu.Unlock()
			h.lose(err)
			return
		}
	}
}

// forget lets go of a key that is held. It is called under the lock.
func (a *Authenticator) forget(h *held) {
	if a.held[h.hash] == h {
		delete(a.held, h.hash)
	}
	h.stop()
}

// Lost is closed when the key is not good any more.
func (h *Hold) Lost() <-chan struct{} {
	if h.of == nil {
		return nil
	}
	return h.of.lost.Done()
}

// Context returns one that ends with ctx, and when the key is not good any more.
// Whoever asked for it must call what comes with it.
func (h *Hold) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if h.of != nil {
		unbind := context.AfterFunc(h.of.lost, cancel)
		return ctx, func() { unbind(); cancel() }
	}
	return ctx, cancel
}

// Err says why the key is not good any more; nil while it is.
func (h *Hold) Err() error {
	if h.of == nil {
		return nil
	}
	return context.Cause(h.of.lost)
}

// Release ends the interest. It may be called again.
func (h *Hold) Release() {
	h.gone.Do(func() {
		if h.of == nil {
			return
		}
		h.auth.mu.Lock()
		defer h.auth.mu.Unlock()
		if h.of.users--; h.of.users == 0 {
			h.auth.forget(h.of)
		}
	})
}
