package flagd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/guidon-flags/guidon/server/flagd"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// Callers name selectors: those of yesterday leave room for those of today, and
// there are only so many.
func TestDocumentsAreOfTheNewestRevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &revisions{newest: 1}
		h := hub.New(hub.Config{Upstream: source})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = h.Run(ctx) }()
		synctest.Wait()
		e, err := h.Environment("production")
		if err != nil {
			t.Fatal(err)
		}
		s := flagd.New(flagd.Config{})
		project := func(n int) view.Selector { return view.Selector{Key: view.Source, Project: fmt.Sprint("p", n)} }
		for n := range 101 {
			if _, kept := s.Document(ctx, e, e.Snapshot(), project(n)); kept != (n < 100) {
				t.Errorf("document %d is kept: %v", n, kept)
			}
		}
		first := e.Snapshot()
		source.publish(t, e)
		text, kept := s.Document(ctx, e, e.Snapshot(), view.Selector{})
		if !kept || !strings.Contains(text, `"defaultVariant":"off"`) {
			t.Errorf("after a change: %s, kept: %v", text, kept)
		}
		late, kept := s.Document(ctx, e, first, view.Selector{})
		if kept || !strings.Contains(late, `"defaultVariant":"on"`) {
			t.Errorf("for a stream that lags: %s, kept: %v", late, kept)
		}
		if _, kept := s.Document(ctx, e, e.Snapshot(), view.Selector{}); !kept {
			t.Error("a stream that lags took the newest document's place")
		}
	})
}
