package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// A MasterKey seals the keys that the database holds. It never prints. The
// zero value is no key.
type MasterKey struct{ secret [32]byte }

// ErrMasterKey says that there is no master key, that its text cannot be
// read, or that it is not the one that sealed what is to be opened.
var ErrMasterKey = errors.New("master key")

// ErrNoMasterKey is the [ErrMasterKey] of a database opened without one.
var ErrNoMasterKey = fmt.Errorf("%w: none was given", ErrMasterKey)

const redacted = "[redacted]"

// NewMasterKey makes a master key of 32 random bytes.
func NewMasterKey(secret [32]byte) MasterKey { return MasterKey{secret} }

// ParseMasterKey reads a key of 32 bytes from hex or base64; space around it
// is ignored.
func ParseMasterKey(text string) (MasterKey, error) {
	text = strings.TrimSpace(text)
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString,
		base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	} {
		if raw, err := decode(text); err == nil && len(raw) == 32 {
			k := MasterKey{[32]byte(raw)}
			if k.IsZero() {
				break
			}
			return k, nil
		}
	}
	return MasterKey{}, errors.Join(ErrMasterKey, &FieldError{"master key", "must be 32 bytes in hex or base64, not all zero"})
}

// IsZero reports whether there is no key.
func (k MasterKey) IsZero() bool { return k == MasterKey{} }

// Text returns the key in hex, for the one place that stores it.
func (k MasterKey) Text() string { return hex.EncodeToString(k.secret[:]) }

// String hides the key.
func (MasterKey) String() string { return redacted }

// GoString hides the key from %#v.
func (MasterKey) GoString() string { return redacted }

// LogValue hides the key from slog.
func (MasterKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the key.
func (MasterKey) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// purpose says what a sealed key is for.
type purpose string

const (
	forPropagation purpose = "propagation_key"
	forOverrides   purpose = "override_key"
	forCheckpoints purpose = "checkpoint_key"
)

// seal encrypts a key with AES-256-GCM under a random nonce, which goes first.
// What it is for, the environment and the key's ID are authenticated with it,
// so that a sealed key is of no use in another row.
func (k MasterKey) seal(secret [32]byte, p purpose, env, kid string) []byte {
	aead := k.aead()
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // crypto/rand does not fail
	return aead.Seal(nonce, nonce, secret[:], p.sealedFor(env, kid))
}

func (k MasterKey) open(sealed []byte, p purpose, env, kid string) (secret [32]byte, err error) {
	aead := k.aead()
	if len(sealed) < aead.NonceSize() {
		return secret, fmt.Errorf("%w: the sealed key is cut short", ErrMasterKey)
	}
	raw, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], p.sealedFor(env, kid))
	if err != nil || len(raw) != len(secret) {
		return secret, fmt.Errorf("%w: it is not the one that sealed this key", ErrMasterKey)
	}
	return [32]byte(raw), nil
}

func (k MasterKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.secret[:])
	if err != nil {
		panic(err) // the key is 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM needs
	}
	return aead
}

func (p purpose) sealedFor(env, kid string) []byte {
	return []byte("guidon." + string(p) + ".v1\x00" + env + "\x00" + kid)
}
