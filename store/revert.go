package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// Change is what Revert, Restore, Promote and Copy have in common with
// [ChangeSet], whose fields say what these are.
type Change struct {
	Actor, Reason, IdempotencyKey, CorrelationID string
	Expect                                       map[string]int64
	DryRun                                       bool
}

// changeSet makes a change set of operations that follow from an intent: one
// that is repeated under its key is the same, though there may be nothing left
// to do.
func (c Change) changeSet(intent string, ops []Operation) ChangeSet {
	return ChangeSet{
		Actor: c.Actor, Reason: c.Reason, IdempotencyKey: c.IdempotencyKey, CorrelationID: c.CorrelationID, Expect: c.Expect,
		Operations: ops, DryRun: c.DryRun, intent: intent,
	}
}

// unplanned is the change set of an intent of which nothing can be made now. It
// was carried out already if its key says so; else err is what it comes to.
func (c Change) unplanned(intent string, err error) ChangeSet {
	cs := c.changeSet(intent, nil)
	cs.unplanned = err
	return cs
}

// retryMoved applies what plan makes, and makes it again if an environment that
// the caller has no expectation of moved between reading and writing.
func (db *DB) retryMoved(ctx context.Context, c Change, intent string, plan func() ([]Operation, map[string]int64, error)) (Applied, error) {
	for try := 1; ; try++ {
		ops, expect, err := plan()
		cs := c.changeSet(intent, ops)
		cs.Expect = expect
		if err != nil {
			cs = c.unplanned(intent, err)
		}
		applied, err := db.Apply(ctx, cs)
		conflict, ok := errors.AsType[*ConflictError](err)
		if !ok || try == maxTries {
			return applied, err
		}
		if _, expected := c.Expect[conflict.Environment]; expected {
			return applied, err
		}
	}
}

const selectRevisionRows = `
SELECT e.revision AS newest, e.oldest, v.kind, v.name, v.from_revision, v.document
FROM environments e
LEFT JOIN flag_versions v ON v.environment = e.name AND (v.from_revision = @revision OR v.to_revision = @revision)
WHERE e.name = @environment
ORDER BY v.kind, v.name, v.from_revision`

// Revert undoes what one revision did, as a new change. A row that was changed
// since then is left to people: [ConflictError] names all of them, unless it is
// as it was before the revision already. Kills are ended by [UnkillFlag] alone.
func (db *DB) Revert(ctx context.Context, c Change, env string, revision int64) (Applied, error) {
	found, err := read[versionRow](ctx, db, "revision", selectRevisionRows, pgx.StrictNamedArgs{"environment": env, "revision": revision})
	if err == nil {
		err = checkRevision(env, revision, found)
	}
	intent := fmt.Sprintf("revert %s %d", env, revision)
	if err != nil {
		return db.Apply(ctx, c.unplanned(intent, err))
	}
	before, after := make([]eval.Row, 0, len(found)), make([]eval.Row, 0, len(found))
	kills := 0
	for _, r := range found {
		if r.Kind == nil {
			continue
		}
		kind, err := eval.ParseKind(*r.Kind)
		if err != nil {
			return Applied{}, err
		}
		row := eval.Row{Kind: kind, Name: *r.Name, From: *r.FromRevision, Document: r.Document}
		if kind == eval.KindEmergency {
			kills++
		}
		if row.From == revision {
			after = append(after, row)
		} else {
			before = append(before, row)
		}
	}
	ops := changedRows(audit.ActionRevert, env, after, before)
	if len(ops) == 0 {
		message := "is the first: there is nothing before it"
		if kills > 0 {
			message = "was made by a kill, which is ended by letting the flag live"
		}
		return Applied{}, &FieldError{"revision", strconv.FormatInt(revision, 10) + ": " + message}
	}
	return db.Apply(ctx, c.changeSet(intent, ops))
}

// Restore makes an environment what it was at a revision, as a new change:
// flags, segments and settings, but not kills.
func (db *DB) Restore(ctx context.Context, c Change, env string, revision int64) (Applied, error) {
	return db.retryMoved(ctx, c, fmt.Sprintf("restore %s %d", env, revision), func() ([]Operation, map[string]int64, error) {
		now, newest, err := db.SnapshotRows(ctx, env, 0)
		if err != nil {
			return nil, nil, err
		}
		if revision < 1 {
			return nil, nil, &FieldError{"revision", fmt.Sprintf("%d: revisions start at 1", revision)}
		}
		then, _, err := db.SnapshotRows(ctx, env, revision)
		if err != nil {
			return nil, nil, err
		}
		return changedRows(audit.ActionRestore, env, now, then), expecting(c.Expect, env, newest), nil
	})
}

// expecting adds what was read to what the caller expects.
func expecting(expect map[string]int64, env string, revision int64) map[string]int64 {
	out := maps.Clone(expect)
	if out == nil {
		out = map[string]int64{}
	}
	if _, ok := out[env]; !ok {
		out[env] = revision
	}
	return out
}

// Promote makes rows of one environment what they are in another, with all the
// segments and prerequisites that they need there. What exists only in the
// environment promoted to stays.
func (db *DB) Promote(ctx context.Context, c Change, from, to string, names []eval.Name) (Applied, error) {
	switch {
	case from == to:
		return Applied{}, &FieldError{"to", "is the environment promoted from"}
	case len(names) == 0:
		return Applied{}, &FieldError{"names", "there are none"}
	}
	intent := []string{"promote", from, to}
	for _, n := range names {
		intent = append(intent, n.String())
	}
	return db.retryMoved(ctx, c, strings.Join(intent, " "), func() ([]Operation, map[string]int64, error) {
		source, revision, err := db.SnapshotRows(ctx, from, 0)
		if err != nil {
			return nil, nil, err
		}
		target, newest, err := db.SnapshotRows(ctx, to, 0)
		if err != nil {
			return nil, nil, err
		}
		wanted, err := closure(from, revision, source, names)
		if err != nil {
			return nil, nil, err
		}
		there := slices.DeleteFunc(target, func(r eval.Row) bool { return !wanted[eval.Name{Kind: r.Kind, Name: r.Name}] })
		here := slices.DeleteFunc(source, func(r eval.Row) bool { return !wanted[eval.Name{Kind: r.Kind, Name: r.Name}] })
		return changedRows(audit.ActionPromote, to, there, here), expecting(expecting(c.Expect, from, revision), to, newest), nil
	})
}

// closure returns the names and what they need, directly or through others.
func closure(env string, revision int64, rows []eval.Row, names []eval.Name) (map[eval.Name]bool, error) {
	documents := map[eval.Name][]byte{}
	for _, r := range rows {
		documents[eval.Name{Kind: r.Kind, Name: r.Name}] = r.Document
	}
	wanted := map[eval.Name]bool{}
	for open := slices.Clone(names); len(open) > 0; open = open[1:] {
		name := open[0]
		document, ok := documents[name]
		switch {
		case wanted[name]:
			continue
		case name.Kind == eval.KindEmergency:
			return nil, &FieldError{"names", "kills are not promoted"}
		case !ok && name.Kind == eval.KindSettings: // those by default
			wanted[name] = true
			continue
		case !ok:
			return nil, fmt.Errorf("%s %.128q in environment %q at revision %d: %w", name.Kind, name.Name, env, revision, ErrNotFound)
		case isArchived(document):
			return nil, fmt.Errorf("flag %q in environment %q: %w", name.Name, env, ErrArchived)
		}
		wanted[name] = true
		open = append(open, references(document)...)
	}
	return wanted, nil
}

// Copy fills an environment that nothing was ever published in with all that
// another one holds, archived flags and kills apart.
func (db *DB) Copy(ctx context.Context, c Change, from, to string) (Applied, error) {
	if from == to {
		return Applied{}, &FieldError{"to", "is the environment copied from"}
	}
	return db.retryMoved(ctx, c, "copy "+from+" "+to, func() ([]Operation, map[string]int64, error) {
		source, revision, err := db.SnapshotRows(ctx, from, 0)
		if err != nil {
			return nil, nil, err
		}
		_, newest, err := db.SnapshotRows(ctx, to, 0)
		if err != nil {
			return nil, nil, err
		}
		if newest != 1 {
			return nil, nil, &FieldError{"to", fmt.Sprintf("is at revision %d: a copy goes into an environment that was just created", newest)}
		}
		source = slices.DeleteFunc(source, func(r eval.Row) bool { return isArchived(r.Document) })
		return changedRows(audit.ActionCopy, to, nil, source), expecting(expecting(c.Expect, from, revision), to, 1), nil
	})
}

// rowConflict is the conflict of an environment in which rows changed meanwhile.
func rowConflict(e *environmentDraft, revision int64, changed []eval.Name) *ConflictError {
	slices.SortFunc(changed, compareNames)
	conflict := &ConflictError{Environment: e.Name, Expected: cmp.Or(revision, e.Revision), Actual: e.Revision}
	for _, name := range changed[:min(len(changed), maxProblems)] {
		r := e.rows[name]
		conflict.Changed = append(conflict.Changed, ConflictingRow{name, rowAction(true, r != nil && r.document != nil)})
	}
	return conflict
}
