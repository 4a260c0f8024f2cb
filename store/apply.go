package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
)

const (
	// writeTimeout bounds all tries of one write together.
	writeTimeout = 20 * time.Second
	// maxTries is how often a write is tried when others are in its way or the
	// connection is lost.
	maxTries = 5
)

// Apply carries out a change set in one transaction and returns once it is
// committed. It refuses with [RefusedError] (what is wrong, by operation),
// [ConflictError], [ErrKeyReused], [ErrContended] or [ErrUnavailable]; then
// nothing was changed, except that after ErrUnavailable it is unknown whether
// the last try was committed: a caller that gave an idempotency key finds out
// by repeating the call. So it does after [ErrUnknownOutcome], and after
// [ErrUnknownDurability], when it was committed, and a failover may still lose it.
func (db *DB) Apply(ctx context.Context, cs ChangeSet) (Applied, error) {
	r, err := prepare(cs)
	if err != nil {
		return Applied{}, err
	}
	if !cs.DryRun {
		if r.record, err = db.pseudonymous(ctx, r.record); err != nil {
			return Applied{}, err
		}
		if r.owners, err = db.owners(ctx, r.steps); err != nil {
			return Applied{}, err
		}
	}
	var applied Applied
	alone := !grouped(r) || db.pool(ctx, db.writes) != db.writes
	try := func(ctx context.Context) error {
		if !alone {
			if applied, err = db.inLine(ctx, r); !errors.Is(err, errAlone) {
				return err
			}
			alone = true
		}
		outcomes, err := db.attempt(ctx, []request{r}, lockNamed)
		if err != nil {
			return err
		}
		applied = outcomes[0].applied
		return outcomes[0].err
	}
	err = db.retry(ctx, "apply", try)
	for tries := 1; errors.Is(err, errUnjudged); tries++ {
		if tries == maxTries { // each time, others had changed what was judged
			return Applied{}, fmt.Errorf("apply: %w", ErrContended)
		}
		if err = r.conformity.judgePending(ctx); err == nil {
			err = db.retry(ctx, "apply", try)
		}
	}
	if err != nil {
		if errors.Is(err, ErrUnknownDurability) {
			db.notify()
		}
		return Applied{}, err
	}
	if !applied.Unchanged && !cs.DryRun {
		if err := failpoint("acked-not-notified"); err != nil {
			return applied, nil //nolint:nilerr // a hint is lost, nothing else
		}
		db.notify()
	}
	return applied, nil
}

// errRollback ends a transaction that is not to be committed, without failing.
var errRollback = errors.New("roll back")

// tries carries out a write in a READ COMMITTED transaction, and again if
// others were in its way or the connection was lost. do must recognise what an
// earlier try committed: one whose answer was lost may have been.
func (db *DB) tries(ctx context.Context, doing string, do func(context.Context, pgx.Tx) error) error {
	return db.retry(ctx, doing, func(ctx context.Context) error { return db.transact(ctx, do) })
}

// retry tries a write, and again if others were in its way or the connection
// was lost.
func (db *DB) retry(ctx context.Context, doing string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for try := 1; ; try++ {
		err := do(ctx)
		failed, ok := errors.AsType[*driverError](err)
		if !ok {
			return err
		}
		if !contention(failed) && !unavailable(failed) || try == maxTries {
			return dbError(doing, failed.error)
		}
		db.count.retries.Add(1)
		if lost(failed) && !failed.healed.Swap(true) {
			db.count.lost.Add(1)
			db.pool(ctx, db.writes).Reset() // the other idle ones are as dead
		}
		select {
		case <-time.After(rand.N(10 * time.Millisecond << try)): //nolint:gosec // jitter
		case <-ctx.Done():
			return dbError(doing, failed.error)
		}
	}
}

func (db *DB) transact(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	conn, err := db.acquire(ctx, db.pool(ctx, db.writes))
	if err != nil {
		return driver(err)
	}
	defer conn.Release()
	tx, err := conn.Conn().BeginTx(ctx, readCommitted)
	if err != nil {
		return driver(err)
	}
	defer rollback(ctx, conn.Conn())
	if err := do(ctx, tx); errors.Is(err, errRollback) {
		return nil
	} else if err != nil {
		return err
	}
	return db.confirm(ctx, tx)
}

var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// rollback ends the transaction that conn is in, if it is in one. Cancelling a
// context does not; a connection that cannot say ROLLBACK is closed when it is
// given back.
func rollback(ctx context.Context, conn *pgx.Conn) {
	if conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "rollback")
}

// prepare checks what can be checked without the database.
func prepare(cs ChangeSet) (request, error) {
	r := newRequest(cs)
	if err := cs.check(); err != nil {
		return r, err
	}
	var refused refusals
	size := 0
	for i, o := range cs.Operations {
		if o == nil {
			return r, &FieldError{"operations", fmt.Sprintf("operation %d is nil", i)}
		}
		s, err := o.step()
		if s.environment == "" && !everywhere(o) {
			err = &FieldError{"environment", "is required"}
		}
		if err != nil {
			refused.add(operationError(i, s.environment, flagOf(s.name), err))
			continue
		}
		if size += s.size; size > MaxDefinitionBytes {
			return r, &FieldError{"operations", fmt.Sprintf("definitions are more than %d bytes together", MaxDefinitionBytes)}
		}
		if s.schema != nil {
			r.conformity.knows(s.schema)
		}
		r.steps = append(r.steps, s)
	}
	if err := refused.err(); err != nil {
		return r, err
	}
	var err error
	r.hash, err = hashOf(cs)
	return r, err
}

// everywhere reports whether an operation is about a key in all environments.
func everywhere(o Operation) bool {
	switch o.(type) {
	case ArchiveFlag, RestoreFlag, DeleteFlag, DescribeFlag, SetSchema:
		return true
	}
	return false
}

func (cs ChangeSet) check() error {
	if strings.TrimSpace(cs.Actor) == "" {
		return &FieldError{"actor", "is required"}
	}
	for _, t := range []struct {
		field, text string
		limit       int
	}{
		{"actor", cs.Actor, MaxTextBytes},
		{"reason", cs.Reason, MaxTextBytes},
		{"idempotency_key", cs.IdempotencyKey, MaxNameBytes},
		{"correlation_id", cs.CorrelationID, MaxNameBytes},
	} {
		if err := checkText(t.field, t.text, t.limit); err != nil {
			return err
		}
	}
	for name, revision := range cs.Expect {
		if revision < 0 {
			return &FieldError{"expected_revisions", fmt.Sprintf("%d of %.128q: revisions start at 1", revision, name)}
		}
	}
	switch n := len(cs.Operations); {
	case n == 0 && cs.intent == "":
		return &FieldError{"operations", "there are none"}
	case n > MaxOperations:
		return &FieldError{"operations", fmt.Sprintf("%d are more than %d", n, MaxOperations)}
	}
	return nil
}

// checkActor checks what the audit log says of who acts and why.
func checkActor(actor, reason, correlation string) error {
	if strings.TrimSpace(actor) == "" {
		return &FieldError{"actor", "is required"}
	}
	return cmp.Or(checkText("actor", actor, MaxTextBytes), checkText("reason", reason, MaxTextBytes), checkText("correlation_id", correlation, MaxNameBytes))
}

// checkText refuses what Postgres and canonical JSON cannot hold, and what is
// too long.
func checkText(field, text string, limit int) error {
	switch {
	case len(text) > limit:
		return &FieldError{field, fmt.Sprintf("is longer than %d bytes", limit)}
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return &FieldError{field, "is not plain UTF-8"}
	}
	return nil
}

// carryOut makes a change set of what was read, up to what it leaves behind:
// the keys that are new or changed, and the environments that get a revision.
func (d *draft) carryOut(ctx context.Context, tx pgx.Tx, r request) (
	applied Applied, flags []*flagDraft, environments []*environmentDraft, err error,
) {
	if err := expected(ctx, tx, d, r.Expect); err != nil {
		return Applied{}, nil, nil, err
	}
	if err := d.reasoned(r); err != nil {
		return Applied{}, nil, nil, err
	}
	for i, s := range r.steps {
		d.run(i, s, r.IsolateInvalid)
	}
	if len(d.conflicts) > 0 {
		return Applied{}, nil, nil, d.conflict(r)
	}
	if err := d.refused.err(); err != nil {
		return Applied{}, nil, nil, err
	}
	if err := d.conform(r.conformity); err != nil {
		return Applied{}, nil, nil, err
	}
	flags, environments = d.finish()
	if err := d.projectsOpen(ctx, tx, flags); err != nil {
		return Applied{}, nil, nil, err
	}
	for _, e := range environments {
		if err := d.settle(ctx, tx, e, r.IsolateInvalid); err != nil {
			return Applied{}, nil, nil, err
		}
	}
	if err := d.refused.err(); err != nil {
		return Applied{}, nil, nil, err
	}
	applied = d.result(environments, len(flags) == 0)
	if r.DryRun {
		applied.Drafts, err = drafts(environments)
	}
	return applied, flags, environments, err
}

// latest keeps the times of revisions in their order, even if the database's
// clock was set back.
func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

func (e *environmentDraft) holdAll(rows []openRow) error {
	for _, r := range rows {
		if err := e.hold(r); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps a row that was read; one that a step edited already stays.
func (e *environmentDraft) hold(r openRow) error {
	kind, err := eval.ParseKind(r.Kind)
	if err != nil {
		return err
	}
	if name := (eval.Name{Kind: kind, Name: r.Name}); e.rows[name] == nil {
		e.rows[name] = &rowDraft{from: r.FromRevision, before: r.Document, document: r.Document}
	}
	return nil
}

// expected compares the revisions that the actor saw with those there are.
func expected(ctx context.Context, tx pgx.Tx, d *draft, expect map[string]int64) error {
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		e := d.environments[name]
		if e == nil {
			return fmt.Errorf("expected revision: environment %.128q: %w", name, ErrNotFound)
		}
		if e.Revision == expect[name] {
			continue
		}
		changed, err := changedSince(ctx, tx, name, expect[name])
		if err != nil {
			return err
		}
		return &ConflictError{Environment: name, Expected: expect[name], Actual: e.Revision, Changed: changed}
	}
	return nil
}

// drafts shows what a dry run compiled.
func drafts(environments []*environmentDraft) (map[string]Draft, error) {
	out := map[string]Draft{}
	for _, e := range environments {
		before, err := e.compileBefore()
		if err != nil {
			return nil, err
		}
		after, err := e.compile()
		if err != nil {
			return nil, err
		}
		draft := Draft{Before: before, After: after}
		for name := range e.affected {
			if e.affected[name] && name.Kind == eval.KindFlag {
				draft.Affected = append(draft.Affected, name.Name)
			}
		}
		slices.Sort(draft.Affected)
		out[e.Name] = draft
	}
	return out, nil
}

// result is what the caller is told.
func (d *draft) result(changed []*environmentDraft, sameFlags bool) Applied {
	a := Applied{
		Revisions: map[string]int64{}, Unchanged: len(changed) == 0 && sameFlags,
		Changes: d.changes, Warnings: d.warnings,
	}
	for _, c := range d.changes {
		if e := d.environments[c.Environment]; e != nil {
			a.Revisions[c.Environment] = e.Revision
		}
	}
	for _, e := range changed {
		a.Revisions[e.Name] = e.Revision + 1
	}
	return a
}

// newID returns a UUIDv7: unique, and sorted by time for the index.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// isID reports whether text is an ID as newID writes it: a UUID can be written
// in ways that Postgres does not read.
func isID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}
