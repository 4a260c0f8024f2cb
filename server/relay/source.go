package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

var _ hub.Source = (*Upstream)(nil)

// ErrLost says that the upstream does not answer. It is the [store.ErrUnavailable]
// of a server without a store.
var ErrLost error = lostError{}

type lostError struct{}

func (lostError) Error() string { return "the upstream is lost" }

func (lostError) Is(target error) bool { return target == store.ErrUnavailable }

// Verify returns the key that a caller presents: one that the upstream told of.
// Until it told of any, nobody is known.
func (u *Upstream) Verify(_ context.Context, text string) (store.Key, error) {
	t, _, err := store.ParseKey(text)
	if err != nil {
		return store.Key{}, err
	}
	known := u.known.Load()
	if known == nil {
		return store.Key{}, ErrLost
	}
	key, ok := (*known)[t.Hash()]
	switch {
	case !ok:
		return store.Key{}, store.ErrKeyUnknown
	case !key.ExpiresAt.IsZero() && !time.Now().Before(key.ExpiresAt):
		return store.Key{}, store.ErrKeyExpired
	}
	key.Environment = u.feed.Environment()
	return key, nil
}

// APIKeys is what the upstream told, for the relays of a relay; nil before.
func (u *Upstream) APIKeys() *guidonv1.APIKeys { return u.apiKeys.Load() }

// Listen calls notify whenever there may be something new, until ctx ends.
func (u *Upstream) Listen(ctx context.Context, notify func()) error {
	for {
		select {
		case <-u.changed:
			notify()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Environments is the one environment, as far as it is known. While the upstream
// is lost, or has lost its own, what is not news is an error: so the hub knows how
// old it is.
func (u *Upstream) Environments(context.Context) ([]store.Environment, error) {
	newest, status := u.feed.Snapshot(), u.feed.Status()
	if newest == nil {
		return nil, lost(status.LastError)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.hand(newest) && (!status.Connected || status.State == feed.StateStale) {
		return nil, lost(status.LastError)
	}
	return []store.Environment{{Name: status.Environment, Revision: newest.Revision(), UpdatedAt: u.feed.CommittedAt()}}, nil
}

// maxHanded bounds the snapshots that a hub that cannot follow is told of.
const maxHanded = 4

// hand notes that the hub is told of a snapshot, and reports whether that is
// news. It is called under the lock.
func (u *Upstream) hand(newest *eval.Snapshot) bool {
	n := len(u.handed)
	if n > 0 && u.handed[n-1] == newest {
		return false
	}
	if u.handed = append(u.handed, newest); n == maxHanded {
		u.handed = slices.Delete(u.handed, 1, 2) // never what the hub holds
	}
	return true
}

func lost(why string) error {
	if why == "" {
		return ErrLost
	}
	return fmt.Errorf("%w: %s", ErrLost, why)
}

// SnapshotRows returns an environment whole: the newest revision from memory,
// older ones from the upstream.
func (u *Upstream) SnapshotRows(ctx context.Context, env string, revision int64) ([]eval.Row, int64, error) {
	newest := u.feed.Snapshot()
	if revision == 0 || newest != nil && newest.Revision() == revision {
		if newest == nil {
			return nil, 0, ErrLost
		}
		var rows []eval.Row
		for row := range newest.Rows() {
			rows = append(rows, row)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if revision == 0 {
			u.handed = []*eval.Snapshot{newest}
		}
		return rows, newest.Revision(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer, err := u.api.GetSnapshot(ctx, &guidonv1.SyncServiceGetSnapshotRequest{Environment: env, Revision: revision})
	if err != nil {
		return nil, 0, upstreamError(err)
	}
	rows, err := evalRows(answer.GetRows())
	return rows, answer.GetRevision(), err
}

// Delta compares two snapshots that the hub was told of: the one that it holds,
// and the one that Environments spoke of last. It asks for nothing else.
func (u *Upstream) Delta(_ context.Context, _ string, from, to int64) (upserts []eval.Row, deletes []eval.Name, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := func(revision int64) int {
		return slices.IndexFunc(u.handed, func(s *eval.Snapshot) bool { return s.Revision() == revision })
	}
	i, j := at(from), at(to)
	if i < 0 || j < 0 {
		return nil, nil, fmt.Errorf("%w: revisions %d to %d are not at hand", store.ErrUnavailable, from, to)
	}
	before, listed := u.handed[i], u.handed[j]
	u.handed = slices.Delete(u.handed, 0, i)
	upserts, deletes = listed.Since(before)
	return upserts, deletes, nil
}

// Superseded asks the upstream what a flag was at a revision.
func (u *Upstream) Superseded(ctx context.Context, env, key string, revision int64) (rows []eval.Row, from, to int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer, err := u.api.GetDefinition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{Environment: env, Key: key, Revision: revision})
	if err != nil {
		return nil, 0, 0, upstreamError(err)
	}
	from, to = answer.GetFromRevision(), answer.GetToRevision()
	if to == 0 {
		// As far as the upstream knew: it may lag behind what is held here.
		to = max(revision, answer.GetKnownRevision()) + 1
	}
	if from > revision || to <= revision {
		return nil, 0, 0, fmt.Errorf("%w: asked for %q at revision %d, the upstream answers for %d to %d", store.ErrUnavailable, key, revision, from, to)
	}
	rows, err = evalRows(answer.GetRows())
	return rows, from, to, err
}

// Oldest asks the upstream what stands in for a revision, if anything does.
func (u *Upstream) Oldest(ctx context.Context, env, key string, revision int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer, err := u.api.GetDefinition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{Environment: env, Key: key, Revision: revision, Nearest: true})
	if err != nil {
		return 0, upstreamError(err)
	}
	return max(answer.GetNearestRevision(), revision), nil
}

// Keys are those that the upstream sent last.
func (u *Upstream) Keys(context.Context, string) (hub.Keys, error) {
	keys := hub.Keys{Propagation: u.keys.Load(), Overrides: u.overrides.Load()}
	if keys.Overrides == nil {
		keys.Overrides = &guidonv1.OverrideKeys{}
	}
	return keys, nil
}

func evalRows(sent []*guidonv1.Row) ([]eval.Row, error) {
	rows := make([]eval.Row, 0, len(sent))
	for _, r := range sent {
		kind, err := eval.ParseKind(r.GetKind())
		if err != nil {
			return nil, fmt.Errorf("row %q of the upstream: %w", r.GetName(), err)
		}
		rows = append(rows, eval.Row{Kind: kind, Name: r.GetName(), From: r.GetFromRevision(), Document: r.GetDocument()})
	}
	return rows, nil
}

// upstreamError is what the upstream answered in terms of the store, which it
// stands for.
func upstreamError(err error) error {
	var known error
	switch connect.CodeOf(err) {
	case connect.CodeNotFound:
		known = store.ErrNotFound
	case connect.CodeInvalidArgument:
		return &store.FieldError{Field: "revision", Message: err.Error()}
	default:
		known = ErrLost
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return fmt.Errorf("%w: upstream: %w", known, err)
}
