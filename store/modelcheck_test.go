package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/audit"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestAgainstModel lets people do anything, over connections that break, and
// compares each outcome and each table with a model that has no database; in the
// end all that ever was, at every revision. -rapid.checks=10000 looks longer.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	u := open(t)
	rapid.Check(t, func(r *rapid.T) {
		u.begin(r)
		u.perform(r, 0, settled())
		for i, a := range rapid.SliceOfN(modelActs, 8, 40).Draw(r, "acts") {
			u.perform(r, i+1, a)
			u.compareTables(r)
		}
		u.compareHistory(r)
	})
	t.Logf("of %d acts %d were carried out; %d crashes", u.acts, u.answered, u.wire.struck)
	if !t.Failed() && (u.answered < u.acts/10 || u.wire.struck == 0) {
		t.Error("too little was carried out, or nothing crashed: this test shows nothing")
	}
}

// universe is an installation and the model of it. It begins anew for each history.
type universe struct {
	*testing.T
	wire   *crasher
	wired  *store.DB // over it
	direct *store.DB
	pool   *pgxpool.Pool
	world  *world
	calls  []call // that were answered, to be repeated

	acts, answered int
}

type call struct {
	key     string
	do      func(context.Context, *store.DB, bool) (store.Applied, error)
	applied store.Applied
}

func open(t *testing.T) *universe {
	t.Helper()
	u := &universe{T: t, direct: storetest.New(t)}
	var err error
	if u.pool, err = pgxpool.New(t.Context(), storetest.URL(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.pool.Close)
	u.wire = newCrasher(t, u.pool)
	u.wired, err = store.Open(t.Context(), store.Config{
		DatabaseURL: u.wire.through(), MasterKey: storetest.MasterKey, MaxWrites: 2, MaxReads: 2, AcquireTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.wired.Close)
	return u
}

// eraseAll starts the database over, the audit log too: as nobody else may.
const eraseAll = `
ALTER TABLE audit_entries DISABLE TRIGGER audit_entries_keep_rows;
DELETE FROM audit_entries;
ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_keep_rows;
DELETE FROM flag_versions;
DELETE FROM flags;
DELETE FROM changes;
DELETE FROM revisions WHERE revision > 1;
UPDATE installation SET audit_seq = 0, audit_head = DEFAULT;
UPDATE environments SET revision = 1, bytes = 0, audit_seq = 0, audit_head = DEFAULT, protected = name = 'production',
	retention = 90, archived_at = NULL`

func (u *universe) begin(r *rapid.T) {
	u.world, u.calls = newWorld(), nil
	if _, err := u.pool.Exec(u.Context(), eraseAll); err != nil {
		r.Fatal(err)
	}
}

func (u *universe) perform(r *rapid.T, i int, a act) {
	u.acts++
	switch a.Do {
	case "environment":
		u.update(r, a)
	case "again":
		u.repeat(r, a)
	default:
		u.change(r, a, fmt.Sprintf("act %d", i))
	}
}

// until makes a call that may crash, and then finds out what became of it by
// making it again.
func (u *universe) until(r *rapid.T, c crash, do func(context.Context, *store.DB) error) (crashed bool, err error) {
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	u.wire.arm(c, cancel)
	err = do(ctx, u.wired)
	u.wire.heal()
	if c.How == "" || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.Canceled) {
		return c.How != "", err
	}
	return true, do(u.Context(), u.direct)
}

func (u *universe) change(r *rapid.T, a act, key string) {
	want := u.world.perform(a)
	do := a.call(u.world, key)
	if a.Dry {
		applied, err := do(u.Context(), u.direct, true)
		u.check(r, a, want, applied, err)
		if err == nil && !applied.Unchanged {
			checkChanges(r, u.world, want.next, applied)
		}
	}
	var applied store.Applied
	crashed, err := u.until(r, a.Crash, func(ctx context.Context, db *store.DB) (err error) {
		applied, err = do(ctx, db, false)
		return err
	})
	u.check(r, a, want, applied, err)
	if err != nil {
		return
	}
	if !crashed {
		checkChanges(r, u.world, want.next, applied)
	}
	for name, p := range want.next.places {
		if len(p.history) > len(u.world.places[name].history) {
			p.changes = append(p.changes, applied.ChangeID)
		}
	}
	u.answered++
	want.next.done[key] = applied
	u.world = want.next
	u.calls = append(u.calls, call{key, do, applied})
}

var sentinels = []error{
	eval.ErrInvalid, store.ErrNotFound, store.ErrExists, store.ErrArchived, store.ErrArchivedEnvironment, store.ErrNotArchived, store.ErrInUse,
	store.ErrConflict, store.ErrKeyReused, store.ErrUnavailable, store.ErrContended, context.Canceled,
}

// check compares an answer with the forecast.
func (u *universe) check(r *rapid.T, a act, want forecast, applied store.Applied, err error) {
	r.Helper()
	for _, sentinel := range sentinels {
		if got, want := errors.Is(err, sentinel), slices.Contains(want.refused, sentinel); got != want {
			r.Fatalf("%+v: %v; that it is %q is %v, want %v", a, err, sentinel, got, want)
		}
	}
	if len(want.refused) == 0 && err != nil {
		r.Fatalf("%+v: %v", a, err)
	}
	if conflict, ok := errors.AsType[*store.ConflictError](err); ok {
		var changed []eval.Name
		for _, row := range conflict.Changed {
			changed = append(changed, row.Name)
		}
		slices.SortFunc(changed, compareNames)
		if diff := cmp.Diff(want.changed, changed); diff != "" {
			r.Fatalf("%+v: conflict with (-model +store):\n%s", a, diff)
		}
	}
	if err != nil {
		return
	}
	if diff := cmp.Diff(want.revisions, applied.Revisions); diff != "" || applied.Unchanged != want.unchanged {
		r.Fatalf("%+v: unchanged is %v, want %v; revisions (-model +store):\n%s", a, applied.Unchanged, want.unchanged, diff)
	}
}

// checkChanges follows what a change set says it did from what was to what is.
func checkChanges(r *rapid.T, was, is *world, applied store.Applied) {
	rows := map[string]map[string]string{}
	for name, p := range was.places {
		rows[name] = p.newest().documents()
	}
	for _, c := range applied.Changes {
		if c.Environment == "" {
			continue // what describes a key
		}
		now, name := rows[c.Environment], named(c.Kind, c.Name).String()
		if now[name] != string(c.Before) || (c.Action == store.ActionUnchanged) != (string(c.Before) == string(c.After)) && c.Kind != eval.KindFlag {
			r.Fatalf("%s %s of %s in %s from %s, want from %s", c.Action, c.Kind, c.Name, c.Environment, c.Before, now[name])
		}
		if now[name] = string(c.After); c.After == nil {
			delete(now, name)
		}
	}
	for name, p := range is.places {
		if diff := cmp.Diff(p.newest().documents(), rows[name]); diff != "" {
			r.Fatalf("what the changes lead to in %s (-model +store):\n%s", name, diff)
		}
	}
}

// repeat makes a call of long ago again, and something else under its key.
func (u *universe) repeat(r *rapid.T, a act) {
	if len(u.calls) == 0 {
		return
	}
	c := u.calls[a.Num%len(u.calls)]
	var applied store.Applied
	_, err := u.until(r, a.Crash, func(ctx context.Context, db *store.DB) (err error) {
		applied, err = c.do(ctx, db, false)
		return err
	})
	if err != nil || applied.ChangeID != c.applied.ChangeID || applied.Unchanged != c.applied.Unchanged || !maps.Equal(applied.Revisions, c.applied.Revisions) {
		r.Fatalf("%s again: %+v, %v, want %+v", c.key, applied, err, c.applied)
	}
	other := store.ChangeSet{Actor: "ada", Reason: "another", IdempotencyKey: c.key, Operations: []store.Operation{put("staging", "a", onOff)}}
	if _, err := u.direct.Apply(u.Context(), other); !errors.Is(err, store.ErrKeyReused) {
		r.Fatalf("another change under the key of %s: %v, want ErrKeyReused", c.key, err)
	}
}

func (u *universe) update(r *rapid.T, a act) {
	update, next := a.update(), u.world.begin()
	want, refused := next.update(update)
	var changed bool
	crashed, err := u.until(r, a.Crash, func(ctx context.Context, db *store.DB) (err error) {
		changed, err = db.UpdateEnvironment(ctx, update)
		return err
	})
	if refused == nil && err != nil || refused != nil && !errors.Is(err, refused) {
		r.Fatalf("%+v: %v, want %v", update, err, refused)
	}
	// The try that was not answered may have been the one that changed it.
	if changed != want && !crashed {
		r.Fatalf("%+v: changed is %v, want %v", update, changed, want)
	}
	if refused == nil {
		for _, p := range next.places {
			p.rows = nil
		}
		u.world = next
	}
}

// The tables, a line for each row.
var modelTables = []string{
	`SELECT format('installation: %s entries', audit_seq) FROM installation`,
	`SELECT format('environment %s: revision %s, protected %s, archived %s, kept %s, %s bytes, %s entries',
		name, revision, protected, archived_at IS NOT NULL, retention, bytes, audit_seq) FROM environments`,
	`SELECT format('flag %s: %s %s %s %s', key, kind, lifecycle, owner, convert_from(schema, 'UTF8')) FROM flags`,
	`SELECT format('version %s %s/%s [%s, %s) %s', environment, kind, name, from_revision, to_revision, convert_from(document, 'UTF8')) FROM flag_versions`,
	`SELECT format('revision %s %s by %s', environment, revision, change_id) FROM revisions`,
	`SELECT format('entry %s %s: revision %s by %s', environment, seq, revision, change_id) FROM audit_entries WHERE environment <> ''`,
	`SELECT format('entry of the installation %s', seq) FROM audit_entries WHERE environment = ''`,
	`SELECT format('change %s by %s under %s', id, actor, idempotency_key) FROM changes`,
	`SELECT format('project %s', name) FROM projects`,
}

// lines are what the tables should hold.
func (w *world) lines() (out []string) {
	line := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	mark := func(b bool) string { return strconv.FormatBool(b)[:1] } // as Postgres prints it
	line("installation: %d entries", w.entries)
	line("project default")
	for seq := range w.entries {
		line("entry of the installation %d", seq+1)
	}
	for key, k := range w.keys {
		kind, schema := "release", ""
		if k.config {
			kind = "config"
		}
		if k.max != 0 {
			schema = fmt.Sprintf(modelSchema, k.max)
		}
		line("flag %s: %s %s %s %s", key, kind, k.lifecycle, k.owner, schema)
	}
	for key, applied := range w.done {
		line("change %s by ada under %s", applied.ChangeID, key)
	}
	for name, p := range w.places {
		bytes := 0
		for row, r := range p.newest() {
			bytes += len(row.Name) + len(r.document())
		}
		line("environment %s: revision %d, protected %s, archived %s, kept %d, %d bytes, %d entries",
			name, len(p.history), mark(p.protected), mark(p.archived), p.retention, bytes, len(p.history)-1)
		for i, change := range p.changes {
			line("revision %s %d by %s", name, i+1, change)
			if i > 0 {
				line("entry %s %d: revision %d by %s", name, i, i+1, change)
			}
		}
		for _, v := range p.versions() {
			line("version %s %s [%d, %s) %s", name, v.name, v.from, v.to, v.document)
		}
	}
	return out
}

type modelVersion struct {
	name     eval.Name
	from     int
	to       string // "" while it is the newest
	document string
}

// versions are the rows of the whole history, each as long as it was the same.
func (p *place) versions() (out []modelVersion) {
	open := map[eval.Name]modelVersion{}
	was := modelRows{}
	for i, rows := range p.history {
		for _, name := range differing(was, rows) {
			if v, ok := open[name]; ok {
				v.to = strconv.Itoa(i + 1)
				out = append(out, v)
				delete(open, name)
			}
			if rows[name] != nil {
				open[name] = modelVersion{name: name, from: i + 1, document: rows[name].document()}
			}
		}
		was = rows
	}
	return append(out, slices.Collect(maps.Values(open))...)
}

func (u *universe) compareTables(r *rapid.T) {
	rows, err := u.pool.Query(u.Context(), strings.Join(modelTables, "\nUNION ALL "))
	if err != nil {
		r.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.Fatal(err)
	}
	if diff := cmp.Diff(sorted(u.world.lines()), sorted(got)); diff != "" {
		r.Fatalf("tables (-model +store):\n%s", diff)
	}
}

// compareHistory reads every revision there ever was: the rows, what they
// evaluate to, what leads from each to the next, and the log.
func (u *universe) compareHistory(r *rapid.T) {
	for _, scope := range append([]string{audit.Installation}, places...) {
		if _, err := u.direct.VerifyAudit(u.Context(), scope, ""); err != nil {
			r.Fatal(err)
		}
	}
	for name, p := range u.world.places {
		for i, rows := range p.history {
			at := fmt.Sprintf("%s at %d", name, i+1)
			u.compareRevision(r, at, name, int64(i+1), rows)
			if i > 0 {
				u.compareDelta(r, at, name, i, p.history)
			}
		}
		u.compareLog(r, name, p)
		for _, key := range modelKeys {
			u.compareFlag(r, name, key, p)
		}
	}
}

func (u *universe) compareRevision(r *rapid.T, at, env string, revision int64, rows modelRows) {
	stored, _, err := u.direct.SnapshotRows(u.Context(), env, revision)
	if err != nil {
		r.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range stored {
		got[named(row.Kind, row.Name).String()] = string(row.Document)
	}
	if diff := cmp.Diff(rows.documents(), got); diff != "" {
		r.Fatalf("%s (-model +store):\n%s", at, diff)
	}
	s, err := eval.Compile(revision, stored)
	if err != nil {
		r.Fatal(err)
	}
	for _, key := range modelKeys {
		for _, plan := range []string{"pro", "free", "none"} {
			c, err := eval.NewContext(map[string]any{"plan": plan})
			if err != nil {
				r.Fatal(err)
			}
			variant, reason := rows.evaluate(key, plan)
			if got := s.Evaluate(key, c, 0); got.Variant() != variant || got.Reason().String() != reason {
				r.Fatalf("%s %s for plan %s is %s/%s, want %s/%s", at, key, plan, got.Variant(), got.Reason(), variant, reason)
			}
		}
		if f := s.Flag(key); f != nil && !f.Archived() && len(f.NotTravelling()) > 0 != (rows.readsPlan(key) && !rows.settings().travels) {
			r.Fatalf("%s: of %s does not travel %q", at, key, f.NotTravelling())
		}
	}
}

func (u *universe) compareDelta(r *rapid.T, at, env string, i int, history []modelRows) {
	upserts, deletes, err := u.direct.Delta(u.Context(), env, int64(i), int64(i+1))
	if err != nil {
		r.Fatal(err)
	}
	got := deletes
	for _, row := range upserts {
		got = append(got, named(row.Kind, row.Name))
	}
	slices.SortFunc(got, compareNames)
	if diff := cmp.Diff(differing(history[i-1], history[i]), got); diff != "" {
		r.Fatalf("delta to %s (-model +store):\n%s", at, diff)
	}
}

// compareLog reads the log of revisions, and finds each by its time.
func (u *universe) compareLog(r *rapid.T, env string, p *place) {
	log, more, err := u.direct.RevisionLog(u.Context(), env, store.Page{Size: 1000})
	if err != nil || more != "" || len(log) != len(p.history) {
		r.Fatalf("the log of %s has %d revisions (%v), want %d", env, len(log), err, len(p.history))
	}
	for i, entry := range log {
		revision := len(p.history) - i
		wrote := 0
		if revision > 1 {
			wrote = len(differing(p.history[revision-2], p.history[revision-1]))
		}
		if int(entry.Revision) != revision || entry.ChangeID != p.changes[revision-1] || entry.Changes != wrote {
			r.Fatalf("the log of %s has %+v, want revision %d with %d changes by %s", env, entry, revision, wrote, p.changes[revision-1])
		}
		found, err := u.direct.RevisionAt(u.Context(), env, entry.Time)
		if err != nil || found != entry.Revision && (i == 0 || !log[i-1].Time.Equal(entry.Time)) {
			r.Fatalf("%s at the time of revision %d was at %d (%v)", env, entry.Revision, found, err)
		}
	}
}

// compareFlag reads the history of one flag.
func (u *universe) compareFlag(r *rapid.T, env, key string, p *place) {
	document := func(rows modelRows, kind eval.Kind) string {
		if row := rows[named(kind, key)]; row != nil {
			return row.document()
		}
		return ""
	}
	var want []string
	was := modelRows{}
	for i, rows := range p.history {
		before, after, kills := document(was, eval.KindFlag), document(rows, eval.KindFlag), document(rows, eval.KindEmergency)
		if before != after || kills != document(was, eval.KindEmergency) {
			want = append(want, fmt.Sprintf("%d by %s: %s, then %s, killed %s", i+1, p.changes[i], before, after, kills))
		}
		was = rows
	}
	slices.Reverse(want)
	versions, _, err := u.direct.FlagHistory(u.Context(), env, key, store.Page{Size: 1000})
	if err != nil && (want != nil || !errors.Is(err, store.ErrNotFound)) {
		r.Fatal(err)
	}
	got := names(versions, func(v store.FlagVersion) string {
		return fmt.Sprintf("%d by %s: %s, then %s, killed %s", v.Revision, v.ChangeID, v.Before, v.After, v.Emergencies)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		r.Fatalf("history of %s in %s (-model +store):\n%s", key, env, diff)
	}
}
