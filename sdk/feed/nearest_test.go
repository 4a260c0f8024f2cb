package feed_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// What stands in for a revision is not taken for that revision afterwards, and
// is asked anew.
func TestNearest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		oldest := int64(3)
		src := newSource()
		src.define = func(_ context.Context, want question) (answer, error) {
			asked.Add(1)
			if want.GetRevision() >= oldest || !want.GetNearest() {
				return nil, errRefused
			}
			return &guidonv1.SyncServiceGetDefinitionResponse{
				Rows: wire([]eval.Row{flag("checkout", oldest, true)}), FromRevision: oldest, ToRevision: oldest + 1, NearestRevision: oldest,
			}, nil
		}
		f, _, _ := started(t, flips(6), feed.Config{Source: src})
		for range 2 {
			got, at, err := f.Nearest(t.Context(), "checkout", 1)
			if err != nil || at != 3 || got.EffectiveFrom() != 3 {
				t.Errorf("Nearest(1) = %v as of %d, %v, want it as of 3", got, at, err)
			}
			if got, err := f.FlagAt(t.Context(), "checkout", 1); !errors.Is(err, feed.ErrUnavailable) {
				t.Errorf("FlagAt(1) = %v, %v, want ErrUnavailable", got, err)
			}
		}
		if got, at, err := f.Nearest(t.Context(), "checkout", 3); err != nil || at != 3 || got.EffectiveFrom() != 3 || asked.Load() != 4 {
			t.Errorf("Nearest(3) = %v as of %d, %v after %d questions, want it remembered", got, at, err, asked.Load())
		}
		if got, at, err := f.Nearest(t.Context(), "checkout", 6); err != nil || at != 6 || got.EffectiveFrom() != 6 || asked.Load() != 4 {
			t.Errorf("Nearest(6) = %v as of %d, %v after %d questions, want what is held", got, at, err, asked.Load())
		}
		oldest = 4
		if _, at, err := f.Nearest(t.Context(), "checkout", 1); err != nil || at != 4 {
			t.Errorf("Nearest(1) as of %d, %v, want 4: history has moved on", at, err)
		}
		oldest = 0
		if _, _, err := f.Nearest(t.Context(), "checkout", 1); !errors.Is(err, feed.ErrUnavailable) {
			t.Errorf("Nearest(1) of what was lost: %v, want ErrUnavailable", err)
		}
	})
}

// The answer of a server that goes back, or says nothing of it, is refused.
func TestNearestMalformed(t *testing.T) {
	t.Parallel()
	row := wire([]eval.Row{flag("checkout", 3, true)})
	for name, c := range map[string]answer{
		"of an older revision":   {Rows: row, FromRevision: 1, ToRevision: 2, NearestRevision: 1},
		"of the revision":        {Rows: row, FromRevision: 1, ToRevision: 4, NearestRevision: 2},
		"outside of its span":    {Rows: row, FromRevision: 3, ToRevision: 4, NearestRevision: 4},
		"of another, not saying": {Rows: row, FromRevision: 3, ToRevision: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				src.define = func(context.Context, question) (answer, error) { return c, nil }
				f, _, _ := started(t, flips(6), feed.Config{Source: src})
				if got, _, err := f.Nearest(t.Context(), "checkout", 2); got != nil || !errors.Is(err, feed.ErrUnavailable) {
					t.Errorf("Nearest = %v, %v, want ErrUnavailable", got, err)
				}
			})
		})
	}
}
