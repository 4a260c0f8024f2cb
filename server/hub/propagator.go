package hub

import (
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// newPropagator makes what follows the guidon headers of requests to this
// server. Whoever can send one holds the environment's key.
func (e *Environment) newPropagator() *propagate.Propagator {
	p, err := propagate.New(propagate.Config{
		Snapshots: e, Keys: &e.keyring, Environment: e.Name, Mode: propagate.Internal, Now: e.hub.cfg.Now,
	})
	if err != nil {
		panic(err) // all that is required is there
	}
	return p
}

// Propagator applies the rules of the guidon header over the environment, for
// requests of services that have no engine of their own. Its mode is Internal.
func (e *Environment) Propagator() *propagate.Propagator { return e.propagator }

// useKeys makes the keys of a head those that headers are verified with.
func (e *Environment) useKeys(head *Head) error {
	var keys []propagate.Key
	for _, k := range head.Keys().GetKeys() {
		if len(k.GetSecret()) == len(propagate.Secret{}) {
			keys = append(keys, propagate.Key{ID: k.GetId(), Secret: propagate.Secret(k.GetSecret())})
		}
	}
	return e.keyring.Set(head.Keys().GetSigner(), keys)
}

// Verify returns nil for a guidon header that was signed with one of the
// environment's keys, else a [*propagate.HeaderError].
func (e *Environment) Verify(header string) error {
	_, err := e.keyring.Verify(header)
	return err
}
