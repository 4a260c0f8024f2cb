package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// An emergency is a kill by its flag and revision.
type emergency struct {
	flag     string
	revision int64
}

// kills are the emergencies of a run, and how fast they got around.
type kills struct {
	mu        sync.Mutex
	published map[emergency]bool
	underWay  []*kill
	// last is the time until the last instance had a kill, from the moment that
	// Guidon acknowledged it; beyond is that of each, without its stream's lag.
	last, beyond []time.Duration
}

// A kill is on its way to the instances that were there when it was published.
type kill struct {
	revision int64
	at       time.Time
	waiting  map[*instance]bool
	last     time.Duration
}

// Published starts the clock for a kill.
func (k *kills) Published(e emergency, at time.Time, instances []*instance) {
	k.mu.Lock()
	k.published[e] = true
	fresh := &kill{revision: e.revision, at: at, waiting: map[*instance]bool{}}
	for _, i := range instances {
		fresh.waiting[i] = true
	}
	k.underWay = append(k.underWay, fresh)
	k.mu.Unlock()
	for _, i := range instances {
		k.Reached(i, i.client.Snapshot().Revision(), at)
	}
}

// Reached notes that an instance evaluates at a revision now.
func (k *kills) Reached(i *instance, revision int64, now time.Time) {
	k.each(i, func(one *kill) bool {
		if one.revision > revision {
			return false
		}
		took := max(0, now.Sub(one.at))
		one.last = max(one.last, took)
		k.beyond = append(k.beyond, max(0, took-i.net.lag))
		return true
	})
}

// Gone notes that an instance has ended and is not waited for.
func (k *kills) Gone(i *instance) { k.each(i, func(*kill) bool { return true }) }

// each goes over the kills that i is still waited for, and drops those of which
// done says that it no longer is.
func (k *kills) each(i *instance, done func(*kill) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.underWay = slices.DeleteFunc(k.underWay, func(one *kill) bool {
		if one.waiting[i] && done(one) {
			delete(one.waiting, i)
			if len(one.waiting) == 0 {
				k.last = append(k.last, one.last)
				return true
			}
		}
		return false
	})
}

// kill kills a flag every now and then until ctx ends, and lets it live again a
// while later.
func (m *Mesh) kill(ctx context.Context, changes *toggler) error {
	if m.config.KillEvery == 0 {
		return nil
	}
	chance := rand.New(rand.NewPCG(m.config.Seed, 4)) //nolint:gosec // repeatable, not secret
	var g errgroup.Group
	for pause(ctx, nil, m.config.KillEvery) == nil {
		f := pick(chance, flags)
		if f.late {
			continue
		}
		length := time.Duration(chance.Int64N(int64(4 * m.config.KillEvery)))
		revision, err := changes.Kill(ctx, f.key, pick(chance, []string{"a", "b"}))
		if err != nil {
			return err
		}
		if revision == 0 {
			continue // it was dead, and of this variant
		}
		m.kills.Published(emergency{f.key, revision}, time.Now(), m.everyone())
		m.recorder.Count("kills")
		g.Go(func() error {
			_ = pause(ctx, nil, length) // until then, or until the end
			return changes.Unkill(ctx, f.key)
		})
	}
	return g.Wait()
}

// everyone is all instances there are now.
func (m *Mesh) everyone() (all []*instance) {
	for _, s := range m.services {
		s.mu.Lock()
		all = append(all, s.instances...)
		s.mu.Unlock()
	}
	return all
}

// Kill makes a flag serve a variant, and returns the revision of the emergency.
func (t *toggler) Kill(ctx context.Context, key, variant string) (int64, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	got, err := t.changes.Kill(ctx, &guidonv1.ChangeServiceKillRequest{
		Environment: environment, Reason: "mesh", Kills: []*guidonv1.Kill{{Key: key, Variant: variant}},
	})
	if err != nil {
		return 0, fmt.Errorf("kill %s: %w", key, err)
	}
	if got.GetChangeId() == "" {
		return 0, nil
	}
	return got.GetRevision(), nil
}

// Unkill lets a flag live again, for new requests.
func (t *toggler) Unkill(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, err := t.changes.Unkill(ctx, &guidonv1.ChangeServiceUnkillRequest{Environment: environment, Reason: "mesh", Keys: []string{key}})
	if err != nil {
		return fmt.Errorf("unkill %s: %w", key, err)
	}
	return nil
}
