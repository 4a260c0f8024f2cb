package audit

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
)

// CheckpointError says that a chain is not the one that a checkpoint was made
// of: it was rewritten, or its end was cut off; or that it is another than was
// asked for.
type CheckpointError struct {
	Scope string
	// Size is the number of entries that the checkpoint covers; 0 if it is not one
	// checkpoint that does not match.
	Size   int64
	Reason string
}

func (e *CheckpointError) Error() string {
	if e.Size == 0 {
		return fmt.Sprintf("audit log of %s is not the one that is known: %s", scopeName(e.Scope), e.Reason)
	}
	return fmt.Sprintf("audit log of %s does not match its checkpoint at %d entries: %s", scopeName(e.Scope), e.Size, e.Reason)
}

// StateError says that what the entries of a chain did is not what is there.
type StateError struct {
	Scope string
	// Seq is the entry at which it shows; 0 at the end of the chain.
	Seq    int64
	Reason string
}

func (e *StateError) Error() string {
	at := "replayed whole"
	if e.Seq > 0 {
		at = fmt.Sprintf("replayed to entry %d", e.Seq)
	}
	return fmt.Sprintf("audit log of %s, %s, differs from the state: %s", scopeName(e.Scope), at, e.Reason)
}

// Start is what a verification trusts: nothing, which is the zero value, or an
// anchor behind which the entries were dropped.
type Start struct {
	Head Head
	Tree Tree
}

// Log is a chain, and what it is held against. It is read once, from its
// beginning, and nothing of it is kept.
type Log struct {
	Scope   string
	Start   Start
	Entries iter.Seq2[Entry, error]
	// Checkpoints are those that the chain must match, their signatures
	// checked, by size. Nil for none.
	Checkpoints iter.Seq2[checkpoint.Checkpoint, error]
	// Replay carries out the entries, if it is given.
	Replay *Replay
}

// Verified says what was found to hold.
type Verified struct {
	Head Head
	// Root is that of the tree over all entries.
	Root checkpoint.Hash
	// Checkpoints is how many the chain matches, and Covered how many entries
	// the last of them covers: what is behind is proven by it, what follows
	// only hangs together.
	Checkpoints int
	Covered     int64
}

// Verify follows the chain to its end. The error is a [*BrokenError], a
// [*CheckpointError], a [*StateError], or the one that a source yields.
func (l Log) Verify() (v Verified, err error) {
	none := func(func(checkpoint.Checkpoint, error) bool) {}
	if l.Checkpoints == nil {
		l.Checkpoints = none
	}
	next, stop := iter.Pull2(l.Checkpoints)
	defer stop()
	expected, err, more := next()
	if err != nil {
		return v, err
	}
	tree := l.Start.Tree
	match := func() error {
		for more && expected.Size <= tree.Size() {
			switch {
			case expected.Size < tree.Size() && expected.Size > l.Start.Tree.Size():
				return &CheckpointError{l.Scope, expected.Size, "checkpoints are not in order"}
			case expected.Size == tree.Size() && expected.Root != tree.Root():
				return &CheckpointError{l.Scope, expected.Size, "the entries are not those that it was made of"}
			case expected.Size == tree.Size():
				v.Checkpoints, v.Covered = v.Checkpoints+1, expected.Size
			}
			if expected, err, more = next(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := match(); err != nil {
		return v, err
	}
	v.Head, err = Verify(l.Scope, l.Start.Head, func(yield func(Entry, error) bool) {
		for e, err := range l.Entries {
			if !yield(e, err) {
				return // this one does not hold
			}
			tree.Add(e.Hash)
			err := match()
			if err == nil && l.Replay != nil {
				err = l.Replay.add(e)
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	})
	v.Root = tree.Root()
	if err == nil && more {
		err = &CheckpointError{l.Scope, expected.Size, fmt.Sprintf("there are only %d entries", tree.Size())}
	}
	return v, err
}

// Replay carries out the entries of a chain, in memory that grows with the
// number of rows and not of entries.
type Replay struct {
	// Kinds are the kinds of rows to carry out; others are passed over.
	Kinds []string
	// Unmade are those kinds of which there may be rows that no entry made.
	Unmade []string
	// Passes reports whether the row that an operation leaves may have been
	// removed since, without an entry. Nil for none.
	Passes func(Operation) bool
	// Made is called with each entry that was carried out, and with its payload as
	// it is stored, with hashes in the places of texts. Nil for none.
	Made func(Entry, Record) error

	partial  bool
	revision int64
	rows     map[string]replayed
}

type replayed struct {
	hash [32]byte // of the document
	there,
	seen,
	passes bool
}

// recovered is the multiple of which a revision is that follows others which
// were lost.
const recovered = 1 << 20

func (r *Replay) add(e Entry) error {
	record, err := e.stored() // hashes stay the same when texts are erased
	if err != nil {
		return err
	}
	differs := func(format string, args ...any) error {
		return &StateError{e.Scope, e.Seq, fmt.Sprintf(format, args...)}
	}
	if r.rows == nil {
		r.rows = map[string]replayed{}
		if r.partial = e.Seq > 1; !r.partial && e.Scope != Installation {
			r.revision = 1 // as it was created
		}
	}
	if follows := record.Revision == r.revision+1 || record.Revision%recovered == 0 && record.Revision > r.revision; r.revision != 0 && !follows {
		return differs("it made revision %d, after revision %d", record.Revision, r.revision)
	}
	r.revision = record.Revision
	for _, o := range record.Operations {
		// The installation hears of the revisions that a recovery makes, which are
		// no rows of its own.
		if !slices.Contains(r.Kinds, o.Kind) || o.Action == ActionRecover && e.Scope == Installation {
			continue
		}
		name := o.Kind + "/" + o.Name
		was := r.rows[name]
		unmade := r.partial || slices.Contains(r.Unmade, o.Kind)
		if before := rowOf(o.Before); (was.seen || !unmade) && (before.there != was.there || before.hash != was.hash) {
			return differs("it changed %s from something that it was not", name)
		}
		after := rowOf(o.After)
		after.passes = r.Passes != nil && r.Passes(o)
		r.rows[name] = after
	}
	if r.Made != nil {
		return r.Made(e, record)
	}
	return nil
}

func rowOf(document []byte) replayed {
	if document == nil {
		return replayed{seen: true}
	}
	return replayed{hash: sha256.Sum256(document), there: true, seen: true}
}

// Names reports whether an entry names a row, by its kind/name.
func (r *Replay) Names(row string) bool { return r.rows[row].seen }

// Revision is the one that the last entry made; 0 before there is one.
func (r *Replay) Revision() int64 { return r.revision }

// Compare returns a [*StateError] unless the rows are what the entries made.
// After an anchor, only rows that an entry names are compared. rows yields
// each row's name, as kind/name, and its canonical document.
func (r *Replay) Compare(scope string, rows iter.Seq2[string, []byte]) error {
	left := maps.Clone(r.rows)
	for name, document := range rows {
		want := left[name]
		delete(left, name)
		switch {
		case !want.seen && r.partial:
		case !want.there:
			return &StateError{scope, 0, name + " is there, and no entry made it"}
		case want.hash != sha256.Sum256(document):
			return &StateError{scope, 0, name + " is not what the last entry that names it made"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if left[name].there && !left[name].passes {
			return &StateError{scope, 0, name + " was made and is not there"}
		}
	}
	return nil
}
