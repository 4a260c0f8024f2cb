package store

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// A group is the change sets of one transaction: one, or several small ones
// that were asked for at once (see line) and share its round trips and its
// commit. Each makes its own revision, entry and result, in the order of the
// requests, and fails by itself: all of them are carried out in memory, under
// the locks, before anything is written.
//
// What was read is the state before the group. So one of several is carried out
// only if nothing that it reads was changed by one before it; else it is
// [errLater].
type group struct {
	tx           pgx.Tx
	requests     []request
	free         bool                          // no lock was waited for
	environments map[string]*lockedEnvironment // as the group leaves them
	chain        *installationRow
	flags        map[string]flagRow
	rows         map[string][]openRow // by environment
	earlier      []changeRow
	replication  []replicationRow
	// changed are the flags that were changed so far, by environment, and those
	// that they require.
	changed map[string]map[eval.Name]bool
	left    left
}

// left is what a group leaves behind.
type left struct {
	keys      []writtenKey
	versions  []*environmentDraft
	entries   entries
	revisions []Revision
	described []audit.Record
	changes   []doneChange
}

// writtenKey is a key that is new or changed.
type writtenKey struct {
	*flagDraft
	actor string
	at    time.Time
}

// outcome is what became of one change set of a group.
type outcome struct {
	applied Applied
	err     error
}

var (
	// errLater is the outcome of a change set for which the group changed what
	// it reads.
	errLater = errors.New("must be carried out after the group")
	// errLocked is the outcome of a change set whose environment the group did
	// not wait for.
	errLocked = errors.New("somebody else holds the environment")
)

// attempt carries out change sets in one transaction of two round trips: BEGIN,
// locks and reads; writes and COMMIT. An error is that of the transaction, of
// which it may be unknown whether it was committed; the outcomes that come with
// it are refusals, which hold all the same.
func (db *DB) attempt(ctx context.Context, requests []request, lock string) ([]outcome, error) {
	conn, err := db.acquire(ctx, db.pool(ctx, db.writes))
	if err != nil {
		return nil, driver(err)
	}
	defer conn.Release()
	defer rollback(ctx, conn.Conn())
	if err := failpoint("before-lock"); err != nil {
		return nil, err
	}
	g, err := db.load(ctx, conn.Conn(), requests, lock)
	if err == nil {
		err = failpoint("after-lock")
	}
	if err != nil {
		return nil, err
	}
	outcomes := make([]outcome, len(requests))
	done := false
	for i := range requests {
		o := &outcomes[i]
		o.applied, o.err = g.carryOut(ctx, i)
		if failed, ok := errors.AsType[*driverError](o.err); ok {
			return nil, failed
		}
		done = done || o.err == nil && !requests[i].DryRun
	}
	if !done {
		return outcomes, nil
	}
	b := &pgx.Batch{}
	if err := g.write(b); err != nil {
		return nil, err
	}
	if err := db.replicating(g.replication); err != nil {
		return outcomes, err
	}
	return outcomes, db.commit(ctx, conn.Conn(), b)
}

// load begins the transaction, takes the locks, in the one order, and reads in
// the same round trip what the steps will need.
func (db *DB) load(ctx context.Context, conn *pgx.Conn, requests []request, lock string) (*group, error) {
	var (
		every, describes bool
		environments     []string
		asked, keys      []bulkRow
		locked           []lockedEnvironment
		chain            []installationRow
		rows             []openRow
		known            []flagRow
	)
	g := &group{
		requests: requests, free: lock == lockFree, environments: map[string]*lockedEnvironment{}, flags: map[string]flagRow{}, rows: map[string][]openRow{},
		changed: map[string]map[eval.Name]bool{},
	}
	seen := map[[2]string]bool{}
	first := func(in, what string) bool {
		defer func() { seen[[2]string{in, what}] = true }()
		return !seen[[2]string{in, what}]
	}
	for _, r := range requests {
		environments = slices.AppendSeq(environments, maps.Keys(r.Expect))
		for _, s := range r.steps {
			environments = append(environments, s.environment)
			every = every || s.environment == ""
			describes = describes || s.describes
			name, flag := flagOf(s.name), ""
			if name.Kind == eval.KindFlag {
				flag = name.Name
			}
			if flag != "" && first("", flag) {
				keys = append(keys, bulkRow{flag})
			}
			if row := name.String(); first(s.environment, row) { // which holds a slash, unlike keys
				asked = append(asked, bulkRow{s.environment, flag, row})
			}
		}
	}
	slices.Sort(environments)
	environments = slices.Compact(environments)
	b := &pgx.Batch{}
	b.BeginTx(readCommitted)
	if every {
		queue(b, &locked, lockEnvironments, nil)
	} else {
		queue(b, &locked, lock, pgx.StrictNamedArgs{"names": environments})
	}
	if describes {
		queue(b, &chain, lockInstallation, nil)
	}
	lookUp(b, &g.earlier, requests)
	selectOpen := selectOpenRows
	if every {
		selectOpen = selectOpenEverywhere
	}
	queueOver(b, &rows, selectOpen, asked)
	queueOver(b, &known, selectFlagRows, keys)
	if db.replicated {
		queue(b, &g.replication, selectReplication, nil)
	}
	results := conn.SendBatch(ctx, b)
	g.tx = results.Tx()
	if err := results.Close(); err != nil {
		return nil, driver(err)
	}
	for _, e := range locked {
		if e.Moved {
			return nil, ErrNotRecovered
		}
		g.environments[e.Name] = &e
	}
	for _, r := range rows {
		g.rows[r.Environment] = append(g.rows[r.Environment], r)
	}
	for _, f := range known {
		g.flags[f.Key] = f
	}
	if len(chain) > 0 {
		g.chain = &chain[0]
	}
	return g, nil
}

// carryOut makes one change set of the group, and notes what it leaves behind.
func (g *group) carryOut(ctx context.Context, index int) (Applied, error) {
	r := g.requests[index]
	if g.free && g.environments[r.steps[0].environment] == nil {
		// Or there is none, which one who waits for it finds out. Without the lock
		// the commit would not wait for a standby: see below.
		return Applied{}, errLocked
	}
	for _, c := range g.earlier {
		if c.Request == index && !r.DryRun {
			// Committed, though it wrote nothing but its lock: what the earlier try
			// wrote, and this one says is done, is then as durable as a commit has to be.
			return c.answer(r)
		}
	}
	if r.unplanned != nil {
		return Applied{}, r.unplanned
	}
	if len(r.Expect) > 0 && len(g.requests) > 1 && len(g.changed[r.steps[0].environment]) > 0 {
		return Applied{}, errLater // one who is told of a conflict is told of all that changed
	}
	d, err := g.draft(r)
	if err != nil {
		return Applied{}, err
	}
	applied, flags, environments, err := d.carryOut(ctx, g.tx, r)
	if _, failed := errors.AsType[*driverError](err); !failed && g.matters(d) {
		return Applied{}, errLater
	}
	if err != nil || r.DryRun || applied.Unchanged && r.IdempotencyKey == "" {
		return applied, err
	}
	applied.ChangeID = r.id
	return applied, g.keep(d, r, applied, flags, environments)
}

// draft is where a change set begins: what was read for it.
func (g *group) draft(r request) (*draft, error) {
	d := &draft{owners: r.owners, environments: map[string]*environmentDraft{}, flags: map[string]*flagDraft{}}
	for name, e := range g.environments {
		if len(g.requests) > 1 && name != r.steps[0].environment {
			continue
		}
		draft := &environmentDraft{lockedEnvironment: *e, rows: map[eval.Name]*rowDraft{}, asked: map[eval.Name]bool{}, sought: map[string]bool{}}
		for _, s := range r.steps {
			if s.environment != "" && s.environment != name {
				continue
			}
			asked := flagOf(s.name)
			draft.asked[asked] = true
			if asked.Kind == eval.KindFlag {
				draft.sought[asked.Name] = true
			}
		}
		if err := draft.holdAll(g.rows[name]); err != nil {
			return nil, err
		}
		if len(g.requests) > 1 {
			draft.forget()
		}
		d.environments[name] = draft
		d.at = latest(d.at, e.Now, e.UpdatedAt)
	}
	if g.chain != nil {
		d.at = latest(d.at, g.chain.Now, g.chain.UpdatedAt)
	}
	for _, s := range r.steps {
		if f, ok := g.flags[s.name.Name]; ok && flagOf(s.name).Kind == eval.KindFlag {
			d.flags[f.Key] = &flagDraft{flagRow: f, stored: &f}
		}
	}
	return d, nil
}

// forget lets go of the flags that were read for other change sets of a group:
// those that were not asked for and refer to none that was.
func (e *environmentDraft) forget() {
	for name, r := range e.rows {
		flag := flagOf(name)
		if flag.Kind != eval.KindFlag || e.asked[flag] {
			continue
		}
		if f := e.rows[flag]; f != nil {
			r = f
		}
		if !slices.ContainsFunc(r.references(), func(n eval.Name) bool { return e.asked[n] }) {
			delete(e.rows, name)
		}
	}
}

// matters reports whether what a change set read was changed by one before it
// in the group. Of several, none changes segments or settings.
func (g *group) matters(d *draft) bool {
	for env, e := range d.environments {
		changed := g.changed[env]
		if len(changed) > 0 && e.surveyed {
			return true
		}
		for name := range changed {
			if e.rows[name] != nil || e.asked[name] || e.sought[name.Name] {
				return true
			}
		}
	}
	for key := range d.flags {
		if g.changed[""][eval.Name{Kind: eval.KindFlag, Name: key}] {
			return true
		}
	}
	return false
}

// keep notes what a change set leaves behind, and moves the environments on.
func (g *group) keep(d *draft, r request, applied Applied, flags []*flagDraft, environments []*environmentDraft) error {
	done, err := r.done(applied, d.at)
	if err != nil {
		return err
	}
	record := r.record
	record.Time = d.at
	for _, e := range environments { // one, if it shares the group: its entry fails before anything is left
		entry := record
		entry.Environment, entry.Revision, entry.Operations = e.Name, e.Revision+1, e.operations
		head, err := g.left.entries.add(e.head(), entry)
		if err != nil {
			return err
		}
		g.left.revisions = append(g.left.revisions, Revision{
			Environment: e.Name, Revision: e.Revision + 1, Time: d.at, Actor: r.Actor, Reason: r.Reason, ChangeID: r.id,
		})
		next := g.environments[e.Name]
		next.Revision, next.Bytes, next.UpdatedAt = e.Revision+1, e.Bytes+e.grown, d.at
		next.AuditSeq, next.AuditHead = head.Seq, head.Hash[:]
		for _, name := range e.changed() {
			row := e.rows[name]
			g.change(e.Name, append(slices.Concat(references(row.before), references(row.document)), flagOf(name))...)
		}
	}
	g.left.versions = append(g.left.versions, environments...)
	for _, f := range flags {
		g.left.keys = append(g.left.keys, writtenKey{f, r.Actor, d.at})
		g.change("", eval.Name{Kind: eval.KindFlag, Name: f.Key})
	}
	if len(d.describes) > 0 {
		record.Operations = d.describes
		g.left.described = append(g.left.described, record)
	}
	g.left.changes = append(g.left.changes, done)
	return nil
}

func (g *group) change(environment string, names ...eval.Name) {
	if g.changed[environment] == nil {
		g.changed[environment] = map[eval.Name]bool{}
	}
	for _, name := range names {
		if name.Kind == eval.KindFlag {
			g.changed[environment][name] = true
		}
	}
}

// write queues everything that the group leaves behind: a statement for each
// table, however many change sets there are.
func (g *group) write(b *pgx.Batch) error {
	// Projects and keys belong to no environment: their order keeps two groups from
	// waiting for each other.
	slices.SortFunc(g.left.keys, func(a, b writtenKey) int {
		return cmp.Or(strings.Compare(a.Project, b.Project), strings.Compare(a.Key, b.Key))
	})
	for _, k := range g.left.keys {
		k.write(b, k.actor, k.at)
	}
	writeVersions(b, g.left.versions)
	g.left.entries.write(b)
	writeRevisions(b, g.left.revisions)
	var moved []*lockedEnvironment
	for name := range g.changed {
		if name != "" {
			moved = append(moved, g.environments[name])
		}
	}
	publish(b, moved)
	for _, record := range g.left.described {
		if err := g.chain.append(b, record); err != nil {
			return err
		}
	}
	writeChanges(b, g.left.changes)
	return nil
}
