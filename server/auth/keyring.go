package auth

import (
	"context"
	"time"

	"github.com/guidon-flags/guidon/store"
)

// listEvery is how often all keys are read, for a time without the store.
const listEvery = 30 * time.Second

// Run calls [Authenticator.List] every 30 s, until ctx ends.
func (a *Authenticator) Run(ctx context.Context) {
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.List(ctx)
		}
	}
}

// List reads all keys that are good, if Config.All says how: so a replica knows
// also those that nobody showed it yet, when the store is away. While the store
// answers, it alone says whether a key is good. If the keys cannot be read, those
// that were read last go on.
func (a *Authenticator) List(ctx context.Context) {
	if a.cfg.All == nil {
		return
	}
	ctx, cancel := context.WithTimeout(store.Background(ctx), lookupTimeout)
	defer cancel()
	all, err := a.cfg.All(ctx)
	if err != nil {
		return // the store is away, as the hub logs
	}
	keyring := make(map[[32]byte]store.Key, len(all))
	for _, k := range all {
		keyring[k.Hash] = k.Key
	}
	a.keyring.Store(&keyring)
}

// listed returns what the list of all keys says of one, and whether it is there.
// It was not asked about for itself.
func (a *Authenticator) listed(hash [32]byte) (verdict, bool) {
	keyring := a.keyring.Load()
	if keyring == nil {
		return verdict{}, false
	}
	k, ok := (*keyring)[hash]
	return verdict{key: k}, ok
}
