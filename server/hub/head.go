package hub

import (
	"slices"
	"sync"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// Head is an environment at the revision that was its newest when the head was
// published. It is immutable; what it hands out is shared and must not be
// changed.
type Head struct {
	snapshot    *eval.Snapshot
	digest      string // in hex
	steps       []step
	keys        *guidonv1.PropagationKeys
	next        store.PropagationKey // without its secret
	overrides   *guidonv1.OverrideKeys
	committedAt time.Time
	protected   bool
	// superseded is closed when the next head has been published.
	superseded chan struct{}

	heartbeat *Event

	// encoded holds what watchers asked for, by the revision they have; 0 is
	// nothing, -1 stands for the snapshot alone. Whoever asks first encodes.
	mu      sync.Mutex
	encoded map[int64]func() []*Event
}

// step says what changed after one older revision, up to the next step's.
type step struct {
	from   int64
	digest string // at from
	names  []eval.Name
}

// bytes estimates what the step keeps in memory.
func (s step) bytes() int {
	n := 64
	for _, name := range s.names {
		n += 40 + len(name.Name)
	}
	return n
}

func newHead(s *eval.Snapshot) *Head {
	return &Head{snapshot: s, digest: s.Digest().String(), superseded: make(chan struct{}), heartbeat: heartbeat(s)}
}

// clone returns a head with the same content that has not been published.
func (h *Head) clone() *Head {
	return &Head{
		snapshot: h.snapshot, digest: h.digest, steps: h.steps, keys: h.keys, next: h.next, overrides: h.overrides, committedAt: h.committedAt,
		protected: h.protected, superseded: make(chan struct{}), heartbeat: h.heartbeat,
	}
}

// heartbeat is the event of a head at a snapshot.
func heartbeat(s *eval.Snapshot) *Event {
	return newEvent(&guidonv1.SyncServiceSyncResponse{
		Event: &guidonv1.SyncServiceSyncResponse_Heartbeat{Heartbeat: &guidonv1.Heartbeat{Revision: s.Revision()}},
	})
}

// followedBy returns the head for snapshot, which differs from h in the rows given,
// and forgets old steps so that the rest stays within limit bytes.
func (h *Head) followedBy(snapshot *eval.Snapshot, upserts []eval.Row, deletes []eval.Name, limit int) *Head {
	last := step{from: h.Revision(), digest: h.digest, names: append([]eval.Name(nil), deletes...)}
	for _, row := range upserts {
		last.names = append(last.names, eval.Name{Kind: row.Kind, Name: row.Name})
	}
	next := h.clone()
	next.snapshot, next.digest, next.heartbeat = snapshot, snapshot.Digest().String(), heartbeat(snapshot)
	next.steps = append(next.steps, last) // shared with h, which never looks beyond its own length
	size := 0
	for i, s := range slices.Backward(next.steps) {
		if size += s.bytes(); size > limit {
			next.steps = next.steps[i+1:]
			break
		}
	}
	return next
}

// Revision returns the revision.
func (h *Head) Revision() int64 { return h.snapshot.Revision() }

// Digest returns the snapshot's digest, in hex.
func (h *Head) Digest() string { return h.digest }

// Snapshot returns the snapshot at the revision.
func (h *Head) Snapshot() *eval.Snapshot { return h.snapshot }

// Superseded is closed when a newer head has been published.
func (h *Head) Superseded() <-chan struct{} { return h.superseded }

// Protected reports whether changes to the environment need a reason.
func (h *Head) Protected() bool { return h.protected }

// CommittedAt returns when the revision was committed.
func (h *Head) CommittedAt() time.Time { return h.committedAt }

// Keys returns the keys that sign and verify the guidon header; never nil, and
// empty where the installation has no master key. Two heads with the same keys
// return the same pointer.
func (h *Head) Keys() *guidonv1.PropagationKeys {
	if h.keys == nil {
		return noKeys
	}
	return h.keys
}

// NextKey returns the ID of the propagation key that is being handed out and is
// to sign once everybody has it, and when it was made; empty for none.
func (h *Head) NextKey() (id string, since time.Time) { return h.next.ID, h.next.CreatedAt }

// OverrideKeys returns what verifies override tokens, on the terms of
// [Head.Keys].
func (h *Head) OverrideKeys() *guidonv1.OverrideKeys {
	if h.overrides == nil {
		return noOverrideKeys
	}
	return h.overrides
}

var (
	noKeys         = &guidonv1.PropagationKeys{}
	noOverrideKeys = &guidonv1.OverrideKeys{}
)
