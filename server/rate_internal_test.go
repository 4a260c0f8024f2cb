package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// A limiter gives each name its rate, forgets who did not draw for long, and
// holds no more than it may.
func TestLimiter(t *testing.T) {
	t.Parallel()
	now, refused := time.Unix(1_700_000_000, 0), 0
	l := newLimiter(5, func() time.Time { return now }, func() { refused++ })
	l.most = 3
	drain := func(name string) (taken int) {
		for l.take(name) == 0 {
			taken++
		}
		return taken
	}
	for round := range 4 {
		// However the seconds fall on the turns, each name gets its rate and no more.
		want := 5
		if round == 0 {
			want = 10 // a bucket begins full
		}
		for _, name := range []string{"a", "b", "c"} {
			if got := drain(name); got != want {
				t.Errorf("round %d: %s got %d, want %d", round, name, got, want)
			}
		}
		now = now.Add(time.Second)
	}
	if wait := l.take("a"); wait != 0 {
		t.Errorf("after a second a waits %s", wait)
	}
	drain("a")
	if wait := l.take("a"); wait <= 0 || wait > 200*time.Millisecond {
		t.Errorf("an empty bucket says %s, want the time to the next", wait)
	}
	now = now.Add(time.Hour)
	if got := drain("a"); got != 10 {
		t.Errorf("after an hour a got %d, want 10", got)
	}
	// Names without end share what is left, and take no memory.
	late := 0
	for i := range 1000 {
		late += drain(fmt.Sprintf("flood-%d", i))
	}
	if most := 10 + 2*10; late > most {
		t.Errorf("a flood of names got %d, want at most %d", late, most)
	}
	if held := len(l.young) + len(l.old); held > 2*l.most {
		t.Errorf("%d buckets are held, want at most %d", held, 2*l.most)
	}
	if refused == 0 {
		t.Error("nothing was counted")
	}
	var none *limiter
	if none = newLimiter(0, nil, nil); none.take("a") != 0 {
		t.Error("a rate of 0 limits")
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"192.0.2.7:80": "192.0.2.7", "[::ffff:192.0.2.7]:80": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80": "fe80::/64", "pipe": "pipe",
	} {
		if got := (&call{remote: remote}).from(); got != want {
			t.Errorf("a call from %s is from %s, want %s", remote, got, want)
		}
	}
}

// At a change all the pages that a full server tells of it evaluate again, with
// the one client key that they share. By default none of them is refused.
func TestClientRateFitsTheStreams(t *testing.T) {
	t.Parallel()
	now := time.Now()
	verify := func(context.Context, string) (store.Key, error) { return store.Key{}, store.ErrKeyUnknown }
	s := New(Config{Relay: true, Verify: verify, Hub: hub.New(hub.Config{}), Now: func() time.Time { return now }})
	for n := range s.cfg.MaxStreams {
		if s.rates.client.take("web") > 0 {
			t.Fatalf("evaluation %d of %d at once is refused", n+1, s.cfg.MaxStreams)
		}
	}
	if s.rates.client.take("web") == 0 {
		t.Error("there is no bound")
	}
	if s.rates.server.take("service") > 0 || s.rates.address.take("192.0.2.1") > 0 {
		t.Error("services and addresses are bounded where nobody asked for it")
	}
}
