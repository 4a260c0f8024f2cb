package audit_test

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/guidon-flags/guidon/store/audit"
)

// leaf is the hash of some entry.
func leaf(i int64) audit.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// stored keeps every hash of a tree of n entries, as the reference does.
func stored(t *testing.T, n int64) tlog.HashReader {
	t.Helper()
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	for i := range n {
		h := leaf(i)
		more, err := tlog.StoredHashes(i, h[:], reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	return reader
}

func TestTreeIsThatOfRFC6962(t *testing.T) {
	t.Parallel()
	const size = 300
	reader := stored(t, size)
	var tree audit.Tree
	for n := range int64(size) {
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		again, err := audit.NewTree(n, tree.Edge())
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != want || again.Root() != want || again.Size() != n {
			t.Fatalf("root of %d entries = %s, want %s", n, tree.Root(), want)
		}
		tree.Add(leaf(n))
	}
	for _, size := range []int64{-1, 0, 7} {
		if _, err := audit.NewTree(size, make([]byte, 32)); err == nil {
			t.Errorf("NewTree(%d, one hash) succeeded", size)
		}
	}
}

// TestProofsFromCheckpoints makes proofs from what the database keeps: trees
// here and there, and the entries.
func TestProofsFromCheckpoints(t *testing.T) {
	t.Parallel()
	const size = 9000
	reader := stored(t, size)
	var tree audit.Tree
	kept := map[int64]audit.Tree{}
	for i := range int64(size) {
		tree.Add(leaf(i))
		if n := tree.Size(); n%700 == 0 || n == 3 || n == 8191 {
			kept[n] = tree
		}
	}
	most := 0
	source := audit.Source{
		Tree: func(from, to int64) (audit.Tree, bool, error) {
			for n := from; n < to; n++ {
				if t, ok := kept[n]; ok {
					return t, true, nil
				}
			}
			return audit.Tree{}, false, nil
		},
		Hashes: func(from, to int64) (out []audit.Hash, err error) {
			most = max(most, int(to-from))
			for i := from; i < to; i++ {
				out = append(out, leaf(i))
			}
			return out, nil
		},
	}
	for _, older := range []int64{1, 3, 700, 1400, 4096, 5600, 8191, 8999} {
		for _, newer := range []int64{4, 2100, 8192, size} {
			if older >= newer {
				continue
			}
			got, err := source.Prove(older, newer)
			if err != nil {
				t.Fatal(err)
			}
			want, err := tlog.ProveTree(newer, older, reader)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]tlog.Hash(want), got); diff != "" {
				t.Errorf("proof from %d to %d (-want +got):\n%s", older, newer, diff)
			}
		}
	}
	if most > 1024 {
		t.Errorf("a proof read %d entries at once", most)
	}
	if proof, err := source.Prove(5, 5); len(proof) > 0 || err != nil {
		t.Errorf("proof from 5 to 5 = %v, %v, want none", proof, err)
	}
	source.Hashes = func(from, to int64) ([]audit.Hash, error) {
		return slices.Repeat([]audit.Hash{{}}, int(to-from-1)), nil
	}
	if _, err := source.Prove(3, 700); err == nil {
		t.Error("a proof was made from entries that are not there")
	}
}
