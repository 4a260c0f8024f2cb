package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/checkpoint"
)

// witness is what a feed remembers of the audit log of its environment. It
// holds the server to it: a log that was rewritten, or whose end was cut off,
// cannot prove that it extends what was signed before. Used by Run alone, but
// for kept.
type witness struct {
	verifier string
	newest   checkpoint.Checkpoint
	// kept is what goes into the last-known-good file, so that a restart forgets
	// nothing.
	kept atomic.Pointer[guidonv1.AuditCheckpoint]
}

var (
	errAnotherKey = errors.New("the audit log is signed with another key than before")
	errUnproven   = errors.New("the server has no proof now")
)

// take checks a checkpoint against the one remembered, and remembers it. The
// first one is believed, whatever it is.
func (w *witness) take(environment string, shown *guidonv1.AuditCheckpoint) error {
	if w.verifier != "" && shown.GetVerifier() != w.verifier {
		return errAnotherKey
	}
	c, err := checkpoint.Open(shown.GetNote(), shown.GetVerifier())
	if err != nil {
		return err
	}
	if !c.Of(environment) {
		return fmt.Errorf("%w: it is of %.128q", checkpoint.ErrMalformed, c.Origin)
	}
	if w.verifier != "" {
		if !shown.GetProven() {
			return errUnproven
		}
		proof := make([]checkpoint.Hash, 0, len(shown.GetProof()))
		for _, raw := range shown.GetProof() {
			var h checkpoint.Hash
			if len(raw) != len(h) || len(proof) > maxProof {
				return fmt.Errorf("%w: its proof cannot be read", checkpoint.ErrMalformed)
			}
			copy(h[:], raw)
			proof = append(proof, h)
		}
		if err := c.Extends(w.newest, proof); err != nil {
			return err
		}
	}
	w.verifier, w.newest = shown.GetVerifier(), c
	w.kept.Store(&guidonv1.AuditCheckpoint{Note: shown.GetNote(), Verifier: shown.GetVerifier()})
	return nil
}

// recall takes up what an earlier process remembered, signature checked.
func (w *witness) recall(environment string, kept *guidonv1.AuditCheckpoint) error {
	if w.verifier != "" || kept == nil {
		return nil
	}
	return w.take(environment, kept)
}

// forget is for a log that is not the environment's.
func (w *witness) forget() {
	w.verifier, w.newest = "", checkpoint.Checkpoint{}
	w.kept.Store(nil)
}

// maxProof bounds the hashes of a proof: two for each level of a tree that no
// log outgrows.
const maxProof = 130

// takeCheckpoint takes note of the checkpoint that a stream begins with. One that does
// not extend what is remembered changes nothing about the flags, which have
// digests of their own: somebody must look at the log.
func (f *Feed) takeCheckpoint(ctx context.Context, environment string, shown *guidonv1.AuditCheckpoint) {
	if shown == nil {
		return
	}
	err := f.witness.take(environment, shown)
	switch {
	case errors.Is(err, errUnproven):
		f.stats.CheckpointsUnproven.Add(1)
	case err != nil:
		f.stats.CheckpointFailures.Add(1)
		f.config.Log.LogAttrs(ctx, slog.LevelError, "the audit log is not what it was", slog.String("environment", environment),
			slog.Int64("entries", f.witness.newest.Size), slog.Any("error", err))
	default:
		f.stats.Checkpoints.Add(1)
		f.saves.wake()
	}
}
