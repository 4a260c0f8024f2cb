package store

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"
)

// PropagationKey signs and verifies the guidon header of one environment. It
// never prints its secret.
type PropagationKey struct {
	// ID travels in the header: 1 to 16 letters, digits and hyphens.
	ID        string
	Secret    [32]byte
	CreatedAt time.Time
	// RetiredAt is when the key stopped signing; zero for the signer. A
	// retired key still verifies.
	RetiredAt time.Time
}

// PropagationKeys returns the keys of an environment, the signer first, and
// makes one if there is none. It needs the master key: ErrMasterKey.
func (db *DB) PropagationKeys(ctx context.Context, env string) (keys []PropagationKey, signer string, err error) {
	return nil, "", ErrMasterKey
}

// String names the key and hides the secret.
func (k PropagationKey) String() string { return "propagation key " + k.ID }

// GoString hides the secret from %#v.
func (k PropagationKey) GoString() string { return k.String() }

// LogValue hides the secret from slog.
func (k PropagationKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON hides the secret.
func (k PropagationKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
