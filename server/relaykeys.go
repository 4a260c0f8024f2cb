package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// relayKeysAge is how old the keys may be that a relay is told of.
const relayKeysAge = time.Second

// relayKeys reads the keys of environments for the relays that stream from here:
// once a second for all of them.
type relayKeys struct {
	flights singleflight.Group
	mu      sync.Mutex
	by      map[string]readKeys
}

type readKeys struct {
	keys *guidonv1.APIKeys
	at   time.Time
}

// of returns the keys of an environment. While they cannot be read, it returns
// those that were read last; nil if none were. Who waits for those of one
// environment is in nobody else's way.
func (r *relayKeys) of(ctx context.Context, env string, now time.Time, read func(context.Context, string) (*guidonv1.APIKeys, error)) (*guidonv1.APIKeys, error) {
	if last := r.last(env); last.keys != nil && now.Sub(last.at) < relayKeysAge {
		return last.keys, nil
	}
	result := r.flights.DoChan(env, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		return r.renew(ctx, env, now, read)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-result:
		keys, _ := got.Val.(*guidonv1.APIKeys)
		return keys, got.Err
	}
}

func (r *relayKeys) last(env string) readKeys {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[env]
}

// renew reads the keys of an environment.
func (r *relayKeys) renew(ctx context.Context, env string, now time.Time, read func(context.Context, string) (*guidonv1.APIKeys, error)) (*guidonv1.APIKeys, error) {
	keys, err := read(ctx, env)
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.by[env]
	if keys == nil || proto.Equal(keys, last.keys) {
		keys = last.keys // the same message, so that nobody is told again
	}
	if r.by == nil {
		r.by = map[string]readKeys{}
	}
	r.by[env] = readKeys{keys, now}
	return keys, nil
}

// tellKeys tells a relay what it knows its clients by, if that is news.
func (s *stream) tellKeys(ctx context.Context) error {
	if s.call.principal.Kind != auth.Relay {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	keys, err := s.relayKeys.of(ctx, s.environment.Name(), s.now(), s.apiKeysOf)
	if err != nil || keys == s.apiKeys {
		return err
	}
	s.apiKeys = keys
	return s.send(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_ApiKeys{ApiKeys: keys}})
}

// apiKeysOf reads the keys of an environment: from the database, or as a relay
// was told them by its own upstream.
func (s *Server) apiKeysOf(ctx context.Context, env string) (*guidonv1.APIKeys, error) {
	if s.cfg.APIKeys != nil {
		return s.cfg.APIKeys(), nil
	}
	reading, cancel := s.fallback(ctx) // those that were read last are as good
	defer cancel()
	hashes, err := s.store.KeyHashes(reading, env)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.APIKeys{}
	for _, k := range hashes {
		key := &guidonv1.APIKey{Id: k.ID, Kind: string(k.Kind), Name: k.Name, Sha256: k.Hash[:], Origins: k.Origins, Propagates: k.Propagates, Projects: k.Projects}
		if !k.ExpiresAt.IsZero() {
			key.ExpiresAt = timestamppb.New(k.ExpiresAt)
		}
		out.Keys = append(out.Keys, key)
	}
	return out, nil
}
