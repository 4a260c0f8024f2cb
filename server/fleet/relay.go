package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
)

// behind is who is connected to a relay.
type behind struct {
	instances []*guidonv1.Instance
	streams   []*guidonv1.Streams
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
		i.Revision, i.Acks = lastOf(i.GetAcks())
		i.ConnectedAt, i.AcknowledgedAt = timeOf(i.GetConnectedAt()), timeOf(i.GetAcknowledgedAt())
		i.PropagationKeyIds = i.GetPropagationKeyIds()[:min(len(i.GetPropagationKeyIds()), maxKeys)]
		for n, id := range i.GetPropagationKeyIds() {
			i.PropagationKeyIds[n] = clip(id)
		}
	}
	var streams []*guidonv1.Streams
	for _, s := range said.GetStreams()[:min(len(said.GetStreams()), maxPrograms)] {
		streams = append(streams, &guidonv1.Streams{
			Environment: env, Protocol: clip(s.GetProtocol()), Client: clip(s.GetClient()), Streams: max(0, s.GetStreams()),
		})
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
	e.relays[name] = behind{said.GetInstances(), streams, f.cfg.Now()}
	return nil
}

// lastOf returns the newest of what a relay says that an instance took, as a
// fleet keeps it, and the revision that the instance then holds.
func lastOf(said []*guidonv1.Acknowledged) (int64, []*guidonv1.Acknowledged) {
	acks := slices.DeleteFunc(said, func(a *guidonv1.Acknowledged) bool { return a.GetRevision() <= 0 })
	slices.SortStableFunc(acks, func(a, b *guidonv1.Acknowledged) int { return cmp.Compare(a.GetRevision(), b.GetRevision()) })
	acks = slices.Clone(acks[max(0, len(acks)-maxAcks):]) // and let go of the rest
	if len(acks) == 0 {
		return 0, nil
	}
	for _, a := range acks {
		a.AppliedAt = timeOf(a.GetAppliedAt())
	}
	return acks[len(acks)-1].GetRevision(), acks
}

// timeOf is a time that can be shown; nil for another.
func timeOf(said *timestamppb.Timestamp) *timestamppb.Timestamp {
	if !said.IsValid() {
		return nil
	}
	return said
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
