package store

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// RowKinds are the kinds of rows that the entries of an environment's chain make.
func RowKinds() []string {
	return []string{eval.KindFlag.String(), eval.KindSegment.String(), eval.KindSettings.String(), eval.KindEmergency.String()}
}

// chain returns where the chain of an environment stands, or with "" that of
// the installation.
func (db *DB) chain(ctx context.Context, environment string) (Chain, error) {
	chains, err := db.Chains(ctx)
	for _, c := range chains {
		if c.Environment == environment {
			return c, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("environment %.128q: %w", environment, ErrNotFound)
	}
	return Chain{}, err
}

// VerifyAudit follows the chain of an environment, or with "" of the
// installation, from its beginning or its anchor to where it stood when the
// call began. It holds it against its own checkpoints and those that are known
// from elsewhere (signatures checked, by size), and carries out its entries
// and compares what comes of it with the tables: what is current, and every
// revision and version that is kept. The error is a
// [*audit.BrokenError], a [*audit.CheckpointError], a [*audit.StateError], or
// one of this package.
//
// Verifier is the public key of the checkpoints, which the database must name
// too. Empty takes the database's own word for it, which proves nothing against
// whoever can write there.
func (db *DB) VerifyAudit(ctx context.Context, environment, verifier string, known ...checkpoint.Checkpoint) (audit.Verified, error) {
	for {
		anchor, err := db.Anchor(ctx, environment)
		if err != nil {
			return audit.Verified{}, err
		}
		v, err := db.verify(ctx, environment, anchor, verifier, known)
		if err == nil {
			return v, nil
		}
		// Entries that were dropped meanwhile are not missing.
		if now, anchorErr := db.Anchor(ctx, environment); anchorErr != nil || now.Head == anchor.Head {
			return v, err
		}
	}
}

func (db *DB) verify(ctx context.Context, environment string, anchor Checkpoint, verifier string, known []checkpoint.Checkpoint) (audit.Verified, error) {
	var state installationState
	c, err := db.chain(ctx, environment)
	if err == nil && environment == audit.Installation {
		// As of one moment, so that what is made meanwhile is no difference.
		state, err = db.installationState(ctx)
		c.Head = state.head
	}
	if err != nil {
		return audit.Verified{}, err
	}
	named, err := db.CheckpointVerifier(ctx)
	if err != nil {
		return audit.Verified{}, err
	}
	if verifier != "" && verifier != named {
		return audit.Verified{}, &audit.CheckpointError{Scope: environment, Reason: "the database names another key"}
	}
	past := &past{db: db, chain: c, partial: anchor.Head.Seq > 0}
	replay := &audit.Replay{Kinds: RowKinds(), Made: func(e audit.Entry, r audit.Record) error { return past.add(ctx, e, r) }}
	if environment == audit.Installation {
		replay = InstallationReplay(state.now)
	}
	l := audit.Log{
		Scope: environment, Start: audit.Start{Head: anchor.Head, Tree: anchor.Tree},
		Entries:     db.Entries(ctx, environment, anchor.Head.Seq, c.Head.Seq),
		Checkpoints: merged(db.opened(ctx, c, anchor.Head.Seq, named), known),
		Replay:      replay,
	}
	v, err := l.Verify()
	if err != nil {
		return v, err
	}
	if v.Head != c.Head {
		return v, &audit.BrokenError{Scope: environment, Seq: v.Head.Seq + 1, Reason: fmt.Sprintf("the chain does not end where its head says, at entry %d", c.Head.Seq)}
	}
	if environment == audit.Installation {
		return v, state.compare(replay)
	}
	if err := db.compare(ctx, c, replay); err != nil {
		return v, err
	}
	return v, past.end(ctx)
}

// compare holds what a replay made against the tables at the same revision.
func (db *DB) compare(ctx context.Context, c Chain, replay *audit.Replay) error {
	if made := replay.Revision(); made != c.Revision && made != 0 {
		return &audit.StateError{Scope: c.Environment, Reason: fmt.Sprintf("the environment is at revision %d, the last entry made revision %d", c.Revision, made)}
	}
	rows, _, err := db.SnapshotRows(ctx, c.Environment, c.Revision)
	if errors.Is(err, ErrRevisionCollected) {
		if outrun, lookErr := db.outrun(ctx, c); outrun || lookErr != nil {
			return lookErr
		}
	}
	if err != nil {
		return err
	}
	return replay.Compare(c.Environment, func(yield func(string, []byte) bool) {
		for _, r := range rows {
			if !yield(r.Kind.String()+"/"+r.Name, r.Document) {
				return
			}
		}
	})
}

// outrun reports whether an environment has a newer revision than when it was
// looked at, so that the one it had may have been removed since.
func (db *DB) outrun(ctx context.Context, c Chain) (bool, error) {
	now, err := db.chain(ctx, c.Environment)
	return err == nil && now.Revision > c.Revision, err
}

// opened yields the database's own checkpoints of a chain behind an anchor, up
// to the chain's head.
func (db *DB) opened(ctx context.Context, c Chain, after int64, verifier string) iter.Seq2[checkpoint.Checkpoint, error] {
	return func(yield func(checkpoint.Checkpoint, error) bool) {
		for stored, err := range db.Checkpoints(ctx, c.Environment, after) {
			if err != nil {
				yield(checkpoint.Checkpoint{}, err)
				return
			}
			if stored.Head.Seq > c.Head.Seq {
				return // made since
			}
			opened := checkpoint.Checkpoint{Size: stored.Head.Seq, Root: stored.Tree.Root()}
			if verifier != "" {
				if opened, err = checkpoint.Open(stored.Note, verifier); err == nil && opened.Size != stored.Head.Seq {
					err = fmt.Errorf("its note is of %d entries", opened.Size)
				}
				if err != nil {
					yield(opened, &audit.CheckpointError{Scope: c.Environment, Size: stored.Head.Seq, Reason: err.Error()})
					return
				}
			}
			if !yield(opened, nil) {
				return
			}
		}
	}
}

// merged yields two sources of checkpoints by size.
func merged(stored iter.Seq2[checkpoint.Checkpoint, error], known []checkpoint.Checkpoint) iter.Seq2[checkpoint.Checkpoint, error] {
	return func(yield func(checkpoint.Checkpoint, error) bool) {
		for c, err := range stored {
			for len(known) > 0 && known[0].Size <= c.Size {
				if !yield(known[0], nil) {
					return
				}
				known = known[1:]
			}
			if !yield(c, err) {
				return
			}
		}
		for _, c := range known {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// CSVAudit yields a chain as lines of CSV, for reading; see
// [DB.ExportAudit].
func (db *DB) CSVAudit(ctx context.Context, environment string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		c, err := db.chain(ctx, environment)
		if !yield(audit.CSVHeader(), err) || err != nil {
			return
		}
		for e, err := range db.Entries(ctx, environment, 0, c.Head.Seq) {
			var lines []byte
			if err == nil {
				lines, err = audit.AppendCSV(nil, e)
			}
			if !yield(lines, err) || err != nil {
				return
			}
		}
	}
}

// ExportAudit yields the lines of an export of a chain, from its beginning or
// its anchor to where it stood when the call began: what audit.ReadExport
// reads.
func (db *DB) ExportAudit(ctx context.Context, environment string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := db.export(ctx, environment, func(line []byte) bool { return yield(line, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

// export writes lines until write returns false, which is no error.
func (db *DB) export(ctx context.Context, environment string, write func([]byte) bool) error {
	c, err := db.chain(ctx, environment)
	if err != nil {
		return err
	}
	anchor, err := db.Anchor(ctx, environment)
	if err != nil {
		return err
	}
	verifier, err := db.CheckpointVerifier(ctx)
	if err != nil {
		return err
	}
	if !write(audit.AppendHeader(nil, audit.NewHeader(environment, verifier, audit.Start{Head: anchor.Head, Tree: anchor.Tree}))) {
		return nil
	}
	next, stop := iter.Pull2(db.Checkpoints(ctx, environment, anchor.Head.Seq))
	defer stop()
	stored, err, more := next()
	for e, entryErr := range db.Entries(ctx, environment, anchor.Head.Seq, c.Head.Seq) {
		if entryErr != nil || err != nil {
			return errors.Join(entryErr, err)
		}
		if !write(audit.AppendEntry(nil, e)) {
			return nil
		}
		for more && err == nil && stored.Head.Seq <= e.Seq {
			if stored.Head.Seq == e.Seq && verifier != "" && !write(audit.AppendCheckpoint(nil, stored.Note)) {
				return nil
			}
			stored, err, more = next()
		}
	}
	if err != nil {
		return err
	}
	write(audit.AppendEnd(nil, c.Head))
	return nil
}
