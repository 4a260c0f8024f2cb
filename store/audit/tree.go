package audit

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the Merkle tree (RFC 6962) over the hashes of the entries of one
// chain, of which it keeps only the edge: the roots of the complete subtrees
// that the entries fall into, at most 63 of them. The zero value is the empty
// tree.
type Tree struct { //nolint:recvcheck // a copy stands for itself; Add alone changes one
	size int64
	edge []tlog.Hash // largest subtree first
}

// NewTree returns the tree of a size from its edge, as [Tree.Edge] gave it.
func NewTree(size int64, edge []byte) (Tree, error) {
	const width = len(tlog.Hash{})
	if size < 0 || len(edge) != bits.OnesCount64(uint64(size))*width {
		return Tree{}, fmt.Errorf("a tree of %d entries has no edge of %d bytes", size, len(edge))
	}
	t := Tree{size: size}
	for ; len(edge) > 0; edge = edge[width:] {
		t.edge = append(t.edge, tlog.Hash(edge[:width]))
	}
	return t, nil
}

// Size is the number of entries.
func (t Tree) Size() int64 { return t.size }

// Edge returns what makes the tree again, with its size.
func (t Tree) Edge() []byte {
	var out []byte
	for _, h := range t.edge {
		out = append(out, h[:]...)
	}
	return out
}

// Root is the root of the tree: that of RFC 6962.
func (t Tree) Root() tlog.Hash {
	if t.size == 0 {
		root, _ := tlog.TreeHash(0, nil) // that of no entries is a constant
		return root
	}
	root := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.edge[i], root)
	}
	return root
}

// Add appends an entry by its hash. It changes t alone, not its copies.
func (t *Tree) Add(entry Hash) {
	h := tlog.RecordHash(entry[:])
	merges := bits.TrailingZeros64(^uint64(t.size))
	keep := len(t.edge) - merges
	for i := len(t.edge) - 1; i >= keep; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	t.edge = append(append(make([]tlog.Hash, 0, keep+1), t.edge[:keep]...), h)
	t.size++
}

// subtree returns the root of the complete subtree of 2^level entries that
// begins with entry index·2^level, if the edge has it.
func (t Tree) subtree(level int, index int64) (tlog.Hash, bool) {
	if t.size>>level&1 == 0 || t.size>>level-1 != index {
		return tlog.Hash{}, false
	}
	return t.edge[bits.OnesCount64(uint64(t.size>>level))-1], true
}

// ErrForgotten says that a proof needs entries that are not there any more.
var ErrForgotten = errors.New("the entries that a proof needs were dropped")

// Source is what a proof is made from.
type Source struct {
	// Tree returns a tree whose size is at least from and less than to; none is
	// ok = false.
	Tree func(from, to int64) (t Tree, ok bool, err error)
	// Hashes returns the hashes of the entries after number from, up to number
	// to. Fewer is [ErrForgotten].
	Hashes func(from, to int64) ([]Hash, error)
}

// leaves is the level below which hashes are made from entries.
const leaves = 10

// Prove returns the proof that the tree of newer entries begins with the tree
// of older ones. It needs no more than some thousand entries and some dozen
// trees, however many entries there are, if there is a tree for each thousand.
func (s Source) Prove(older, newer int64) ([]tlog.Hash, error) {
	if older <= 0 || older >= newer {
		return nil, nil
	}
	return tlog.ProveTree(newer, older, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, n := tlog.SplitStoredHashIndex(index)
			var err error
			if out[i], err = s.subtree(level, n); err != nil {
				return nil, err
			}
		}
		return out, nil
	}))
}

func (s Source) subtree(level int, index int64) (tlog.Hash, error) {
	from, to := index<<level, (index+1)<<level
	if index%2 == 0 {
		// A left child stays on the edge until its sibling is complete.
		t, ok, err := s.Tree(to, to+1<<level)
		if err != nil {
			return tlog.Hash{}, err
		}
		if h, found := t.subtree(level, index); ok && found {
			return h, nil
		}
	}
	if level > leaves {
		left, err := s.subtree(level-1, 2*index)
		if err != nil {
			return tlog.Hash{}, err
		}
		right, err := s.subtree(level-1, 2*index+1)
		return tlog.NodeHash(left, right), err
	}
	hashes, err := s.Hashes(from, to)
	if err != nil {
		return tlog.Hash{}, err
	}
	if int64(len(hashes)) != to-from {
		return tlog.Hash{}, ErrForgotten
	}
	var t Tree
	for _, h := range hashes {
		t.Add(h)
	}
	return t.Root(), nil
}
