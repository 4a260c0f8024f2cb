package auth_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

// ring is a store of keys in memory that counts how often it is asked.
type ring struct {
	mu    sync.Mutex
	keys  map[string]store.Key
	errs  map[string]error
	away  error
	asked int
	hang  chan struct{}
}

func (r *ring) verify(ctx context.Context, text string) (store.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.hang != nil {
		hang := r.hang
		r.mu.Unlock()
		select {
		case <-hang:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	if r.away != nil {
		return store.Key{}, r.away
	}
	if err := r.errs[text]; err != nil {
		return store.Key{}, err
	}
	if k, ok := r.keys[text]; ok {
		return k, nil
	}
	return store.Key{}, store.ErrKeyUnknown
}

// change changes what the ring answers from now on.
func (r *ring) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// keyText makes a well-formed key of kind, a different one for each n.
func keyText(kind string, n int) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := fmt.Sprintf("gdn_%s_%030d", kind, n)
	sum := crc32.ChecksumIEEE([]byte(text))
	var check [6]byte
	for i := len(check) - 1; i >= 0; i-- {
		check[i] = digits[sum%62]
		sum /= 62
	}
	return text + string(check[:])
}

func bearer(text string) http.Header { return http.Header{"Authorization": {"Bearer " + text}} }

func newRing(texts ...string) *ring {
	r := &ring{keys: map[string]store.Key{}, errs: map[string]error{}}
	for i, text := range texts {
		kind := store.KeyKind(strings.Split(text, "_")[1])
		k := store.Key{ID: fmt.Sprintf("k%d", i), Kind: kind, Name: "checkout"}
		if kind != store.KeyAdmin {
			k.Environment = "staging"
		}
		r.keys[text] = k
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	server, admin, revoked, expired := keyText("server", 1), keyText("admin", 2), keyText("server", 3), keyText("server", 4)
	keys := newRing(server, admin)
	keys.errs[revoked], keys.errs[expired] = store.ErrKeyRevoked, store.ErrKeyExpired
	a := auth.New(auth.Config{Verify: keys.verify})
	flipped := server[:len(server)-1] + string(server[len(server)-1]^1)
	for name, tt := range map[string]struct {
		header http.Header
		want   string // the principal, or "" for none
	}{
		"bearer":            {bearer(server), "key:k0 checkout"},
		"bearer, any case":  {http.Header{"Authorization": {"bearer " + admin}}, "key:k1 checkout"},
		"X-API-Key":         {http.Header{"X-Api-Key": {server}}, "key:k0 checkout"},
		"both, the same":    {http.Header{"Authorization": {"Bearer " + server}, "X-Api-Key": {server}}, "key:k0 checkout"},
		"both, different":   {http.Header{"Authorization": {"Bearer " + server}, "X-Api-Key": {admin}}, ""},
		"two lines":         {http.Header{"Authorization": {"Bearer " + server, "Bearer " + admin}}, ""},
		"two API key lines": {http.Header{"X-Api-Key": {admin, server}}, ""},
		"nothing":           {http.Header{}, ""},
		"empty":             {bearer(""), ""},
		"empty, with a key": {http.Header{"Authorization": {"Bearer "}, "X-Api-Key": {server}}, ""},
		"basic":             {http.Header{"Authorization": {"Basic " + server}}, ""},
		"no scheme":         {http.Header{"Authorization": {server}}, ""},
		"unknown":           {bearer(keyText("server", 9)), ""},
		"bad checksum":      {bearer(flipped), ""},
		"truncated":         {bearer(server[:len(server)-1]), ""},
		"unknown kind":      {bearer(keyText("root", 1)), ""},
		"joined":            {bearer(server + ", " + admin), ""},
		"revoked":           {bearer(revoked), ""},
		"expired":           {bearer(expired), ""},
	} {
		p, err := a.Authenticate(t.Context(), tt.header)
		if tt.want == "" {
			if !errors.Is(err, auth.ErrNoPrincipal) || p.Kind != "" {
				t.Errorf("%s: Authenticate = %v, %v, want nobody, ErrNoPrincipal", name, p, err)
			}
			if err != nil && strings.Contains(err.Error(), server[12:30]) {
				t.Errorf("%s: the error shows the key: %v", name, err)
			}
			continue
		}
		if err != nil || p.String() != tt.want {
			t.Errorf("%s: Authenticate = %v, %v, want %s", name, p, err, tt.want)
		}
	}
}

func TestMalformedKeysCostNoLookup(t *testing.T) {
	t.Parallel()
	good := keyText("server", 1)
	keys := newRing(good)
	a := auth.New(auth.Config{Verify: keys.verify})
	for i := range good {
		broken := good[:i] + "!" + good[i+1:]
		if _, err := a.Authenticate(t.Context(), bearer(broken)); !errors.Is(err, auth.ErrNoPrincipal) {
			t.Errorf("Authenticate(%q) = %v, want ErrNoPrincipal", broken, err)
		}
	}
	if keys.asked != 0 {
		t.Errorf("the store was asked %d times about malformed keys, want never", keys.asked)
	}
}

func TestRevocationActsWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := keyText("server", 1)
		keys := newRing(text)
		a := auth.New(auth.Config{Verify: keys.verify})
		var p auth.Principal
		for range 100 {
			var err error
			if p, err = a.Authenticate(t.Context(), bearer(text)); err != nil {
				t.Fatal(err)
			}
		}
		if keys.asked != 1 {
			t.Errorf("100 calls within a second asked the store %d times, want once", keys.asked)
		}
		keys.change(func() { keys.errs[text] = store.ErrKeyRevoked })
		time.Sleep(time.Second)
		if _, err := a.Authenticate(t.Context(), bearer(text)); !errors.Is(err, auth.ErrNoPrincipal) || !errors.Is(err, store.ErrKeyRevoked) {
			t.Errorf("a second after the revocation: %v, want ErrNoPrincipal and ErrKeyRevoked", err)
		}
		if err := a.Recheck(t.Context(), p); !errors.Is(err, auth.ErrNoPrincipal) {
			t.Errorf("Recheck after the revocation: %v, want ErrNoPrincipal", err)
		}
	})
}

func TestExpiryActsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		text := keyText("server", 1)
		keys := newRing(text)
		k := keys.keys[text]
		k.ExpiresAt = time.Now().Add(300 * time.Millisecond)
		keys.keys[text] = k
		a := auth.New(auth.Config{Verify: keys.verify})
		if _, err := a.Authenticate(t.Context(), bearer(text)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		if _, err := a.Authenticate(t.Context(), bearer(text)); !errors.Is(err, store.ErrKeyExpired) {
			t.Errorf("at its expiry: %v, want ErrKeyExpired", err)
		}
	})
}

// TestStoreAway: a key that was good stays good while the store cannot answer,
// whether it says so or says nothing; one that was never seen is not let in.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*ring){
		"refuses": func(r *ring) { r.away = store.ErrUnavailable },
		"hangs":   func(r *ring) { r.hang = make(chan struct{}); r.away = store.ErrUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				known, fresh := keyText("server", 1), keyText("server", 2)
				keys := newRing(known, fresh)
				a := auth.New(auth.Config{Verify: keys.verify})
				p, err := a.Authenticate(t.Context(), bearer(known))
				if err != nil {
					t.Fatal(err)
				}
				keys.change(func() { lose(keys) })
				time.Sleep(time.Hour)
				start := time.Now()
				for range 50 {
					if _, err := a.Authenticate(t.Context(), bearer(known)); err != nil {
						t.Fatalf("a key that was good, the store away: %v", err)
					}
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("50 calls waited %s for a store that is away", took)
				}
				if err := a.Recheck(t.Context(), p); err != nil {
					t.Errorf("Recheck with the store away: %v, want nil", err)
				}
				if _, err := a.Authenticate(t.Context(), bearer(fresh)); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("a key never seen, the store away: %v, want ErrUnavailable", err)
				}
			})
		})
	}
}

// TestNobodyWaitsForAStoreThatIsAway: once it is known that the store is away, a
// key that was good costs no time, nor does one that was only ever listed, and
// one that nobody knows is refused soon. When the store is back it decides again.
func TestNobodyWaitsForAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shown, listed, revoked, unknown := keyText("server", 1), keyText("server", 2), keyText("server", 3), keyText("server", 4)
		keys := newRing(shown, listed, revoked)
		var away atomic.Bool
		a := auth.New(auth.Config{Verify: keys.verify, Away: away.Load, All: func(context.Context) ([]store.KeyHash, error) {
			var all []store.KeyHash
			for text, k := range keys.keys {
				parsed, _, err := store.ParseKey(text)
				if err != nil {
					t.Error(err)
				}
				all = append(all, store.KeyHash{Key: k, Hash: parsed.Hash()})
			}
			return all, nil
		}})
		a.List(t.Context())
		keys.errs[revoked] = store.ErrKeyRevoked
		if _, err := a.Authenticate(t.Context(), bearer(shown)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(t.Context(), bearer(revoked)); !errors.Is(err, store.ErrKeyRevoked) {
			t.Errorf("a key that is still listed, but revoked: %v, want ErrKeyRevoked", err)
		}
		hang := make(chan struct{})
		keys.change(func() { keys.hang, keys.away = hang, store.ErrUnavailable })
		away.Store(true)
		start := time.Now()
		for range 20 {
			time.Sleep(700 * time.Millisecond)
			start = start.Add(700 * time.Millisecond)
			for _, text := range []string{shown, listed} {
				if p, err := a.Authenticate(t.Context(), bearer(text)); err != nil || p.Kind != auth.Server {
					t.Errorf("a key that is good as far as one knows: %v, %v", p, err)
				}
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("calls waited %s for a store that is away", took)
		}
		for _, text := range []string{unknown, revoked} {
			if _, err := a.Authenticate(t.Context(), bearer(text)); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a key that nobody knows, or that was refused: %v, want ErrUnavailable", err)
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("unknown keys waited %s for a store that is away", took)
		}
		close(hang)
		keys.change(func() { keys.hang, keys.away = nil, nil; keys.errs[shown] = store.ErrKeyRevoked })
		away.Store(false)
		time.Sleep(time.Second)
		if _, err := a.Authenticate(t.Context(), bearer(shown)); !errors.Is(err, store.ErrKeyRevoked) {
			t.Errorf("a key that was revoked, the store back: %v, want ErrKeyRevoked", err)
		}
	})
}

// TestFloodOfUnknownKeys: keys that nobody has, all well formed, at once and
// many: the store is asked about few at a time, and what is kept is bounded.
func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	good := keyText("server", 0)
	keys := newRing(good)
	a := auth.New(auth.Config{Verify: keys.verify})
	if _, err := a.Authenticate(t.Context(), bearer(good)); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 12_000; n++ {
		if _, err := a.Authenticate(t.Context(), bearer(keyText("server", n))); !errors.Is(err, store.ErrKeyUnknown) {
			t.Fatalf("unknown key %d: %v, want ErrKeyUnknown", n, err)
		}
	}
	keys.change(func() { keys.away = store.ErrUnavailable })
	if _, err := a.Authenticate(t.Context(), bearer(good)); err != nil {
		t.Errorf("the good key was forgotten in the flood: %v", err)
	}
}

func TestPrincipalEnvironment(t *testing.T) {
	t.Parallel()
	server, admin := keyText("server", 1), keyText("admin", 2)
	a := auth.New(auth.Config{Verify: newRing(server, admin).verify})
	for _, tt := range []struct {
		text, asked, want string
		err               error
	}{
		{server, "", "staging", nil},
		{server, "staging", "staging", nil},
		{server, "production", "", auth.ErrDenied},
		{server, "no-such", "", auth.ErrDenied},
		{server, "STAGING", "", auth.ErrDenied},
		{admin, "production", "production", nil},
		{admin, "", "", nil},
	} {
		p, err := a.Authenticate(t.Context(), bearer(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Environment(tt.asked); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s key: Environment(%q) = %q, %v, want %q, %v", p.Kind, tt.asked, got, err, tt.want, tt.err)
		}
		if printed := fmt.Sprintf("%v %+v %#v %s", p, p, p, p); strings.Contains(printed, tt.text) {
			t.Errorf("a principal prints its key: %s", printed)
		}
	}
	if got, err := (auth.Principal{}).Environment("staging"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("nobody: Environment = %q, %v, want ErrDenied", got, err)
	}
}

func TestOpenEnvironment(t *testing.T) {
	t.Parallel()
	a := auth.New(auth.Config{Verify: newRing().verify, OpenEnvironment: "development"})
	p, err := a.Authenticate(t.Context(), http.Header{})
	if err != nil || p.Kind != auth.Server {
		t.Fatalf("without a key: %v, %v, want a server principal", p, err)
	}
	if got, err := p.Environment("production"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("an open principal in another environment: %q, %v, want ErrDenied", got, err)
	}
	if _, err := a.Authenticate(t.Context(), bearer(keyText("server", 1))); !errors.Is(err, auth.ErrNoPrincipal) {
		t.Errorf("a wrong key where none is needed: %v, want ErrNoPrincipal", err)
	}
}
