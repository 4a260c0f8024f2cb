package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// boundRoots refuses a change after which the roots of requests would decide
// more than their header may carry. It looks at the whole environment, and so
// only when what they decide grows.
func (d *draft) boundRoots(ctx context.Context, tx pgx.Tx, e *environmentDraft) error {
	grown, err := e.grownRoot()
	if err != nil || grown == "" {
		return err
	}
	e.surveyed = true
	current, err := writing[openRow](ctx, tx, selectOpenFlags, pgx.StrictNamedArgs{"environment": e.Name})
	if err != nil {
		return err
	}
	var rows []eval.Row
	for name, r := range e.rows {
		if r.document != nil {
			rows = append(rows, eval.Row{Kind: name.Kind, Name: name.Name, From: r.from, Document: r.document})
		}
	}
	for _, r := range current {
		kind, err := eval.ParseKind(r.Kind)
		if err != nil {
			return err
		}
		if e.rows[eval.Name{Kind: kind, Name: r.Name}] == nil {
			rows = append(rows, eval.Row{Kind: kind, Name: r.Name, From: r.FromRevision, Document: r.Document})
		}
	}
	snapshot, err := eval.Compile(e.Revision+1, rows)
	if err != nil {
		return err
	}
	flags, bytes := snapshot.RootDecisions()
	if len(flags) <= eval.MaxRootDecisions && bytes <= eval.MaxRootDecisionBytes {
		return nil
	}
	var keys []string
	for i, f := range flags {
		if i == 2*eval.MaxRootDecisions {
			keys = append(keys, fmt.Sprintf("and %d more", len(flags)-i))
			break
		}
		key := f.Key()
		if missing := f.NotTravelling(); len(missing) > 0 {
			key += " (" + strings.Join(missing, ", ") + ")"
		}
		keys = append(keys, key)
	}
	name := eval.Name{Kind: eval.KindFlag, Name: grown}
	d.refused.add(&OperationError{Index: e.blame(name), Environment: e.Name, Name: name, Err: invalidError(fmt.Sprintf(
		"the root of a request would decide %d flags in %d bytes; %d in %d are allowed. Put attributes that they read on the allow-list, "+
			"or give flags the scope local: %s", len(flags), bytes, eval.MaxRootDecisions, eval.MaxRootDecisionBytes, strings.Join(keys, ", ")))})
	return nil
}

// grownRoot returns a flag whose root decision is new or longer, "" for none.
func (e *environmentDraft) grownRoot() (string, error) {
	if e.compiled == nil { // refused already
		return "", nil
	}
	var before *eval.Snapshot
	for f := range e.compiled.Flags() {
		if !f.RootDecided() {
			continue
		}
		if before == nil {
			var err error
			if before, err = e.compileBefore(); err != nil {
				return "", err
			}
		}
		if was := before.Flag(f.Key()); was == nil || !was.RootDecided() || was.RootDecisionBytes() < f.RootDecisionBytes() {
			return f.Key(), nil
		}
	}
	return "", nil
}
