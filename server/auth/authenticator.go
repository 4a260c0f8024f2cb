package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
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
)

// Keys is where keys are verified: [store.DB], in everything but tests.
type Keys interface {
	KeyByText(ctx context.Context, text string) (store.Key, error)
}

// Config says where keys are verified.
type Config struct {
	// Keys verifies. Required.
	Keys Keys
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

	mu       sync.Mutex
	verdicts map[[32]byte]verdict
}

// verdict is what the store said about a key, and when.
type verdict struct {
	key store.Key
	err error // one of the store's ErrKey… errors
	at  time.Time
}

// New returns an authenticator. It starts nothing.
func New(cfg Config) *Authenticator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Authenticator{cfg: cfg, slots: make(chan struct{}, maxLookups), verdicts: map[[32]byte]verdict{}}
}

// Authenticate returns who sends a request with these headers: Authorization
// with a Bearer key, or X-API-Key. The error is [ErrNoPrincipal], or
// [store.ErrUnavailable] for a key that was not seen before and cannot be
// looked up now.
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	presented, err := key(header)
	if presented == "" && err == nil && a.cfg.OpenEnvironment != "" {
		return Principal{KeyID: "open", Name: a.cfg.OpenEnvironment, Kind: Server, environment: a.cfg.OpenEnvironment}, nil
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

// key returns the key that a request carries, or nothing. Two different ones are refused:
// whichever we took, a proxy in between may have looked at the other.
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
	for _, text := range header.Values("X-API-Key") {
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
	if !seen || a.cfg.Now().Sub(v.at) >= trust {
		fresh, err := a.lookup(ctx, hash, text)
		switch {
		case err == nil:
			v = fresh
		case !seen || v.err != nil || !errors.Is(err, store.ErrUnavailable):
			return Principal{}, err
		}
	}
	if v.err == nil && !v.key.ExpiresAt.IsZero() && !a.cfg.Now().Before(v.key.ExpiresAt) {
		v.err = store.ErrKeyExpired
	}
	if v.err != nil {
		return Principal{}, fmt.Errorf("%w: %w", ErrNoPrincipal, v.err)
	}
	return Principal{
		KeyID: v.key.ID, Name: v.key.Name, Kind: Kind(v.key.Kind), environment: v.key.Environment, text: &text,
	}, nil
}

// lookup asks the store, once for all who ask at the same time, and remembers
// what it said.
func (a *Authenticator) lookup(ctx context.Context, hash [32]byte, text store.KeyText) (verdict, error) {
	result := a.flights.DoChan(string(hash[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
		defer cancel()
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: too many unknown keys", store.ErrUnavailable)
		}
		at := a.cfg.Now() // before the question: the answer is at least as new
		found, err := a.cfg.Keys.KeyByText(ctx, text.Reveal())
		v := verdict{key: found, err: err, at: at}
		switch {
		case err == nil, errors.Is(err, store.ErrKeyUnknown), errors.Is(err, store.ErrKeyExpired), errors.Is(err, store.ErrKeyRevoked),
			errors.Is(err, store.ErrKeyMalformed):
			a.remember(hash, v)
			return v, nil
		}
		return nil, err
	})
	select {
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	case r := <-result:
		v, _ := r.Val.(verdict)
		return v, r.Err
	}
}

// remember keeps a verdict. When there are too many, the bad ones go first:
// they cost a look-up, the good ones keep calls going while Postgres is away.
func (a *Authenticator) remember(hash [32]byte, v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
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
