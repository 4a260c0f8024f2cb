package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store"
)

// Environment is one environment as this replica knows it. It is safe for
// concurrent use. It satisfies [propagate.Snapshots].
type Environment struct {
	name string
	hub  *Hub
	// head is swapped by the looking goroutine alone.
	head atomic.Pointer[Head]
	// keyring and propagator follow the guidon header; see propagator.go.
	keyring    propagate.Keyring
	propagator *propagate.Propagator
	// parts are heads for callers that see some projects only.
	parts parts
	// position is where it stands among the others.
	position atomic.Int64
	// lookedAt is when head was last known to be the newest, in Unix nanoseconds.
	lookedAt atomic.Int64
	// claimed is the newest revision that a client proved; see Claim.
	claimed atomic.Pointer[claim]
	// row is the environment as the database has it.
	row atomic.Pointer[store.Environment]
	// fault is why the environment cannot be brought up to the database, ever.
	fault atomic.Pointer[error]
}

var _ propagate.Snapshots = (*Environment)(nil)

func newEnvironment(h *Hub, name string) *Environment {
	e := &Environment{name: name, hub: h}
	e.propagator = e.newPropagator()
	return e
}

// Name returns the environment's name.
func (e *Environment) Name() string { return e.name }

// Row is what the database says of the environment besides its rows; little
// where the hub follows another server.
func (e *Environment) Row() store.Environment {
	if row := e.row.Load(); row != nil {
		return *row
	}
	return store.Environment{Name: e.name}
}

// Head returns the newest revision. It needs no Postgres, and is never nil for
// an environment that [Hub.Environment] gave.
func (e *Environment) Head() *Head { return e.head.Load() }

// Snapshot returns the newest snapshot, on the same terms as [Environment.Head].
func (e *Environment) Snapshot() *eval.Snapshot { return e.Head().snapshot }

// Age is how long ago the newest snapshot was last known to be the newest.
func (e *Environment) Age() time.Duration {
	return e.hub.cfg.Now().Sub(time.Unix(0, e.lookedAt.Load()))
}

// Watch yields the newest revision at once, and then each newer one as it is
// published, until ctx ends. After idle without a newer one it yields the same
// again; an idle of 0 means never. A slow caller skips revisions; it never sees
// them out of order.
func (e *Environment) Watch(ctx context.Context, idle time.Duration) iter.Seq[*Head] {
	return func(yield func(*Head) bool) {
		var beat <-chan time.Time
		if idle > 0 {
			ticker := time.NewTicker(idle)
			defer ticker.Stop()
			beat = ticker.C
		}
		for ctx.Err() == nil {
			head := e.Head()
			if !yield(head) {
				return
			}
			select {
			case <-ctx.Done():
			case <-head.superseded:
			case <-beat:
			}
		}
	}
}

// Await makes the hub look, and returns once the environment is at revision or
// a newer one, or ctx ends. The error is then [ErrBehind].
func (e *Environment) Await(ctx context.Context, revision int64) error {
	for asked := false; ; asked = true {
		head := e.Head()
		if head.Revision() >= revision {
			return nil
		}
		if !asked {
			e.hub.Look()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of environment %q; this replica is at %d", ErrBehind, revision, e.name, e.Head().Revision())
		case <-head.superseded:
		}
	}
}

// regress notes that the database is behind what was served.
func (e *Environment) regress(err error) { e.fault.Store(&err) }

// advance brings the environment to what the database says it is. Only the
// looking goroutine calls it.
func (e *Environment) advance(ctx context.Context, row store.Environment, refreshKeys bool) error {
	old := e.head.Load()
	if old != nil && row.Revision < old.Revision() {
		e.regress(fmt.Errorf("%w: it is at revision %d, older than revision %d, which was served", store.ErrNotRecovered, row.Revision, old.Revision()))
		return nil
	}
	e.fault.Store(nil)
	if row.Moved {
		e.regress(store.ErrNotRecovered)
	}
	e.row.Store(&row)
	head, err := e.next(ctx, old, row.Revision)
	if err != nil {
		return err
	}
	var keysErr error
	if refreshKeys {
		head, keysErr = e.withKeys(ctx, head)
	}
	if head != old || head.protected != row.Protected {
		head = head.clone()
		head.protected = row.Protected
		if head.Revision() == row.Revision {
			head.committedAt = row.UpdatedAt
		}
		if old == nil || old.keys != head.keys {
			keysErr = errors.Join(keysErr, e.useKeys(head))
		}
		e.publish(head)
	}
	e.lookedAt.Store(e.hub.cfg.Now().UnixNano())
	return keysErr
}

// publish makes head the newest, and wakes who waits for that.
func (e *Environment) publish(head *Head) {
	if old := e.head.Swap(head); old != nil {
		close(old.superseded)
	}
}

// next returns the head at revision: old itself if it is at it already.
func (e *Environment) next(ctx context.Context, old *Head, revision int64) (*Head, error) {
	db := e.hub.source
	if old == nil {
		rows, revision, err := db.SnapshotRows(ctx, e.name, 0)
		if err != nil {
			return nil, err
		}
		snapshot, err := eval.Compile(revision, rows)
		if err != nil {
			return nil, err
		}
		return newHead(snapshot), nil
	}
	if revision == old.Revision() {
		return old, nil
	}
	if store.Epoch(revision) != store.Epoch(old.Revision()) {
		return e.again(ctx, old)
	}
	upserts, deletes, err := db.Delta(ctx, e.name, old.Revision(), revision)
	if errors.Is(err, store.ErrRevisionCollected) {
		return e.again(ctx, old) // this replica has not heard of the database for that long
	}
	if err != nil {
		return nil, err
	}
	snapshot, err := old.snapshot.With(revision, upserts, deletes)
	if err != nil {
		return nil, err
	}
	e.retire(old.snapshot, upserts, deletes)
	return old.followedBy(snapshot, upserts, deletes, e.hub.cfg.DeltaBytes), nil
}

// again reads the environment anew, after a recovery: what was lost may be part
// of the old head and of what is remembered.
func (e *Environment) again(ctx context.Context, old *Head) (*Head, error) {
	rows, revision, err := e.hub.source.SnapshotRows(ctx, e.name, 0)
	if err != nil {
		return nil, err
	}
	snapshot, err := eval.Compile(revision, rows)
	if err != nil {
		return nil, err
	}
	e.hub.history.kept.forget(e.name)
	head := old.clone()
	head.snapshot, head.digest, head.steps, head.heartbeat = snapshot, snapshot.Digest().String(), nil, heartbeat(snapshot)
	return head, nil
}

// Claim notes that a client proved that a revision was published. If the
// database does not have it, it lost commits: this replica is not ready until
// they are back or somebody recovers. It goes on serving and taking changes,
// since the client may be one of another installation. What is not within one
// epoch proves nothing.
func (e *Environment) Claim(revision int64) {
	head := e.Head().Revision()
	if revision <= head || revision > head+maxClaim {
		return
	}
	for known := e.claimed.Load(); known == nil || known.revision < revision; known = e.claimed.Load() {
		if e.claimed.CompareAndSwap(known, &claim{revision, e.hub.cfg.Now().UnixNano()}) {
			break
		}
	}
	e.hub.Look()
}

// claim is a revision that a client proved, and when, in Unix nanoseconds.
type claim struct{ revision, at int64 }

// lost returns an error if a client proved a revision that the database, asked
// since then, does not have.
func (e *Environment) lost() error {
	c := e.claimed.Load()
	if c == nil || e.lookedAt.Load() <= c.at || c.revision <= e.Head().Revision() {
		return nil
	}
	return fmt.Errorf("%w: a client proved revision %d, and the database is at %d", store.ErrNotRecovered, c.revision, e.Head().Revision())
}

// maxClaim bounds how far ahead of the database a client can have been.
const maxClaim = 1 << 20

// Fault returns why the environment cannot be brought up to the database and
// must not be written to; nil if it can.
func (e *Environment) Fault() error {
	if fault := e.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// withKeys reads the propagation keys, and what verifies override tokens.
func (e *Environment) withKeys(ctx context.Context, head *Head) (*Head, error) {
	keys, err := e.hub.source.Keys(ctx, e.name)
	if keys.Propagation == nil || err != nil {
		return head, err
	}
	sameKeys, sameOverrides := proto.Equal(head.keys, keys.Propagation), proto.Equal(head.overrides, keys.Overrides)
	if sameKeys && sameOverrides {
		return head, nil
	}
	head = head.clone()
	if !sameKeys {
		head.keys, head.next = keys.Propagation, keys.Next
	}
	if !sameOverrides {
		head.overrides = keys.Overrides
	}
	return head, nil
}
