package audit

import (
	"fmt"
	"iter"
)

// BrokenError says where a chain is broken. Entries before Seq are good, unless
// the one just before was forged together with its hash: that shows in the
// link of the next.
type BrokenError struct {
	Scope string
	// Seq is the number the broken entry has, or should have; 0 if not even the
	// header of an export can be read.
	Seq int64
	// Reason says what does not hold.
	Reason string
}

func (e *BrokenError) Error() string {
	if e.Seq == 0 {
		return "export of an audit log cannot be read: " + e.Reason
	}
	return fmt.Sprintf("audit log of %s is broken at entry %d: %s", scopeName(e.Scope), e.Seq, e.Reason)
}

func scopeName(scope string) string {
	if scope == Installation {
		return "the installation"
	}
	return scope
}

// Verify follows a chain from a head that is trusted, the zero one for the
// whole of it, and returns the head it ends at. The error is a *BrokenError at
// the first entry that does not hold, or the one that entries yields.
func Verify(scope string, from Head, entries iter.Seq2[Entry, error]) (Head, error) {
	head := from
	for e, err := range entries {
		if err != nil {
			return head, err
		}
		want := head.Seq + 1
		broken := func(reason string) (Head, error) {
			return head, &BrokenError{scope, want, reason}
		}
		switch {
		case e.Scope != scope:
			return broken(fmt.Sprintf("the entry belongs to %q", e.Scope))
		case e.Seq != want:
			return broken(fmt.Sprintf("found entry %d", e.Seq))
		case e.Prev != head.Hash:
			return broken("it does not follow the entry before it")
		case e.Hash != EntryHash(e.Scope, e.Seq, e.Prev, e.Payload):
			return broken("its hash is not that of its content")
		}
		if reason := e.foreignText(); reason != "" {
			return broken(reason)
		}
		head = Head{e.Seq, e.Hash}
	}
	return head, nil
}
