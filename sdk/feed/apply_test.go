package feed_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/feed"
)

func TestSnapshotThenDeltas(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"identity", "gzip"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var h history
				h.put(false, "checkout", "search")
				src := newSource()
				var changes [][]string
				f := run(t, feed.Config{Source: src, Changed: func(keys []string) { changes = append(changes, keys) }})
				s := <-src.opened
				if s.have.GetHaveRevision() != 0 || s.have.GetHaveDigest() != "" {
					t.Errorf("the first stream says it has %v, want nothing", s.have)
				}
				s.send(t, hello(1))
				s.send(t, h.snapshot(t, 1, encoding, 3)...)
				if value(t, f, "checkout") {
					t.Error("checkout is on at revision 1")
				}
				h.put(true, "checkout")
				h.put(true, "basket")
				h.remove("search")
				s.send(t, h.delta(t, 1, 2, encoding), h.delta(t, 2, 4, encoding))
				if !value(t, f, "checkout") || f.Snapshot().Flag("search") != nil {
					t.Error("revision 4 is not what it should be")
				}
				want := [][]string{{"checkout"}, {"basket", "search"}}
				if diff := cmp.Diff(want, changes); diff != "" {
					t.Errorf("Changed (-want +got):\n%s", diff)
				}
				stats := f.Stats()
				if stats.Snapshots.Load() != 1 || stats.Deltas.Load() != 2 || f.Status().Revision != 4 {
					t.Errorf("%d snapshots, %d deltas, status %+v", stats.Snapshots.Load(), stats.Deltas.Load(), f.Status())
				}
			})
		})
	}
}

// An environment that nobody has changed yet is at revision 0 and has no rows.
func TestFreshEnvironmentIsReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		f, _, s := started(t, &h, feed.Config{})
		h.put(true, "first")
		s.send(t, h.delta(t, 0, 1, "identity"))
		if !value(t, f, "first") {
			t.Error("the first flag is not there")
		}
	})
}

func TestReconnectGoesOnFromWhatIsHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(false, "checkout")
		f, src, s := started(t, &h, feed.Config{})
		s.fail <- nil
		s = <-src.opened
		if s.have.GetHaveRevision() != 1 || s.have.GetHaveDigest() != h.digest(t, 1) {
			t.Errorf("reconnected with %v, want revision 1 and its digest", s.have)
		}
		s.send(t, hello(1))
		if got := f.Status(); got.State != feed.StateReady || !got.Connected || got.LastError != "" {
			t.Errorf("Status() = %+v, want ready: nothing changed meanwhile", got)
		}
		h.put(true, "checkout")
		s.send(t, h.delta(t, 1, 2, "identity"))
		if !value(t, f, "checkout") {
			t.Error("the delta after reconnecting was not applied")
		}
	})
}

func TestKeysArePassedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var signers []string
		src := newSource()
		run(t, feed.Config{Source: src, Keys: func(k *guidonv1.PropagationKeys) bool {
			signers = append(signers, k.GetSigner())
			return true
		}})
		s := <-src.opened
		first := hello(0)
		first.GetHello().PropagationKeys = &guidonv1.PropagationKeys{Signer: "a"}
		s.send(t, first, keysEvent("b"))
		if want := []string{"a", "b"}; !slices.Equal(signers, want) {
			t.Errorf("signers = %q, want %q", signers, want)
		}
	})
}

// What verifies overrides comes with hello and whenever it changes, an empty
// list too: that is what ends a revocation.
func TestOverrideKeysAreHandedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var revoked []int
		src := newSource()
		run(t, feed.Config{Source: src, OverrideKeys: func(k *guidonv1.OverrideKeys) { revoked = append(revoked, len(k.GetRevokedOverrides())) }})
		s := <-src.opened
		first := hello(0)
		first.GetHello().OverrideKeys = &guidonv1.OverrideKeys{RevokedOverrides: []string{"a"}}
		s.send(t, first, &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_OverrideKeys{OverrideKeys: &guidonv1.OverrideKeys{}}})
		if want := []int{1, 0}; !slices.Equal(revoked, want) {
			t.Errorf("revoked overrides were %d, want %d", revoked, want)
		}
	})
}

// A newer server may say things this one does not know.
func TestUnknownEventsArePassedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h history
		h.put(false, "checkout")
		f, _, s := started(t, &h, feed.Config{})
		s.send(t, &guidonv1.SyncServiceSyncResponse{}, heartbeat(1))
		if got := f.Status(); got.State != feed.StateReady || !got.Connected {
			t.Errorf("Status() = %+v, want ready", got)
		}
	})
}
