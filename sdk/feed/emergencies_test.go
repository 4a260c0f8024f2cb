package feed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

// killed is the emergency row of a flag, written by its only entry.
func killed(key string, revision int64) eval.Row {
	return eval.Row{Kind: eval.KindEmergency, Name: key, From: revision, Document: fmt.Appendf(nil,
		`{"active":true,"log":[{"revision":%d,"value":false,"variant":"off"}]}`, revision)}
}

// kill makes the next revision, in which the flag is killed.
func (h *history) kill(key string) int64 {
	revision := int64(len(*h)) + 1
	*h = append(*h, append(append([]eval.Row{}, (*h)[revision-2]...), killed(key, revision)))
	return revision
}

func logAnswer(revision int64, rows ...eval.Row) *guidonv1.SyncServiceGetEmergenciesResponse {
	return &guidonv1.SyncServiceGetEmergenciesResponse{Revision: revision, Rows: wire(rows)}
}

type (
	logQuestion = *guidonv1.SyncServiceGetEmergenciesRequest
	logResponse = *guidonv1.SyncServiceGetEmergenciesResponse
)

// The log comes with the snapshot; one that a request has met ahead of it is
// asked for once, and known from then on.
func TestEmergencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		h := flips(2)
		h.kill("search")
		src := newSource()
		src.log = func(ctx context.Context, want logQuestion) (logResponse, error) {
			asked.Add(1)
			if want.GetEnvironment() != "production" || want.GetRevision() != 4 {
				t.Errorf("asked for %v", want)
			}
			time.Sleep(10 * time.Millisecond)
			return logAnswer(5, killed("search", 3), killed("checkout", 4)), ctx.Err()
		}
		f, _, s := started(t, h, feed.Config{Source: src})
		if log := f.Emergencies(); log.Newest() != 3 || log.Revision() != 3 {
			t.Errorf("the log ends with %d, complete up to %d, want 3 and 3", log.Newest(), log.Revision())
		}
		if log, err := f.EmergenciesAt(t.Context(), 3); err != nil || log.Revision() != 3 || asked.Load() != 0 {
			t.Errorf("EmergenciesAt(3) = up to %d, %v, asked %d times", log.Revision(), err, asked.Load())
		}
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				log, err := f.EmergenciesAt(t.Context(), 4)
				if e, ok := log.After("checkout", 3); err != nil || !ok || e.Revision != 4 {
					t.Errorf("EmergenciesAt(4): %v, %v, %v", e, ok, err)
				}
			})
		}
		callers.Wait()
		if log := f.Emergencies(); asked.Load() != 1 || log.Revision() != 5 || f.Snapshot().Revision() != 3 {
			t.Errorf("asked %d times; the log reaches up to %d", asked.Load(), log.Revision())
		}
		h.kill("checkout")
		s.send(t, h.delta(t, 3, 4, "identity"))
		if log := f.Emergencies(); log.Revision() != 5 {
			t.Errorf("the log went back to %d", log.Revision())
		}
	})
}

// What the stream brings in time is not asked for.
func TestEmergenciesFromTheStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := flips(2)
		f, _, s := started(t, h, feed.Config{})
		answer := make(chan error)
		go func() {
			log, err := f.EmergenciesAt(t.Context(), 3)
			if err == nil && log.Newest() != 3 {
				err = fmt.Errorf("the log ends with %d", log.Newest())
			}
			answer <- err
		}()
		synctest.Wait()
		h.kill("checkout")
		s.send(t, h.delta(t, 2, 3, "identity"))
		if err := <-answer; err != nil {
			t.Error(err)
		}
	})
}

func TestEmergenciesRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer logResponse
		err    error
	}{
		"an error":            {nil, errors.New("no")},
		"too short":           {logAnswer(3, killed("search", 3)), nil},
		"another kind":        {logAnswer(4, flag("search", 3, true)), nil},
		"a row of the future": {logAnswer(4, killed("search", 9)), nil},
		"a row twice":         {logAnswer(4, killed("search", 3), killed("search", 3)), nil},
		"an unknown kind":     {&guidonv1.SyncServiceGetEmergenciesResponse{Revision: 4, Rows: []*guidonv1.Row{{Kind: "spell"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				src.log = func(context.Context, logQuestion) (logResponse, error) { return tt.answer, tt.err }
				f, _, _ := started(t, flips(2), feed.Config{Source: src})
				if _, err := f.EmergenciesAt(t.Context(), 4); !errors.Is(err, feed.ErrUnavailable) {
					t.Errorf("EmergenciesAt: %v, want ErrUnavailable", err)
				}
				if log := f.Emergencies(); log.Revision() != 2 || f.Stats().FetchFailures.Load() != 1 {
					t.Errorf("the log reaches up to %d after %d failures", log.Revision(), f.Stats().FetchFailures.Load())
				}
			})
		})
	}
}
