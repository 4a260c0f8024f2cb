package notary

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
)

// Config says what a notary signs for, and when.
type Config struct {
	// Store holds the log and the key. Required.
	Store *store.DB
	// Log gets each checkpoint that this replica made, at Info, and a chain
	// that is broken at Error. Defaults to discarding.
	Log *slog.Logger
	// Entries is how many wait at the most. Defaults to 1,000.
	Entries int64
	// Wait is how long an entry waits at the most, but for Interval. Defaults
	// to 45s.
	Wait time.Duration
	// Interval is how often the notary looks. Defaults to 5s.
	Interval time.Duration
	// Publish is where the newest checkpoint of each chain is published besides,
	// whichever replica made it. Signing waits for none of them. Defaults to
	// nowhere.
	Publish []Destination
	// Retry is how long to wait before what failed is published again; it doubles
	// with each failure, up to 64 times as long. Defaults to 1s.
	Retry time.Duration
}

const (
	// roundTimeout bounds one look at all chains.
	roundTimeout = time.Minute
	// proofTimeout bounds the making of one proof.
	proofTimeout = 2 * time.Second
	// maxProofs bounds the proofs that are kept: those of one newest checkpoint,
	// for everybody who remembers the same older one.
	maxProofs = 256
)

// Notary signs and remembers. Its methods are safe for concurrent use.
type Notary struct {
	cfg    Config
	newest atomic.Pointer[map[string]*Checkpoint]
	// turn lets one stream at a time use the database: thousands may begin at
	// once, and most of them need the same.
	turn       chan struct{}
	broken     map[string]string // the finding by chain, owned by Run
	publishers []*publisher
	counted    counters
}

type counters struct{ made, failed, published, unpublished atomic.Int64 }

// Checkpoint is the newest of one chain.
type Checkpoint struct {
	Note, Verifier string
	size           int64

	mu     sync.Mutex
	proofs map[int64][]checkpoint.Hash
}

// Size is the number of entries that it covers.
func (c *Checkpoint) Size() int64 { return c.size }

// Stats counts what a notary did since it was made.
type Stats struct {
	// Made is how many checkpoints this replica signed; Failed how many it
	// could not sign because the chain was broken or the database away.
	Made, Failed int64
	// Published is how many were published, over all destinations;
	// PublishFailed how often one was not, and Waiting how many wait for that
	// now.
	Published, PublishFailed, Waiting int64
}

// New returns a notary that knows nothing yet. It starts nothing; see
// [Notary.Run].
func New(cfg Config) *Notary {
	cfg.Entries = cmp.Or(cfg.Entries, 1000)
	cfg.Wait = cmp.Or(cfg.Wait, 45*time.Second)
	cfg.Interval = cmp.Or(cfg.Interval, 5*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notary{cfg: cfg, turn: make(chan struct{}, 1), broken: map[string]string{}}
	n.newest.Store(&map[string]*Checkpoint{})
	for _, to := range cfg.Publish {
		n.publishers = append(n.publishers, newPublisher(to, cfg, &n.counted))
	}
	return n
}

// Stats returns the counts so far.
func (n *Notary) Stats() Stats {
	s := Stats{
		Made: n.counted.made.Load(), Failed: n.counted.failed.Load(),
		Published: n.counted.published.Load(), PublishFailed: n.counted.unpublished.Load(),
	}
	for _, p := range n.publishers {
		s.Waiting += int64(p.len())
	}
	return s
}

// Run signs what waits, and publishes it, until ctx ends, and returns nil. A database that is away
// is tried again; an installation without a master key signs nothing.
func (n *Notary) Run(ctx context.Context) error {
	var publishing sync.WaitGroup
	defer publishing.Wait()
	for _, p := range n.publishers {
		publishing.Go(func() { p.run(ctx) })
	}
	tick := time.NewTicker(n.cfg.Interval)
	defer tick.Stop()
	failed := false
	for {
		err := n.round(store.Background(ctx))
		switch {
		case err == nil && failed:
			n.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "audit checkpoints are made again")
		case errors.Is(err, store.ErrNoMasterKey):
			<-ctx.Done()
		case err != nil && !failed && ctx.Err() == nil:
			n.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "cannot make audit checkpoints", slog.Any("error", err))
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round looks at each chain once.
func (n *Notary) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	key, err := n.cfg.Store.CheckpointKey(ctx)
	if err != nil {
		return err
	}
	chains, err := n.cfg.Store.Chains(ctx)
	if err != nil {
		return err
	}
	var failures []error
	for i, c := range chains {
		waiting := c.Head.Seq - c.Checkpoint.Head.Seq
		if waiting < n.cfg.Entries && (waiting <= 0 || c.Waiting < n.cfg.Wait) {
			continue
		}
		made, err := n.sign(ctx, key, c)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		chains[i].Checkpoint = made
	}
	n.keep(key, chains)
	for _, c := range chains {
		if newest := c.Checkpoint; newest.Head.Seq > 0 {
			for _, p := range n.publishers {
				p.offer(Publication{c.Environment, newest.Head.Seq, newest.Note})
			}
		}
	}
	return errors.Join(failures...)
}

// keep has the newest checkpoints of all chains at hand.
func (n *Notary) keep(key checkpoint.Key, chains []store.Chain) {
	known := *n.newest.Load()
	next := make(map[string]*Checkpoint, len(chains))
	for _, c := range chains {
		size := c.Checkpoint.Head.Seq
		if size == 0 {
			continue
		}
		next[c.Environment] = known[c.Environment]
		if held := next[c.Environment]; held == nil || held.size != size {
			next[c.Environment] = &Checkpoint{
				Note: c.Checkpoint.Note, Verifier: key.VerifierText(), size: size, proofs: map[int64][]checkpoint.Hash{},
			}
		}
	}
	n.newest.Store(&next)
}

// sign makes a checkpoint, and tells of a chain that is broken: once for each
// finding.
func (n *Notary) sign(ctx context.Context, key checkpoint.Key, c store.Chain) (store.Checkpoint, error) {
	made, err := n.cfg.Store.Checkpoint(ctx, key, c)
	if err == nil {
		n.counted.made.Add(1)
		delete(n.broken, c.Environment)
		n.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "audit checkpoint", slog.String("environment", c.Environment),
			slog.Int64("entries", made.Head.Seq), slog.String("note", made.Note), slog.String("verifier", key.VerifierText()))
		return made, nil
	}
	n.counted.failed.Add(1)
	if _, ok := errors.AsType[*audit.BrokenError](err); ok && n.broken[c.Environment] != err.Error() {
		n.broken[c.Environment] = err.Error()
		n.cfg.Log.LogAttrs(ctx, slog.LevelError, "audit log is broken and is not signed any more", slog.Any("error", err))
	}
	return made, err
}

// Newest returns the newest checkpoint of an environment's chain; nil if there
// is none. For somebody who remembers one of more entries than this replica has
// seen, it asks the database first: if that has no more, neither has the log.
func (n *Notary) Newest(ctx context.Context, environment string, remembered int64) *Checkpoint {
	newest := (*n.newest.Load())[environment]
	if remembered <= 0 || newest != nil && newest.size >= remembered {
		return newest
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	if !n.take(ctx) {
		return nil
	}
	defer n.give()
	key, err := n.cfg.Store.CheckpointKey(ctx)
	if err != nil {
		return nil
	}
	chains, err := n.cfg.Store.Chains(ctx)
	if err != nil {
		return nil
	}
	n.keep(key, chains)
	return (*n.newest.Load())[environment]
}

// take waits for its turn to use the database, and reports whether it had it.
func (n *Notary) take(ctx context.Context) bool {
	select {
	case n.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Notary) give() { <-n.turn }

// Prove returns the proof from the tree of older entries to a checkpoint, and
// whether there is one: it needs Postgres unless somebody asked before.
func (n *Notary) Prove(ctx context.Context, environment string, c *Checkpoint, older int64) ([]checkpoint.Hash, bool) {
	if older <= 0 || older >= c.size {
		return nil, true
	}
	if proof, ok := c.proof(older); ok {
		return proof, true
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	if !n.take(ctx) {
		return nil, false
	}
	defer n.give()
	if proof, ok := c.proof(older); ok {
		return proof, true
	}
	proof, err := n.cfg.Store.ProveCheckpoint(ctx, environment, older, c.size)
	if err != nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.proofs) < maxProofs {
		c.proofs[older] = proof
	}
	return proof, true
}

func (c *Checkpoint) proof(older int64) ([]checkpoint.Hash, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	proof, ok := c.proofs[older]
	return proof, ok
}
