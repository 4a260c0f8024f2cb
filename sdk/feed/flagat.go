package feed

import (
	"context"
	"errors"
	"fmt"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

// ErrUnavailable is wrapped by every error of [Feed.FlagAt]: what the flag was
// cannot be had now. A later call may succeed.
var ErrUnavailable = errors.New("feed: flag unavailable at the revision")

// FlagAt is the flag as of a revision; nil if it did not exist then
// (propagation.md §3). It answers from the newest snapshot if that is exact,
// else from the cache of superseded flags, else it asks the server, once however
// many callers wait. A revision that this process has not reached yet is waited
// for first. The whole takes at most [Config.Budget], less if ctx ends sooner;
// an answer that comes too late still serves the next caller.
func (f *Feed) FlagAt(ctx context.Context, key string, revision int64) (*eval.Flag, error) {
	flag, _, err := f.flagAt(ctx, question{key: key, revision: revision})
	return flag, err
}

// Nearest is FlagAt, but a revision that the server no longer keeps it answers as
// of the oldest that it does, and returns that. What stands in for a revision is
// asked anew each time: it is another one as time goes by.
func (f *Feed) Nearest(ctx context.Context, key string, revision int64) (flag *eval.Flag, at int64, err error) {
	return f.flagAt(ctx, question{key: key, revision: revision, nearest: true})
}

func (f *Feed) flagAt(ctx context.Context, want question) (*eval.Flag, int64, error) {
	key, revision := want.key, want.revision
	if flag, exact := f.exact(key, revision); exact {
		return flag, revision, nil
	}
	if flag, ok := f.superseded.lookup(key, revision); ok {
		return flag, revision, nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.config.Budget)
	defer cancel()
	if f.ahead(revision) && f.waitFor(ctx, revision) {
		if flag, exact := f.exact(key, revision); exact {
			return flag, revision, nil
		}
	}
	return f.superseded.fetch(ctx, want, f.definition)
}

// exact answers from the newest snapshot, if it can.
func (f *Feed) exact(key string, revision int64) (flag *eval.Flag, ok bool) {
	snapshot := f.Snapshot()
	if snapshot == nil || revision > snapshot.Revision() {
		return nil, false
	}
	flag = snapshot.Flag(key)
	if flag == nil {
		return nil, revision == snapshot.Revision()
	}
	if flag.EffectiveFrom() > revision {
		return nil, false
	}
	return flag, true
}

// ahead says whether waiting for the revision is worth while: this process is
// behind it, hears the server, and is not owed a revision that was waited for in
// vain before, since revisions come in order.
func (f *Feed) ahead(revision int64) bool {
	held := int64(0)
	if snapshot := f.Snapshot(); snapshot != nil {
		held = snapshot.Revision()
	}
	f.advancedMu.Lock()
	defer f.advancedMu.Unlock()
	return revision > held && held >= f.waited && f.condition.Load().connected
}

// waitFor waits for the stream to bring the revision, for half the budget: the
// other half is for asking the server.
func (f *Feed) waitFor(ctx context.Context, revision int64) bool {
	f.stats.Waits.Add(1)
	ctx, cancel := context.WithTimeout(ctx, f.config.Budget/2)
	defer cancel()
	for {
		f.advancedMu.Lock()
		advanced := f.advanced
		f.advancedMu.Unlock()
		if snapshot := f.Snapshot(); snapshot != nil && snapshot.Revision() >= revision {
			return true
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			f.advancedMu.Lock()
			f.waited = max(f.waited, revision)
			f.advancedMu.Unlock()
			return false
		}
	}
}

// definition asks the server what a flag was at a revision. The span it returns
// is the part of the answer that can never become untrue.
func (f *Feed) definition(ctx context.Context, want question) (span, error) {
	answer, err := f.config.Source.Definition(ctx, &guidonv1.SyncServiceGetDefinitionRequest{
		Environment: f.condition.Load().environment, Key: want.key, Revision: want.revision, Nearest: want.nearest,
	})
	if err != nil {
		return span{}, err
	}
	at := want.revision
	if nearest := answer.GetNearestRevision(); nearest != 0 {
		if at = nearest; !want.nearest || nearest <= want.revision {
			f.stats.Malformed.Add(1)
			return span{}, malformed("%q at revision %d: the answer is as of %d", want.key, want.revision, nearest)
		}
	}
	found, err := decodeDefinition(answer, want.key, at)
	if err != nil {
		f.stats.Malformed.Add(1)
		return span{}, err
	}
	return found, nil
}

func decodeDefinition(answer *guidonv1.SyncServiceGetDefinitionResponse, key string, revision int64) (span, error) {
	from, to := answer.GetFromRevision(), answer.GetToRevision()
	if from > revision || (to != 0 && to <= revision) {
		return span{}, malformed("%q at revision %d: the answer is for %d up to %d", key, revision, from, to)
	}
	if to == 0 {
		// Still current as far as the server knew, which was the revision asked
		// for or a newer one: the next change may already be on its way.
		to = max(revision, answer.GetKnownRevision()) + 1
	}
	found := span{key: key, from: from, to: to, at: revision}
	if len(answer.GetRows()) == 0 {
		return found, nil
	}
	rows, err := evalRows(answer.GetRows())
	if err != nil {
		return span{}, fmt.Errorf("%q at revision %d: %w", key, revision, err)
	}
	if err := within(rows, 0, revision); err != nil {
		return span{}, err
	}
	snapshot, err := eval.Compile(revision, rows)
	if err != nil {
		return span{}, malformed("%q at revision %d: %w", key, revision, err)
	}
	found.flag = snapshot.Flag(key)
	if found.flag == nil {
		return span{}, malformed("%q at revision %d: the answer is without it", key, revision)
	}
	return found, nil
}
