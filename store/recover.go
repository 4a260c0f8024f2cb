package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// epoch is how many revisions a recovery steps over at most: more than a
// restore or a failover can lose.
const epoch = 1 << 20

// Epoch returns which stretch of revisions one belongs to. Between two of
// different epochs revisions were lost, or there were a great many: no delta
// leads from one to the other.
func Epoch(revision int64) int64 { return revision / epoch }

const noteLineage = `UPDATE installation SET lineage = guidon_lineage() WHERE lineage IS NULL`

// NoteLineage remembers which cluster, timeline and database this is, if that
// was never noted; see [ErrNotRecovered].
func (db *DB) NoteLineage(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := db.exec(ctx, noteLineage, nil)
	return dbError("note lineage", err)
}

// A Recovery asks to go on after a restore or a failover that lost commits.
type Recovery struct {
	// Actor and Reason are for the audit log. Both are required.
	Actor, Reason string
	// Force goes on though nothing says that commits were lost: some ways of
	// bringing back an older state leave no trace.
	Force bool
}

// Recovered is what became of one environment.
type Recovered struct {
	Environment string
	// Before is the revision that the database had.
	Before int64
	// Revision is the new one. Those in between are lost.
	Revision int64
}

const selectLineage = `
SELECT COALESCE(lineage = guidon_lineage(), true) AS same FROM installation`

const insertLost = `
INSERT INTO lost_revisions (environment, first, last, created_at) VALUES (@environment, @first, @last, @at)`

const updateLineage = `UPDATE installation SET lineage = guidon_lineage()`

// Recover lets an installation go on whose database lost commits: each
// environment continues at the next multiple of 2^20, so that no revision number
// is used twice, and what lies between is lost: a pin in it is nobody's to
// resolve. Every flag counts as written anew, since what the lost revisions held
// is not known. Where nothing says that commits were lost it is refused with
// [ErrRecovered], unless forced.
func (db *DB) Recover(ctx context.Context, asked Recovery) ([]Recovered, error) {
	switch {
	case strings.TrimSpace(asked.Actor) == "":
		return nil, &FieldError{"actor", "is required"}
	case strings.TrimSpace(asked.Reason) == "":
		return nil, &FieldError{"reason", "is required"}
	}
	for _, t := range []struct{ field, text string }{{"actor", asked.Actor}, {"reason", asked.Reason}} {
		if err := checkText(t.field, t.text, MaxTextBytes); err != nil {
			return nil, err
		}
	}
	r := newRequest(ChangeSet{Actor: asked.Actor, Reason: asked.Reason})
	var err error
	if r.record, err = db.pseudonymous(ctx, r.record); err != nil {
		return nil, err
	}
	var out []Recovered
	err = db.tries(ctx, "recover", func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = recoverAll(ctx, tx, r, asked.Force)
		return err
	})
	if err != nil {
		return nil, err
	}
	db.notify()
	return out, nil
}

func recoverAll(ctx context.Context, tx pgx.Tx, r request, force bool) ([]Recovered, error) {
	var (
		locked []lockedEnvironment
		chain  []installationRow
		rows   []openRow
		same   []struct{ Same bool }
		b      = &pgx.Batch{}
	)
	queue(b, &locked, lockEnvironments, nil)
	queue(b, &chain, lockInstallation, nil)
	queue(b, &same, selectLineage, nil)
	queueOver(b, &rows, selectOpenEverywhere, []bulkRow{{"", "", ""}}) // the settings
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, driver(err)
	}
	if same[0].Same && !force {
		return nil, ErrRecovered
	}
	settings, err := settingsDocument(eval.Settings{})
	if err != nil {
		return nil, err
	}
	at := latest(chain[0].Now, chain[0].UpdatedAt)
	b = &pgx.Batch{}
	var out []Recovered
	var whole []audit.Operation
	for _, e := range locked {
		at = latest(at, e.Now, e.UpdatedAt)
		done := Recovered{Environment: e.Name, Before: e.Revision, Revision: (Epoch(e.Revision) + 1) * epoch}
		out = append(out, done)
		name := eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}
		document, size := settings, e.Bytes+int64(len(name.Name)+len(settings))
		for _, row := range rows {
			if row.Environment == e.Name && row.Kind == eval.KindSettings.String() {
				document, size = row.Document, e.Bytes
			}
		}
		// All flags read the settings: written anew, they make every flag as of
		// the new revision.
		e.Revision = done.Revision - 1
		writeVersions(b, []*environmentDraft{{lockedEnvironment: e, rows: map[eval.Name]*rowDraft{name: {document: document}}}})
		operations := []audit.Operation{done.operation()}
		whole = append(whole, operations...)
		if size != e.Bytes {
			operations = append(operations, audit.Operation{
				Action: audit.ActionRecover, Kind: name.Kind.String(), Name: name.Name, After: document,
			})
		}
		entry := r.record
		entry.Time, entry.Environment, entry.Revision, entry.Operations = at, e.Name, done.Revision, operations
		head, err := appendEntry(b, e.head(), entry)
		if err != nil {
			return nil, err
		}
		b.Queue(insertLost, pgx.StrictNamedArgs{"environment": e.Name, "first": done.Before + 1, "last": done.Revision - 1, "at": at})
		writeRevision(b, e.Name, done.Revision, r, at)
		e.Revision, e.Bytes, e.AuditSeq, e.AuditHead, e.UpdatedAt = done.Revision, size, head.Seq, head.Hash[:], at
		publish(b, []*lockedEnvironment{&e})
	}
	entry := r.record
	entry.Time, entry.Operations = at, whole
	if err := chain[0].append(b, entry); err != nil {
		return nil, err
	}
	b.Queue(updateLineage)
	return out, driver(tx.SendBatch(ctx, b).Close())
}

// operation is what the audit log says of a recovery.
func (r Recovered) operation() audit.Operation {
	encode := func(v any) json.RawMessage {
		raw, _ := json.Marshal(v) // numbers always encode
		return raw
	}
	return audit.Operation{
		Action: audit.ActionRecover, Kind: kindEnvironment, Name: r.Environment,
		Before: encode(map[string]int64{"revision": r.Before}),
		After:  encode(map[string]any{"revision": r.Revision, "lost": []int64{r.Before + 1, r.Revision - 1}}),
	}
}

const selectLost = `
SELECT first, last FROM lost_revisions WHERE environment = @environment ORDER BY first`

// LostRange is a stretch of revisions that were published and are no more.
type LostRange struct{ First, Last int64 }

// LostRevisions returns the revisions of an environment that recoveries stepped
// over, ascending.
func (db *DB) LostRevisions(ctx context.Context, env string) ([]LostRange, error) {
	return read[LostRange](ctx, db, "lost revisions", selectLost, pgx.StrictNamedArgs{"environment": env})
}

// unlost returns up to which revision an answer for one can hold: the first lost
// one after it, or 0. A lost revision itself is ErrRevisionLost.
func (db *DB) unlost(ctx context.Context, env string, revision int64) (until int64, err error) {
	lost, err := db.LostRevisions(ctx, env)
	if err != nil {
		return 0, err
	}
	for _, l := range lost {
		switch {
		case revision < l.First:
			return l.First, nil
		case revision <= l.Last:
			return 0, fmt.Errorf("environment %.128q: revision %d is one of %d to %d: %w", env, revision, l.First, l.Last, ErrRevisionLost)
		}
	}
	return 0, nil
}
