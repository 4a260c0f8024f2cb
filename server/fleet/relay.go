package fleet

import (
	"errors"
	"fmt"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// behind is who is connected to a relay.
type behind struct {
	instances []*guidonv1.Instance
	heardAt   time.Time
}

// ErrBehind says that what a relay tells of its clients cannot be taken.
var ErrBehind = errors.New("what the relay says of its clients cannot be taken")

// Behind notes what a relay, an instance itself, says of its clients: a page
// that [Fleet.Page] of its fleet made. It replaces what the relay said before.
func (f *Fleet) Behind(env string, relay *guidonv1.Client, page []byte) error {
	said, err := unpack(page)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBehind, err)
	}
	if len(said.GetInstances()) > f.cfg.Limit {
		return fmt.Errorf("%w: more than %d instances", ErrBehind, f.cfg.Limit)
	}
	name := clip(relay.GetInstance())
	for _, i := range said.GetInstances() {
		i.Environment, i.Service, i.Instance = env, clip(i.GetService()), clip(i.GetInstance())
		i.Sdk, i.Version, i.Digest = clip(i.GetSdk()), clip(i.GetVersion()), clip(i.GetDigest())
		i.Protocol, i.Replica = clip(i.GetProtocol()), clip("relay "+name)
		i.Acks = i.GetAcks()[:min(len(i.GetAcks()), maxAcks)]
		i.PropagationKeyIds = i.GetPropagationKeyIds()[:min(len(i.GetPropagationKeyIds()), maxKeys)]
		for n, id := range i.GetPropagationKeyIds() {
			i.PropagationKeyIds[n] = clip(id)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.find(env, relay) == nil {
		return fmt.Errorf("%w: there are too many instances", ErrBehind)
	}
	e := f.environments[env]
	if _, known := e.relays[name]; !known && len(e.relays) >= maxRelays {
		return fmt.Errorf("%w: there are %d relays already", ErrBehind, maxRelays)
	}
	e.relays[name] = behind{said.GetInstances(), f.cfg.Now()}
	return nil
}

// Page is who is connected here in an environment, for the upstream of a relay:
// see [Fleet.Behind]. What emergencies pierced is told apart: see
// [Fleet.TakePierced].
func (f *Fleet) Page(env string) []byte {
	f.mu.Lock()
	f.forget(f.cfg.Now())
	said := f.own(env)
	f.mu.Unlock()
	said.Pierced = nil
	return pack(said)
}

// TakePierced returns what emergencies pierced since the last call.
func (f *Fleet) TakePierced(env string) map[int64]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.environments[env]
	if e == nil {
		return nil
	}
	defer func() { e.pierced = map[int64]int64{} }()
	return e.pierced
}
