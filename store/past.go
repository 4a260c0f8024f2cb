package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// past holds the revisions and versions of an environment against the entries
// that made them, in pieces, while its chain is replayed. What is current is not
// all that counts: a pin, travel in time, a revert and a restore read what was.
//
// What the collector removed is not missed, and neither is what was made before
// an anchor; what is there of it must still be what later entries say that they
// changed. It keeps one version of each name, however many there were.
type past struct {
	db      *DB
	chain   Chain
	partial bool // the chain begins at an anchor

	begun bool
	last  int64 // everything up to this revision was compared
	open  map[string]keptVersion
	piece []madeRevision
	rows  int // of the piece
}

// keptVersion is what is stored of a version that no entry so far ended.
type keptVersion struct {
	from, to int64
	hash     *[32]byte // nil if it is not known
	gone     bool      // it is not there
	oldest   int64     // revision of the environment, when it was not there
}

// madeRevision is what an entry says that it made.
type madeRevision struct {
	entry  audit.Entry // without its payload
	record audit.Record
	rows   []madeRow
}

// madeRow is a row before and after an entry; nil for none.
type madeRow struct {
	name          string
	before, after *[32]byte
	again         bool // it was written anew, as it was
}

const (
	pastEntries = 1000
	pastRows    = 10000
)

func (p *past) differs(seq int64, format string, args ...any) error {
	return &audit.StateError{Scope: p.chain.Environment, Seq: seq, Reason: fmt.Sprintf(format, args...)}
}

// add notes what an entry made, and compares a piece when it is full.
func (p *past) add(ctx context.Context, e audit.Entry, r audit.Record) error {
	if r.Revision > p.chain.Revision {
		return p.differs(e.Seq, "the environment is at revision %d, the entry made revision %d", p.chain.Revision, r.Revision)
	}
	if !p.begun && p.partial {
		if err := p.begin(ctx, r.Revision-1); err != nil {
			return err
		}
	}
	p.begun = true
	made := madeRevision{entry: e, record: r, rows: rowsMade(r)}
	made.entry.Payload, made.record.Operations = nil, nil
	p.piece, p.rows = append(p.piece, made), p.rows+len(made.rows)
	if len(p.piece) < pastEntries && p.rows < pastRows {
		return nil
	}
	return p.compare(ctx, r.Revision)
}

// begin reads what there was before the first entry behind an anchor.
func (p *past) begin(ctx context.Context, revision int64) error {
	p.last, p.open = revision, map[string]keptVersion{}
	versions, err := p.db.versionsAt(ctx, p.chain.Environment, revision)
	for _, v := range versions {
		if v.Kind != nil {
			p.open[*v.Kind+"/"+*v.Name] = v.kept()
		}
	}
	return err
}

func (v madeVersion) kept() keptVersion {
	return keptVersion{from: v.FromRevision, to: v.ToRevision, hash: new([32]byte(v.Made))}
}

// rowsMade are the rows in which an entry made a difference.
func rowsMade(r audit.Record) []madeRow {
	var rows []madeRow
	at := map[string]int{}
	kinds := RowKinds()
	for _, o := range r.Operations {
		if o.Kind == kindEnvironment && o.Action == audit.ActionRecover {
			o.Kind, o.Name = eval.KindSettings.String(), eval.SettingsName
			at[o.Kind+"/"+o.Name], rows = len(rows), append(rows, madeRow{name: o.Kind + "/" + o.Name, again: true})
			continue
		}
		if !slices.Contains(kinds, o.Kind) {
			continue
		}
		name := o.Kind + "/" + o.Name
		i, seen := at[name]
		if !seen {
			i = len(rows)
			at[name], rows = i, append(rows, madeRow{name: name, before: hashed(o.Before)})
		}
		rows[i].after, rows[i].again = hashed(o.After), false
	}
	return slices.DeleteFunc(rows, func(r madeRow) bool {
		return !r.again && (r.before == nil) == (r.after == nil) && (r.after == nil || *r.before == *r.after)
	})
}

func hashed(document []byte) *[32]byte {
	if document == nil {
		return nil
	}
	return new(sha256.Sum256(document))
}

// compare compares the piece, which ends with a revision, and begins the next.
func (p *past) compare(ctx context.Context, last int64) error {
	// One more than there should be is enough to find one that should not. The
	// revision of a version that is kept is kept with it, so revisions are read
	// first, and the oldest that is kept last.
	first := 0
	if p.last == 0 {
		first = 1
	}
	revisions, err := p.db.revisionsMade(ctx, p.chain.Environment, p.last, last, len(p.piece)+first+1)
	if err != nil {
		return err
	}
	versions, err := p.db.versionsMade(ctx, p.chain.Environment, p.last, last, p.rows+1)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return fmt.Errorf("environment %.128q: %w", p.chain.Environment, ErrNotFound)
	}
	if err := p.compareRevisions(ctx, revisions, versions); err != nil {
		return err
	}
	if err := p.compareVersions(versions); err != nil {
		return err
	}
	p.last, p.piece, p.rows = last, p.piece[:0], 0
	return nil
}

func (p *past) compareRevisions(ctx context.Context, revisions []Revision, versions []madeVersion) error {
	stored := map[int64]Revision{}
	for _, r := range revisions {
		stored[r.Revision] = r
	}
	if p.last == 0 { // the environment as it was created
		first, ok := stored[1]
		if ok && first.ChangeID != "" || !ok && versions[0].Oldest <= 1 {
			return p.differs(0, "revision 1 is not the environment as it was created")
		}
		delete(stored, 1)
	}
	kept := map[int64]bool{}
	for _, v := range versions {
		kept[v.FromRevision] = true
	}
	for _, m := range p.piece {
		revision := m.record.Revision
		r, ok := stored[revision]
		delete(stored, revision)
		if !ok {
			if revision >= versions[0].Oldest || kept[revision] {
				return p.differs(m.entry.Seq, "it made revision %d, of which nobody is said to have made it", revision)
			}
			continue
		}
		what := differing(m.record, m.entry.Texts, r)
		if what != "" {
			var err error
			if what, err = p.again(ctx, m); err != nil {
				return err
			}
		}
		if what != "" {
			return p.differs(m.entry.Seq, "it made revision %d, of which another %s is stored", revision, what)
		}
	}
	for revision := range stored {
		return p.differs(0, "revision %d is there, and no entry made it", revision)
	}
	return nil
}

// differing names what a revision has otherwise than the record of the entry that
// made it; "" if nothing.
func differing(r audit.Record, texts []audit.Text, stored Revision) string {
	actor, reason := r.Said(texts)
	switch {
	case stored.ChangeID != r.Change:
		return "change"
	case !stored.Time.Equal(r.Time):
		return "time"
	case stored.Reason != reason:
		return "reason"
	case strings.TrimSpace(stored.Actor) == actor:
		return ""
	}
	// A name that was erased through another replica a moment before may be there
	// without its hash: what its owner did then counts as done by somebody erased.
	if principal, _ := audit.SplitActor(stored.Actor); principal == r.Actor && actor == strings.TrimSpace(r.Actor+" "+audit.Erased) {
		return ""
	}
	return "actor"
}

// again compares a revision of which something may have been erased between the
// two looks: until no text went away while it was read.
func (p *past) again(ctx context.Context, m madeRevision) (string, error) {
	for {
		e, err := p.db.AuditEntry(ctx, p.chain.Environment, m.entry.Seq)
		if err != nil {
			return "", err
		}
		stored, err := p.db.revisionsMade(ctx, p.chain.Environment, m.record.Revision-1, m.record.Revision, 1)
		if err != nil {
			return "", err
		}
		after, err := p.db.AuditEntry(ctx, p.chain.Environment, m.entry.Seq)
		if err != nil {
			return "", err
		}
		switch {
		case len(after.Texts) < len(e.Texts):
			continue
		case len(stored) == 0:
			return "", nil // collected meanwhile
		}
		return differing(m.record, e.Texts, stored[0]), nil
	}
}

func (p *past) compareVersions(found []madeVersion) error {
	oldest := found[0].Oldest
	type made struct {
		revision int64
		name     string
	}
	stored := map[made]madeVersion{}
	for _, v := range found {
		if v.Kind != nil {
			stored[made{v.FromRevision, *v.Kind + "/" + *v.Name}] = v
		}
	}
	if p.open == nil {
		p.open = map[string]keptVersion{}
	}
	for _, m := range p.piece {
		revision := m.record.Revision
		for _, row := range m.rows {
			was, open := p.open[row.name]
			if err := p.ends(m, row, was, open, oldest); err != nil {
				return err
			}
			delete(p.open, row.name)
			want := row.after
			if row.again && open {
				want = was.hash
			}
			if want == nil && !row.again {
				continue
			}
			at := made{revision, row.name}
			v, ok := stored[at]
			delete(stored, at)
			if !ok {
				p.open[row.name] = keptVersion{from: revision, hash: want, gone: true, oldest: oldest}
				continue
			}
			kept := v.kept()
			if want != nil && *kept.hash != *want || !bytes.Equal(v.Made, v.Hash) {
				return p.differs(m.entry.Seq, "%s of revision %d is not what it made", row.name, revision)
			}
			p.open[row.name] = kept
		}
	}
	for at := range stored {
		return p.differs(0, "%s of revision %d is there, and no entry made it", at.name, at.revision)
	}
	return nil
}

// ends checks the version that an entry ended, if there was one.
func (p *past) ends(m madeRevision, row madeRow, was keptVersion, open bool, oldest int64) error {
	revision := m.record.Revision
	switch {
	case !open && (row.before == nil || p.partial && revision < oldest):
		return nil
	case !open:
		return p.differs(m.entry.Seq, "%s as it was before revision %d is not there", row.name, revision)
	case was.gone && revision >= was.oldest:
		return p.differs(m.entry.Seq, "%s of revision %d is not there", row.name, was.from)
	case !row.again && (row.before == nil || was.hash != nil && *row.before != *was.hash):
		return p.differs(m.entry.Seq, "%s of revision %d is not what it changed", row.name, was.from)
	case !was.gone && was.to != revision:
		return p.differs(m.entry.Seq, "%s of revision %d ends with %s, and was changed by revision %d", row.name, was.from, ending(was.to), revision)
	}
	return nil
}

// ending is how the end of a version is printed.
func ending(revision int64) string {
	if revision == 0 {
		return "no revision"
	}
	return fmt.Sprintf("revision %d", revision)
}

// end compares what is left, when the chain is at its end.
func (p *past) end(ctx context.Context) error {
	if !p.begun && !p.partial && p.chain.Revision != 1 {
		return p.differs(0, "the environment is at revision %d, and no entry made one", p.chain.Revision)
	}
	if p.begun || !p.partial {
		if err := p.compare(ctx, p.chain.Revision); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.open)) {
		if v := p.open[name]; v.to != 0 && v.to <= p.chain.Revision {
			return p.differs(0, "%s of revision %d ends with revision %d, and no entry ended it", name, v.from, v.to)
		}
	}
	newest, err := p.db.revisionsMade(ctx, p.chain.Environment, p.chain.Revision-1, p.chain.Revision, 1)
	if err == nil && len(newest) == 0 {
		var outrun bool
		if outrun, err = p.db.outrun(ctx, p.chain); err == nil && !outrun {
			err = p.differs(0, "nobody is said to have made revision %d", p.chain.Revision)
		}
	}
	if err != nil {
		return err
	}
	what, err := p.db.ahead(ctx, p.chain.Environment)
	if err == nil && what != "" {
		err = p.differs(0, "%s is of a revision that the environment has not got to", what)
	}
	return err
}
