package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Installation is the scope of the chain that belongs to no environment.
const Installation = ""

// Hash is a SHA-256. The zero value stands before the first entry.
type Hash [32]byte

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Entry is one link of a chain.
type Entry struct {
	// Scope is the environment, or Installation.
	Scope string
	// Seq counts 1, 2, 3 … within the scope.
	Seq int64
	// Prev is the hash of the entry before; zero for the first.
	Prev Hash
	// Hash is EntryHash of the fields above and the payload.
	Hash Hash
	// Payload is a [Record] in canonical JSON.
	Payload []byte
	// Texts are those whose hashes the payload holds, by hash, except for those
	// that were erased.
	Texts []Text
}

// Head is how far a chain goes: what the next entry builds on. The zero value
// is the empty chain.
type Head struct {
	Seq  int64
	Hash Hash
}

// Next makes the entry that follows head.
func (head Head) Next(scope string, payload []byte) Entry {
	seq := head.Seq + 1
	return Entry{Scope: scope, Seq: seq, Prev: head.Hash, Hash: EntryHash(scope, seq, head.Hash, payload), Payload: payload}
}

// EntryHash is SHA-256 over "guidon.audit.v1", the scope, the number (8 bytes,
// big-endian), the previous hash and the SHA-256 of the payload, each preceded
// by its length in bytes (4 bytes, big-endian).
func EntryHash(scope string, seq int64, prev Hash, payload []byte) Hash {
	sum := sha256.Sum256(payload)
	var b []byte
	for _, part := range [][]byte{
		[]byte("guidon.audit.v1"), []byte(scope), binary.BigEndian.AppendUint64(nil, uint64(seq)), prev[:], sum[:],
	} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}
