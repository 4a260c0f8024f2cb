package propagate

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Secret is the 32 bytes of a propagation key. It prints as "[redacted]"
// everywhere: fmt, JSON and slog.
type Secret [32]byte

const redacted = "[redacted]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText implements encoding.TextMarshaler, which JSON uses.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Key is one propagation key of an environment: HMAC-SHA256 over the header,
// cut to 128 bits (propagation.md §2). The algorithm belongs to the key; a
// header cannot choose it. Who holds a key can forge headers of its
// environment.
type Key struct {
	ID     string // 1 to 16 of A-Z a-z 0-9 -
	Secret Secret
}

// Keyring holds the keys of one environment: one that signs, any number that
// verify. The zero value is empty: it verifies nothing and signs nothing. It
// is safe for concurrent use.
type Keyring struct {
	current atomic.Pointer[keys]
}

type keys struct {
	signer *signer // nil: this process verifies and forwards, but never mints
	all    map[string]*signer
}

// Set replaces all keys at once. signerID is the ID of the key that signs new
// headers, or empty if this process must not sign, for it sees the flags of some
// projects only: it follows headers and passes them on. Keys that only verify stay
// as long as headers signed by them may still be on their way. An error
// changes nothing.
func (r *Keyring) Set(signerID string, list []Key) error {
	next := &keys{all: make(map[string]*signer, len(list))}
	for i, k := range list {
		switch {
		case !validKeyID(k.ID):
			return fmt.Errorf("propagation key %d: id %q is not 1 to 16 of A-Z a-z 0-9 -", i, k.ID)
		case next.all[k.ID] != nil:
			return fmt.Errorf("propagation key %d: id %q is there twice", i, k.ID)
		case k.Secret == Secret{}:
			return fmt.Errorf("propagation key %d: %q has no secret", i, k.ID)
		}
		next.all[k.ID] = newSigner(k)
	}
	if signerID != "" {
		if next.signer = next.all[signerID]; next.signer == nil {
			return fmt.Errorf("propagation keys: signer %q is not among them", signerID)
		}
	}
	r.current.Store(next)
	return nil
}

// Verify reads a header that must be signed by a key of the ring. The order
// bounds what a forger can cost: length, then key id and signature at their
// fixed places, and only then the text (propagation.md §2). A refusal is a
// *HeaderError. The strings of the result share memory with value.
func (r *Keyring) Verify(value string) (Header, error) { return r.verifyAs(headerLabel, value) }

// The labels that go before what is signed, so that what was signed for one
// place is worth nothing in another.
const (
	headerLabel = "guidon/1\n"
	seenLabel   = "guidonseen/1\n"
)

func (r *Keyring) verifyAs(label, value string) (Header, error) {
	signed, kid, tag, err := split(value)
	if err != nil {
		return Header{}, err
	}
	k := r.signer(kid)
	if k == nil {
		if span(value, classAny) != len(value) {
			return Header{}, errAlphabet
		}
		return Header{}, errKey
	}
	want := k.tagOf(label, signed)
	if subtle.ConstantTimeCompare(want[:], []byte(tag)) != 1 {
		return Header{}, errTag
	}
	h, err := parse(signed)
	if err != nil {
		return Header{}, err
	}
	return h, nil
}

// IDs returns the id of the key that signs, "" for none, and those of all that
// verify, sorted.
func (r *Keyring) IDs() (signer string, verifiers []string) {
	current := r.current.Load()
	if current == nil {
		return "", nil
	}
	if current.signer != nil {
		signer = current.signer.id
	}
	return signer, slices.Sorted(maps.Keys(current.all))
}

var errNoSigner = errors.New("propagate: the keyring has no signing key")

// Sign encodes h with the signing key. It fails if there is none, or if the
// format cannot say h.
func (r *Keyring) Sign(h Header) (string, error) { return r.signAs(headerLabel, &h) }

func (r *Keyring) signAs(label string, h *Header) (string, error) {
	k := r.signing()
	if k == nil {
		return "", errNoSigner
	}
	return h.sign(k, label)
}

func (r *Keyring) signing() *signer {
	if current := r.current.Load(); current != nil {
		return current.signer
	}
	return nil
}

// onlyVerifies reports whether there are keys and none of them signs.
func (r *Keyring) onlyVerifies() bool {
	current := r.current.Load()
	return current != nil && current.signer == nil && len(current.all) > 0
}

func (r *Keyring) signer(kid string) *signer {
	if current := r.current.Load(); current != nil {
		return current.all[kid]
	}
	return nil
}

// signer is a key made ready: the hash states are reused, since setting up
// HMAC costs more than hashing a header.
type signer struct {
	id   string
	macs sync.Pool // of *mac
}

type mac struct {
	hash hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

func newSigner(k Key) *signer {
	s := &signer{id: k.ID}
	s.macs.New = func() any { return &mac{hash: hmac.New(sha256.New, k.Secret[:])} }
	return s
}

// tagOf returns the signature of the text before ";s=:", in base64.
func (k *signer) tagOf(label, signed string) (tag [tagLength]byte) {
	m := k.macs.Get().(*mac)
	m.text = append(append(m.text[:0], label...), signed...)
	tag = m.tag()
	k.macs.Put(m)
	return tag
}

// tag returns the signature of m.text.
func (m *mac) tag() (tag [tagLength]byte) {
	m.hash.Reset()
	m.hash.Write(m.text)
	base64.StdEncoding.Encode(tag[:], m.hash.Sum(m.sum[:0])[:16])
	return tag
}
