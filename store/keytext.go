package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"
)

// KeyKind says what an API key is for.
type KeyKind string

// The kinds of API keys.
const (
	KeyServer KeyKind = "server" // a service's SDK: reads one environment
	KeyClient KeyKind = "client" // a browser or an app: evaluated values only
	KeyAdmin  KeyKind = "admin"  // people and tools: the whole installation
	KeyRelay  KeyKind = "relay"  // a relay: one environment with its keys' hashes
)

// ErrKeyMalformed says that a text is not an API key: wrong shape or checksum.
var ErrKeyMalformed = errors.New("malformed API key")

// KeyText is an API key in clear, gdn_<kind>_<30 random><6 checksum>, in
// base62. It exists once, when the key is made; the database holds its
// SHA-256. It never prints by accident: see Reveal.
type KeyText struct{ text string }

const (
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	keyRandom   = 30
	keyChecksum = 6
)

func newKeyText(kind KeyKind) KeyText {
	var b strings.Builder
	b.WriteString("gdn_" + string(kind) + "_")
	for range keyRandom {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(base62))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		b.WriteByte(base62[n.Int64()])
	}
	return KeyText{b.String() + checksum(b.String())}
}

// ParseKey checks the shape and the checksum of an API key, so that a mistyped
// one costs no database read. The error is ErrKeyMalformed and never quotes
// the text.
func ParseKey(text string) (KeyText, KeyKind, error) {
	rest, ok := strings.CutPrefix(text, "gdn_")
	name, secret, found := strings.Cut(rest, "_")
	kind := KeyKind(name)
	if !ok || !found || !kind.valid() || len(secret) != keyRandom+keyChecksum ||
		strings.Trim(secret, base62) != "" || checksum(text[:len(text)-keyChecksum]) != secret[keyRandom:] {
		return KeyText{}, "", ErrKeyMalformed
	}
	return KeyText{text}, kind, nil
}

// checksum is the CRC-32 (IEEE) of text, six base62 digits, most significant first.
func checksum(text string) string {
	var b [keyChecksum]byte
	for n, i := crc32.ChecksumIEEE([]byte(text)), keyChecksum-1; i >= 0; i-- {
		b[i] = base62[n%62]
		n /= 62
	}
	return string(b[:])
}

func (k KeyKind) valid() bool {
	return k == KeyServer || k == KeyClient || k == KeyAdmin || k == KeyRelay
}

// Reveal returns the key itself.
func (t KeyText) Reveal() string { return t.text }

// Hash is what the database knows the key by.
func (t KeyText) Hash() [32]byte { return sha256.Sum256([]byte(t.text)) }

func (t KeyText) hint() string { return t.text[len(t.text)-4:] }

// String hides the key.
func (KeyText) String() string { return redacted }

// GoString hides the key from %#v.
func (KeyText) GoString() string { return redacted }

// LogValue hides the key from slog.
func (KeyText) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides the key.
func (KeyText) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
