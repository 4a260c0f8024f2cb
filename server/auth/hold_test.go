package auth_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// TestHoldersShareOneLook: however many calls go on with a key, the store is
// asked about it once in an interval, and all hear when it is not good any more.
func TestHoldersShareOneLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text, other := keyText("server", 1), keyText("server", 2)
		keys := newRing(text, other)
		a := auth.New(auth.Config{Verify: keys.verify})
		hold := func(text string) *auth.Hold {
			p, err := a.Authenticate(t.Context(), bearer(text))
			if err != nil {
				t.Fatal(err)
			}
			return a.Hold(p, 2*time.Second)
		}
		var holders []*auth.Hold
		for range 1000 {
			holders = append(holders, hold(text))
		}
		beside := hold(other)
		time.Sleep(20*time.Second + time.Millisecond)
		keys.change(func() {
			if keys.asked > 2+2*10 {
				t.Errorf("the store was asked %d times in 20 s about two keys, want once in 2 s each", keys.asked)
			}
			keys.away = store.ErrUnavailable
		})
		time.Sleep(10 * time.Second)
		if err := holders[0].Err(); err != nil {
			t.Errorf("while the store is away, a key that was good is %v", err)
		}
		keys.change(func() { keys.away, keys.errs[text] = nil, store.ErrKeyRevoked })
		time.Sleep(4 * time.Second)
		for _, h := range holders {
			select {
			case <-h.Lost():
			default:
				t.Fatal("a holder did not hear that the key was revoked")
			}
			if !errors.Is(h.Err(), auth.ErrNoPrincipal) {
				t.Fatalf("Err = %v, want ErrNoPrincipal", h.Err())
			}
			h.Release()
			h.Release()
		}
		if beside.Err() != nil {
			t.Error("the other key was lost too")
		}
		// The last one to leave ends the looking: else this bubble would not end.
		beside.Release()
	})
}

// TestHoldWithoutKey: a call that needs no key loses none.
func TestHoldWithoutKey(t *testing.T) {
	t.Parallel()
	a := auth.New(auth.Config{OpenEnvironment: "staging"})
	p, err := a.Authenticate(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := a.Hold(p, time.Second)
	if h.Err() != nil || h.Lost() != nil {
		t.Error("a call without a key can lose it")
	}
	h.Release()
}
