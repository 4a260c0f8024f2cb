package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/guidon-flags/guidon/store"
)

const (
	// trust is for how long a verdict on a key holds without asking again: the
	// longest that a revocation takes to act.
	trust = time.Second
	// maxVerdicts bounds what is remembered.
	maxVerdicts = 10_000
	// maxLookups bounds the look-ups at any time, so that a flood of keys that
	// are well formed but unknown leaves the database to others.
	maxLookups = 4
	// lookupTimeout bounds one look-up.
	lookupTimeout = 5 * time.Second
	// patience is how long a call with a key that was good waits for the store
	// to say so again: a database that hangs must not make evaluation hang. While
	// the store is known to be away, a call with another key waits as long.
	patience = 250 * time.Millisecond
)

// Config says where keys are verified.
type Config struct {
	// Verify returns the key that a text is, or one of the store's ErrKey
	// errors: [store.DB.KeyByText]. Required.
	Verify func(ctx context.Context, text string) (store.Key, error)
	// All returns all keys that are good. Those that it returned last are let in
	// while Verify cannot tell; see [Authenticator.List]. Defaults to none.
	All func(ctx context.Context) ([]store.KeyHash, error)
	// Away reports that the store does not answer: no call with a key that was
	// good then waits for it. Defaults to never.
	Away func() bool
	// OpenEnvironment names an environment that calls without a key may use as
	// if they carried its server key. Defaults to none.
	OpenEnvironment string
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// Authenticator finds out who calls. It is safe for concurrent use.
type Authenticator struct {
	cfg     Config
	flights singleflight.Group
	slots   chan struct{}
	// keyring are the keys that All returned last, by the hashes of their texts.
	keyring atomic.Pointer[map[[32]byte]store.Key]

	mu       sync.Mutex
	verdicts map[[32]byte]verdict
	held     map[[32]byte]*held
}

// verdict is what the store said about a key.
type verdict struct {
	key store.Key
	err error // one of the store's ErrKey… errors
	// askedAt is when the store was last asked, whether it answered or not.
	askedAt time.Time
}

// New returns an authenticator. It starts nothing, until somebody holds a key.
func New(cfg Config) *Authenticator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Away == nil {
		cfg.Away = func() bool { return false }
	}
	return &Authenticator{cfg: cfg, slots: make(chan struct{}, maxLookups), verdicts: map[[32]byte]verdict{}, held: map[[32]byte]*held{}}
}

// Authenticate returns who sends a request with these headers: Authorization
// with a Bearer key, or X-API-Key. The error is [ErrNoPrincipal], then with no
// more of the principal than the ID of a key that was good once, or
// [store.ErrUnavailable] for a key that was not seen before and cannot be
// looked up now.
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	return a.AuthenticateOr(ctx, header, a.cfg.OpenEnvironment)
}

// AuthenticateOr is Authenticate for a listener of its own: a request without a
// key may use the environment called open as if it carried its server key. An
// empty name is none.
func (a *Authenticator) AuthenticateOr(ctx context.Context, header http.Header, open string) (Principal, error) {
	presented, err := key(header)
	if presented == "" && err == nil && open != "" {
		return Principal{KeyID: "open", Name: open, Kind: Server, environment: open, open: true}, nil
	}
	if presented == "" && err == nil {
		err = errNoKey
	}
	if err != nil {
		return Principal{}, err
	}
	text, _, err := store.ParseKey(presented)
	if err != nil {
		return Principal{}, fmt.Errorf("%w: %w", ErrNoPrincipal, err)
	}
	return a.verify(ctx, text)
}

// Recheck returns nil while the key of p is still good. It is for calls that
// take long.
func (a *Authenticator) Recheck(ctx context.Context, p Principal) error {
	if p.text == nil {
		return nil // there is no key to be revoked
	}
	_, err := a.verify(ctx, *p.text)
	if errors.Is(err, store.ErrUnavailable) {
		return nil // it was good when it was last asked about
	}
	return err
}

// key returns the key that a request carries, or nothing. Two different ones are
// refused: whichever we took, a proxy in between may have looked at the other.
func key(header http.Header) (string, error) {
	var found string
	for _, line := range header.Values("Authorization") {
		scheme, text, _ := strings.Cut(line, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", fmt.Errorf("%w: the Authorization header must be a Bearer key", ErrNoPrincipal)
		}
		if text = strings.TrimSpace(text); text == "" || found != "" && found != text {
			return "", errTwoKeys
		}
		found = text
	}
	for _, text := range header["X-Api-Key"] {
		if text = strings.TrimSpace(text); found != "" && found != text {
			return "", errTwoKeys
		}
		found = text
	}
	return found, nil
}

var (
	errNoKey   = fmt.Errorf("%w: send an API key as Authorization: Bearer, or as X-API-Key", ErrNoPrincipal)
	errTwoKeys = fmt.Errorf("%w: the request carries two different API keys", ErrNoPrincipal)
)

// verify asks the store about a key, unless it did within the last second.
func (a *Authenticator) verify(ctx context.Context, text store.KeyText) (Principal, error) {
	hash := text.Hash()
	a.mu.Lock()
	v, seen := a.verdicts[hash]
	a.mu.Unlock()
	good := seen && v.err == nil
	if !seen {
		v, good = a.listed(hash)
	}
	if !seen || a.cfg.Now().Sub(v.askedAt) >= trust {
		fresh, err := a.ask(ctx, hash, text, seen && good, good)
		switch {
		case err == nil:
			v = fresh
		case good && ctx.Err() == nil:
			a.postpone(hash, v)
		default:
			return Principal{}, err
		}
	}
	if v.err == nil && !v.key.ExpiresAt.IsZero() && !a.cfg.Now().Before(v.key.ExpiresAt) {
		v.err = store.ErrKeyExpired
	}
	if v.err != nil {
		return Principal{KeyID: v.key.ID}, fmt.Errorf("%w: %w", ErrNoPrincipal, v.err)
	}
	return Principal{
		KeyID: v.key.ID, Name: v.key.Name, Kind: Kind(v.key.Kind), environment: v.key.Environment,
		origins: v.key.Origins, propagates: v.key.Propagates, projects: v.key.Projects, text: &text,
	}, nil
}

// ask asks the store, once for all who ask about a key at the same time. For a
// key that is good as far as we know it queues with nobody, and does not wait for
// a store that is away; for one of which the store said so, it never waits long.
func (a *Authenticator) ask(ctx context.Context, hash [32]byte, text store.KeyText, saidGood, good bool) (verdict, error) {
	result := a.flights.DoChan(string(hash[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
		defer cancel()
		if !good {
			select {
			case a.slots <- struct{}{}:
				defer func() { <-a.slots }()
			case <-ctx.Done():
				return nil, fmt.Errorf("%w: too many unknown keys at once", store.ErrUnavailable)
			}
		}
		v := verdict{askedAt: a.cfg.Now()}
		v.key, v.err = a.cfg.Verify(ctx, text.Reveal())
		if v.err != nil && !isVerdict(v.err) {
			return nil, v.err
		}
		a.remember(hash, v)
		return v, nil
	})
	if good && a.cfg.Away() {
		return verdict{}, errSilent // the answer is for the next call
	}
	wait := time.NewTicker(patience)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return verdict{}, ctx.Err()
		case r := <-result:
			v, _ := r.Val.(verdict)
			return v, r.Err
		case <-wait.C:
			if saidGood || a.cfg.Away() {
				return verdict{}, errSilent
			}
		}
	}
}

var errSilent = fmt.Errorf("%w: no answer about the key", store.ErrUnavailable)

// isVerdict reports whether err says something about the key, and not about
// the store.
func isVerdict(err error) bool {
	return errors.Is(err, store.ErrKeyUnknown) || errors.Is(err, store.ErrKeyExpired) ||
		errors.Is(err, store.ErrKeyRevoked) || errors.Is(err, store.ErrKeyMalformed)
}

// postpone keeps a verdict that the store was asked about in vain, so that it is
// asked again in a while; not if it did answer, only just.
func (a *Authenticator) postpone(hash [32]byte, v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if newest, seen := a.verdicts[hash]; !seen || newest.askedAt.Equal(v.askedAt) {
		v.askedAt = a.cfg.Now()
		a.keep(hash, v)
	}
}

// remember keeps a verdict.
func (a *Authenticator) remember(hash [32]byte, v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(hash, v)
}

// keep is remember under the lock. When there are too many verdicts, the bad ones
// go first: they cost a look-up, the good ones keep calls going while Postgres is
// away.
func (a *Authenticator) keep(hash [32]byte, v verdict) {
	if _, ok := a.verdicts[hash]; !ok && len(a.verdicts) >= maxVerdicts {
		for other, old := range a.verdicts {
			if old.err != nil {
				delete(a.verdicts, other)
			}
		}
		for other := range a.verdicts {
			if len(a.verdicts) < maxVerdicts {
				break
			}
			delete(a.verdicts, other)
		}
	}
	a.verdicts[hash] = v
}
