package checkpoint

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Hash is the root of a tree or of a part of one.
type Hash = tlog.Hash

// Checkpoint says what a chain was when it had a number of entries.
type Checkpoint struct {
	// Origin names the chain: see [Origin].
	Origin string
	// Size is how many entries the tree covers.
	Size int64
	Root Hash
}

// Errors of this package.
var (
	// ErrMalformed says that a note is no checkpoint.
	ErrMalformed = errors.New("malformed checkpoint")
	// ErrSignature says that a checkpoint is not signed by the key that it
	// should be signed by.
	ErrSignature = errors.New("checkpoint is not signed by the known key")
	// ErrInconsistent says that two signed checkpoints are of different
	// histories: the log was rewritten.
	ErrInconsistent = errors.New("audit log does not extend the checkpoint that is remembered")
)

// maxNote bounds the text of a checkpoint.
const maxNote = 4096

// Origin names the chain of an environment, or with "" that of the
// installation, under the name of the key that signs for it.
func Origin(keyName, environment string) string {
	if environment == "" {
		return keyName + "/installation"
	}
	return keyName + "/environment/" + environment
}

// Of reports whether a checkpoint is of the chain of an environment, whatever
// the name of its key.
func (c Checkpoint) Of(environment string) bool {
	return strings.HasSuffix(c.Origin, Origin("", environment))
}

// text is what is signed: three lines, the root in base64.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// Sign returns the note of a checkpoint.
func Sign(c Checkpoint, signer note.Signer) (string, error) {
	signed, err := note.Sign(&note.Note{Text: c.text()}, signer)
	return string(signed), err
}

// Open checks the signature of a note against a verifier key, as
// [Key.VerifierText] writes it, and returns its checkpoint.
func Open(signed, verifier string) (Checkpoint, error) {
	if len(signed) > maxNote {
		return Checkpoint{}, fmt.Errorf("%w: it is longer than %d bytes", ErrMalformed, maxNote)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the verifier key cannot be read", ErrMalformed)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	// A note has one form only, so that nothing in it can be changed unseen.
	signature, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil || signed != n.Text+"\n\u2014 "+n.Sigs[0].Name+" "+base64.StdEncoding.EncodeToString(signature)+"\n" {
		return Checkpoint{}, fmt.Errorf("%w: it has more than one signature, or an odd one", ErrMalformed)
	}
	return parse(n.Text)
}

func parse(text string) (c Checkpoint, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[3] != "" {
		return c, fmt.Errorf("%w: want three lines", ErrMalformed)
	}
	c.Origin = lines[0]
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return c, fmt.Errorf("%w: %.32q is no size", ErrMalformed, lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return c, fmt.Errorf("%w: %.64q is no root", ErrMalformed, lines[2])
	}
	c.Root = Hash(root)
	return c, nil
}

// Extends returns nil if the proof shows that the tree of newer begins with
// the tree of older: nothing that older covers was changed, dropped or moved.
// Two of one size must be the same.
func (c Checkpoint) Extends(older Checkpoint, proof []Hash) error {
	var err error
	switch {
	case c.Origin != older.Origin:
		return fmt.Errorf("%w: it is of %.128q, and was of %.128q", ErrInconsistent, c.Origin, older.Origin)
	case c.Size < older.Size:
		return fmt.Errorf("%w: it has %d entries, and had %d", ErrInconsistent, c.Size, older.Size)
	case c.Size == older.Size && c.Root != older.Root:
		return fmt.Errorf("%w: its %d entries are not those that they were", ErrInconsistent, c.Size)
	case c.Size > older.Size && older.Size > 0:
		err = tlog.CheckTree(proof, c.Size, c.Root, older.Size, older.Root)
	}
	if err != nil {
		return fmt.Errorf("%w: the proof from %d to %d entries does not hold", ErrInconsistent, older.Size, c.Size)
	}
	return nil
}

// Key signs checkpoints. It never prints its secret.
type Key struct {
	note.Verifier
	private ed25519.PrivateKey
	text    string
}

// NewKey makes the key of a name, which has no space and no plus sign, from a
// seed of 32 random bytes.
func NewKey(name string, seed [ed25519.SeedSize]byte) (Key, error) {
	private := ed25519.NewKeyFromSeed(seed[:])
	public, _ := private.Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return Key{}, fmt.Errorf("checkpoint key: %w", err)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return Key{}, fmt.Errorf("checkpoint key %q: %w", name, err)
	}
	return Key{v, private, text}, nil
}

// Sign signs the text of a note; see [Sign].
func (k Key) Sign(message []byte) ([]byte, error) { return ed25519.Sign(k.private, message), nil }

// VerifierText is the public key: what an outsider must know to check a
// checkpoint.
func (k Key) VerifierText() string { return k.text }

// String names the key and hides the secret.
func (k Key) String() string { return "checkpoint key " + k.Name() }

// GoString hides the secret from %#v.
func (k Key) GoString() string { return k.String() }

// MarshalJSON hides the secret.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// LogValue hides the secret from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }
