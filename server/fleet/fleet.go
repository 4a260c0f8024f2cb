package fleet

import (
	"cmp"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

const (
	// shareTimeout bounds one write to, and one read from, the other replicas.
	shareTimeout = 5 * time.Second
	// remembered is for how long an instance that is not connected here is known:
	// longer than the time between the acks of one that is quiet.
	remembered = 3 * time.Minute
	// relayed is for how long what a relay says of its clients counts.
	relayed = 30 * time.Second
	// maxRelays bounds the relays of an environment.
	maxRelays = 100
	// polled is for how long an instance that polls counts as connected.
	polled = time.Minute
	// maxAcks, maxKeys and maxText bound what is kept of one instance.
	maxAcks, maxKeys, maxText = 8, 16, 100
	// maxEmergencies bounds the emergencies of an environment that are counted.
	maxEmergencies = 256
	// oldest bounds how long ago an instance may say that it took something.
	oldest = time.Hour
)

// Config says whom a fleet tells.
type Config struct {
	// Store is where replicas meet. Defaults to none: this replica is alone.
	Store *store.DB
	// Replica tells this process from the others. Defaults to something random.
	Replica string
	// Interval is how often the other replicas are told. Defaults to 3s.
	Interval time.Duration
	// Limit bounds the instances known at a time. Defaults to 25,000.
	Limit int
	// Log gets one line when the others cannot be told, and one when they can
	// again. Defaults to discarding.
	Log *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Fleet is what one replica knows of all instances. Its methods are safe for
// concurrent use.
type Fleet struct {
	cfg Config

	mu           sync.Mutex
	environments map[string]*environment
	known        int // instances in all environments

	told    told // owned by Run
	counted counters
}

// environment is what this replica heard in one.
type environment struct {
	instances map[string]*instance
	relays    map[string]behind // by the relay's own instance
	pierced   map[int64]int64
	programs  map[program]int32 // streams of other protocols
}

// instance is what this replica heard of one.
type instance struct {
	client      *guidonv1.Client
	protocol    string
	streams     int
	connectedAt time.Time
	heardAt     time.Time
	ackedAt     time.Time
	digest      string
	acks        []ack // ascending
	keys        []string
}

// ack is a revision that an instance took. At is zero for one that it had when
// it connected.
type ack struct {
	revision int64
	at       time.Time
}

type counters struct{ acks, refused, shared, failed atomic.Int64 }

// Stats counts what a fleet did since it was made.
type Stats struct {
	// Acks is how many were heard, Refused how many instances were not taken
	// note of because there were too many.
	Acks, Refused int64
	// Shared is how often the other replicas were told, Failed how often in vain.
	Shared, Failed int64
}

// Stats returns the counts so far.
func (f *Fleet) Stats() Stats {
	c := &f.counted
	return Stats{Acks: c.acks.Load(), Refused: c.refused.Load(), Shared: c.shared.Load(), Failed: c.failed.Load()}
}

// New returns a fleet of nobody. It starts nothing; see [Fleet.Run].
func New(cfg Config) *Fleet {
	cfg.Replica = cmp.Or(cfg.Replica, rand.Text()[:12])
	cfg.Interval = cmp.Or(cfg.Interval, 3*time.Second)
	cfg.Limit = cmp.Or(cfg.Limit, 25_000)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Fleet{cfg: cfg, environments: map[string]*environment{}}
}

// Connect notes a stream of an instance that holds a revision, 0 for none, and
// returns what notes its end.
func (f *Fleet) Connect(env string, client *guidonv1.Client, revision int64, digest string) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.find(env, client)
	if i == nil {
		return func() {}
	}
	now := f.cfg.Now()
	i.connect("sync", now)
	i.streams++
	i.hold(revision, digest, time.Time{})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		i.streams--
		i.heardAt = f.cfg.Now()
	}
}

// Poll notes that an instance asked for news and holds a revision.
func (f *Fleet) Poll(env string, client *guidonv1.Client, revision int64, digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.find(env, client); i != nil {
		i.connect("poll", f.cfg.Now())
		i.hold(revision, digest, time.Time{})
	}
}

// Ack notes what an instance says that it holds.
func (f *Fleet) Ack(env string, said *guidonv1.SyncServiceAckRequest) {
	f.counted.acks.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.find(env, said.GetClient())
	if i == nil {
		return
	}
	now := f.cfg.Now()
	i.heardAt, i.ackedAt = now, now
	i.hold(said.GetRevision(), said.GetDigest(), now.Add(-min(max(said.GetAge().AsDuration(), 0), oldest)))
	i.keys = nil
	for _, id := range said.GetPropagationKeyIds()[:min(len(said.GetPropagationKeyIds()), maxKeys)] {
		i.keys = append(i.keys, clip(id))
	}
	f.environments[env].pierce(said.GetPierced())
}

// find returns what is known of an instance, which may be nothing yet; nil if
// there are too many. It is called under the lock.
func (f *Fleet) find(env string, client *guidonv1.Client) *instance {
	e := f.environment(env)
	name := clip(client.GetInstance())
	i := e.instances[name]
	if i == nil {
		if f.known >= f.cfg.Limit {
			f.counted.refused.Add(1)
			return nil
		}
		f.known++
		i = &instance{}
		e.instances[name] = i
	}
	if i.client == nil || i.client.GetVersion() != client.GetVersion() || i.client.GetService() != client.GetService() {
		i.client = &guidonv1.Client{
			Service: clip(client.GetService()), Instance: name, Sdk: clip(client.GetSdk()), Version: clip(client.GetVersion()),
		}
	}
	return i
}

// environment is what is heard in one. It is called under the lock.
func (f *Fleet) environment(env string) *environment {
	e := f.environments[env]
	if e == nil {
		e = &environment{
			instances: map[string]*instance{}, relays: map[string]behind{}, pierced: map[int64]int64{}, programs: map[program]int32{},
		}
		f.environments[env] = e
	}
	return e
}

// forget lets go of who has not been heard for long. It is called under the lock.
func (f *Fleet) forget(now time.Time) {
	for _, e := range f.environments {
		for name, said := range e.relays {
			if now.Sub(said.heardAt) > relayed {
				delete(e.relays, name)
			}
		}
		for name, i := range e.instances {
			if i.streams == 0 && now.Sub(i.heardAt) > remembered {
				delete(e.instances, name)
				f.known--
			}
		}
	}
}

func (i *instance) connect(protocol string, now time.Time) {
	if !i.connected(now) || i.protocol != protocol {
		i.connectedAt = now
	}
	i.protocol, i.heardAt = protocol, now
}

func (i *instance) connected(now time.Time) bool {
	return i.streams > 0 || i.protocol == "poll" && now.Sub(i.heardAt) <= polled
}

// hold notes a revision. One that is not newer than the last adds nothing, but
// for the time at which it was taken.
func (i *instance) hold(revision int64, digest string, at time.Time) {
	if revision <= 0 {
		return
	}
	if n := len(i.acks); n > 0 && i.acks[n-1].revision >= revision {
		if last := &i.acks[n-1]; last.revision == revision && last.at.IsZero() {
			last.at = at
		}
		return
	}
	i.digest = clip(digest)
	if len(i.acks) == maxAcks {
		copy(i.acks, i.acks[1:])
		i.acks = i.acks[:maxAcks-1]
	}
	i.acks = append(i.acks, ack{revision, at})
}

// pierce adds to what emergencies changed under way, and lets go of the oldest.
func (e *environment) pierce(requests map[int64]int64) {
	for revision, n := range requests {
		if n > 0 && revision > 0 {
			e.pierced[revision] += n
		}
	}
	for len(e.pierced) > maxEmergencies {
		first := int64(0)
		for revision := range e.pierced {
			if first == 0 || revision < first {
				first = revision
			}
		}
		delete(e.pierced, first)
	}
}

// clip bounds what a client says of itself, and makes it text.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.Clone(strings.ToValidUTF8(text, "?"))
}
