package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Digest identifies the content of a snapshot: two snapshots of equal digest
// evaluate alike. It is SHA-256 over 256 bucket digests, so that a change of one
// row hashes one bucket again and not all rows.
//
// A row's bucket is the first byte of SHA-256(kind NUL name). A bucket's digest
// is SHA-256 over its rows in the order of [Snapshot.Rows], each as
// kind NUL name NUL SHA-256(document); that of an empty bucket is SHA-256 of nothing.
type Digest [sha256.Size]byte

// String returns 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// digests holds what a snapshot's digest is computed from. Buckets are shared
// between snapshots and never changed.
type digests struct {
	buckets [256]*bucket
	sum     Digest
}

type bucket struct {
	rows []rowDigest // sorted by name
	sum  Digest
}

type rowDigest struct {
	name Name
	sum  Digest
}

var emptyBucket = &bucket{sum: sha256.Sum256(nil)}

// with returns the digests after some rows are put and others deleted.
func (d *digests) with(upserts []Row, deletes []Name) *digests {
	next := &digests{}
	if d != nil {
		next.buckets = d.buckets
	}
	var touched [256]bool
	own := func(n Name) (*bucket, int, bool) {
		at := bucketOf(n)
		if !touched[at] {
			touched[at] = true
			b := &bucket{}
			if next.buckets[at] != nil {
				b.rows = slices.Clone(next.buckets[at].rows)
			}
			next.buckets[at] = b
		}
		b := next.buckets[at]
		i, ok := slices.BinarySearchFunc(b.rows, n, func(r rowDigest, n Name) int { return r.name.compare(n) })
		return b, i, ok
	}
	for _, n := range deletes {
		if b, i, ok := own(n); ok {
			b.rows = slices.Delete(b.rows, i, i+1)
		}
	}
	for _, row := range upserts {
		r := rowDigest{row.name(), sha256.Sum256(row.Document)}
		if b, i, ok := own(r.name); ok {
			b.rows[i] = r
		} else {
			b.rows = slices.Insert(b.rows, i, r)
		}
	}
	for i, b := range next.buckets {
		switch {
		case b == nil:
			next.buckets[i] = emptyBucket
		case touched[i]:
			b.sum = b.digest()
		}
	}
	next.add()
	return next
}

// add computes the digest over those of all buckets.
func (d *digests) add() {
	all := sha256.New()
	for _, b := range d.buckets {
		all.Write(b.sum[:])
	}
	all.Sum(d.sum[:0])
}

func (b *bucket) digest() (sum Digest) {
	h := sha256.New()
	var line []byte
	for _, r := range b.rows {
		line = append(append(appendName(line[:0], r.name), 0), r.sum[:]...)
		h.Write(line)
	}
	h.Sum(sum[:0])
	return sum
}

func bucketOf(n Name) byte {
	var room [160]byte // more than any name needs
	sum := sha256.Sum256(appendName(room[:0], n))
	return sum[0]
}

func appendName(dst []byte, n Name) []byte {
	return append(append(append(dst, n.Kind...), 0), n.Name...)
}
