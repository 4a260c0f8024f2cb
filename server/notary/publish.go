package notary

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Publication is a checkpoint that others are to remember.
type Publication struct {
	// Environment is empty for the installation's chain.
	Environment string
	// Size is how many entries it covers.
	Size int64
	Note string
}

// Destination is where checkpoints are published, out of reach of whoever could
// rewrite the database.
type Destination interface {
	// Publish returns nil once p is there to stay. It is called again with the
	// same, and by every replica.
	Publish(ctx context.Context, p Publication) error
	// String names the destination in the log, without what is secret of it.
	String() string
}

// maxPause bounds the time between two attempts, in units of [Config.Retry].
const maxPause = 64

// publisher brings the newest checkpoint of each chain to one destination, in a
// goroutine of its own: what is slow or gone there holds up nothing here. What
// waits is at most one for each chain, for the newest says what the older ones
// did.
type publisher struct {
	to      Destination
	log     *slog.Logger
	retry   time.Duration
	counted *counters
	news    chan struct{} // holds one while something new waits

	mu      sync.Mutex
	offered map[string]string // the note that was offered last, by chain
	waiting map[string]Publication
}

func newPublisher(to Destination, cfg Config, counted *counters) *publisher {
	return &publisher{
		to: to, log: cfg.Log, retry: cfg.Retry, counted: counted, news: make(chan struct{}, 1),
		offered: map[string]string{}, waiting: map[string]Publication{},
	}
}

// offer has the newest checkpoint of a chain published, unless it was offered
// before.
func (p *publisher) offer(c Publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offered[c.Environment] == c.Note {
		return
	}
	p.offered[c.Environment], p.waiting[c.Environment] = c.Note, c
	select {
	case p.news <- struct{}{}:
	default: // it will look anyway
	}
}

// next is one that waits, if any.
func (p *publisher) next() (Publication, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.waiting {
		return c, true
	}
	return Publication{}, false
}

// done takes what was published off the list, unless a newer one took its place.
func (p *publisher) done(c Publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[c.Environment] == c {
		delete(p.waiting, c.Environment)
	}
}

func (p *publisher) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// run publishes until ctx ends. What then waits is published after the next
// start, which offers the newest of each chain again.
func (p *publisher) run(ctx context.Context) {
	failures := 0
	for {
		c, ok := p.next()
		if !ok {
			select {
			case <-p.news:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := p.to.Publish(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			p.done(c)
			p.counted.published.Add(1)
			if failures > 0 {
				p.log.LogAttrs(ctx, slog.LevelInfo, "audit checkpoints are published again",
					slog.String("destination", p.to.String()), slog.Int("failures", failures))
			}
			failures = 0
			continue
		}
		p.counted.unpublished.Add(1)
		failures++
		pause := p.pause(failures)
		if failures == 1 {
			p.log.LogAttrs(ctx, slog.LevelWarn, "cannot publish audit checkpoints",
				slog.String("destination", p.to.String()), slog.Any("error", err), slog.Duration("retry_in", pause))
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// pause is how long to wait after so many failures: twice as long each time, up
// to a bound, less a random part so that replicas do not come together.
func (p *publisher) pause(failures int) time.Duration {
	most := p.retry * time.Duration(min(1<<min(failures-1, 30), maxPause))
	return most - rand.N(most/2+1) //nolint:gosec // spreads load, guards nothing
}
