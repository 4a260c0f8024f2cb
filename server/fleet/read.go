package fleet

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/store"
)

// silent is how many intervals a replica may be silent for before those that it
// had connected no longer count.
const silent = 5

// Count is how many of the connected instances something holds for.
type Count struct{ Held, Connected int }

// All reports whether it holds for everybody who is connected.
func (c Count) All() bool { return c.Held == c.Connected }

// Ack is what became of a revision at one connected instance.
type Ack struct {
	Service, Instance string
	// Held says that the instance holds the revision or a newer one.
	Held bool
	// At is when it took the revision, or the first newer one that it told of;
	// zero if it had that when it connected, or if that was long ago.
	At time.Time
}

// Instances returns who is connected, to any replica, in an environment ("" for
// all), sorted by environment, service and instance. If the others cannot be
// asked, it returns those of this replica with the error, which is
// [store.ErrUnavailable].
func (f *Fleet) Instances(ctx context.Context, env string) ([]*guidonv1.Instance, error) {
	all, err := f.gather(ctx, env)
	out := slices.DeleteFunc(all.instances, func(i *guidonv1.Instance) bool { return i.GetConnectedAt() == nil })
	slices.SortFunc(out, byName)
	return out, err
}

// HoldKey returns how many of the instances that are connected in an environment
// said that they hold a propagation key.
func (f *Fleet) HoldKey(ctx context.Context, env, id string) (Count, error) {
	connected, err := f.Instances(ctx, env)
	count := Count{Connected: len(connected)}
	for _, i := range connected {
		if slices.Contains(i.GetPropagationKeyIds(), id) {
			count.Held++
		}
	}
	return count, err
}

// Acks returns what became of a revision at each instance that is connected in
// an environment.
func (f *Fleet) Acks(ctx context.Context, env string, revision int64) ([]Ack, error) {
	connected, err := f.Instances(ctx, env)
	out := make([]Ack, 0, len(connected))
	for _, i := range connected {
		a := Ack{Service: i.GetService(), Instance: i.GetInstance(), Held: i.GetRevision() >= revision}
		// The first ack at or beyond the revision tells when it was taken, if
		// none before it was forgotten.
		if acks := i.GetAcks(); a.Held {
			n := slices.IndexFunc(acks, func(a *guidonv1.Acknowledged) bool { return a.GetRevision() >= revision })
			if n > 0 || n == 0 && len(acks) < maxAcks {
				if at := acks[n].GetAppliedAt(); at != nil {
					a.At = at.AsTime()
				}
			}
		}
		out = append(out, a)
	}
	return out, err
}

// Pierced returns how many requests an emergency changed under way, as far as
// instances told.
func (f *Fleet) Pierced(ctx context.Context, env string, revision int64) (int64, error) {
	all, err := f.gather(ctx, env)
	return all.pierced[revision], err
}

// Told returns how many requests each emergency changed under way, as far as
// instances told this replica. The counts begin anew now and then.
func (f *Fleet) Told(env string) map[int64]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.environments[env]; e != nil {
		return maps.Clone(e.pierced)
	}
	return nil
}

// gathered is what all replicas know, joined.
type gathered struct {
	instances []*guidonv1.Instance
	streams   []*guidonv1.Streams
	pierced   map[int64]int64
}

// gather joins what all replicas know of an environment, or of all of them.
func (f *Fleet) gather(ctx context.Context, env string) (gathered, error) {
	out := gathered{pierced: map[int64]int64{}}
	by := map[string]*guidonv1.Instance{}
	add := func(said *guidonv1.Instances, fresh bool) {
		for _, i := range said.GetInstances() {
			if !fresh {
				i.ConnectedAt, i.Protocol = nil, ""
			}
			name := i.GetEnvironment() + "\x00" + i.GetInstance()
			if known := by[name]; known != nil {
				join(known, i)
				continue
			}
			by[name] = i
			out.instances = append(out.instances, i)
		}
		if fresh {
			out.streams = addStreams(out.streams, said.GetStreams()...)
		}
		for revision, n := range said.GetPierced() {
			out.pierced[revision] += n
		}
	}
	f.mu.Lock()
	for name := range f.environments {
		if env == "" || env == name {
			add(f.own(name), true)
		}
	}
	f.mu.Unlock()
	if f.cfg.Store == nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	pages, err := f.cfg.Store.Fleet(ctx, f.cfg.Replica)
	if err != nil {
		return out, fmt.Errorf("who is connected to other replicas: %w", err)
	}
	for _, page := range pages {
		if env != "" && env != page.Environment {
			continue
		}
		said, err := unpack(page.Page)
		if err != nil {
			// Of another version of this program, or broken: the replica is there.
			f.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "what a replica says of who is connected cannot be read",
				slog.String("replica", page.Replica), slog.Any("error", err))
			return out, fmt.Errorf("%w: what replica %s says of who is connected cannot be read", store.ErrUnavailable, page.Replica)
		}
		add(said, page.Age <= silent*f.cfg.Interval)
	}
	return out, nil
}

// join adds to what one replica knows of an instance what another does.
func join(a, b *guidonv1.Instance) {
	if b.GetConnectedAt() != nil && (a.GetConnectedAt() == nil || b.GetConnectedAt().AsTime().After(a.GetConnectedAt().AsTime())) {
		a.ConnectedAt, a.Protocol, a.Replica = b.GetConnectedAt(), b.GetProtocol(), b.GetReplica()
	}
	if b.GetAcknowledgedAt() != nil && (a.GetAcknowledgedAt() == nil || b.GetAcknowledgedAt().AsTime().After(a.GetAcknowledgedAt().AsTime())) {
		a.AcknowledgedAt, a.PropagationKeyIds = b.GetAcknowledgedAt(), b.GetPropagationKeyIds()
	}
	if b.GetRevision() > a.GetRevision() {
		a.Revision, a.Digest = b.GetRevision(), b.GetDigest()
	}
	acks := append(a.GetAcks(), b.GetAcks()...)
	slices.SortFunc(acks, func(a, b *guidonv1.Acknowledged) int {
		return cmp.Or(cmp.Compare(a.GetRevision(), b.GetRevision()), a.GetAppliedAt().AsTime().Compare(b.GetAppliedAt().AsTime()))
	})
	// Of two for one revision the first that has a time says when it was taken.
	for i := 0; i+1 < len(acks); {
		switch {
		case acks[i].GetRevision() != acks[i+1].GetRevision():
			i++
		case acks[i].GetAppliedAt() == nil:
			acks = slices.Delete(acks, i, i+1)
		default:
			acks = slices.Delete(acks, i+1, i+2)
		}
	}
	a.Acks = acks[max(0, len(acks)-maxAcks):]
}

func byName(a, b *guidonv1.Instance) int {
	return cmp.Or(strings.Compare(a.GetEnvironment(), b.GetEnvironment()), strings.Compare(a.GetService(), b.GetService()),
		strings.Compare(a.GetInstance(), b.GetInstance()))
}
