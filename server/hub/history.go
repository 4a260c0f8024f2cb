package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

const (
	// refreshTimeout bounds the wait for a revision that is not here yet.
	refreshTimeout = time.Second
	// loadTimeout bounds one read of something older.
	loadTimeout = 5 * time.Second
)

// history reaches what is older than the newest revision. What was read is
// kept, within bounds; what many ask for at once is read once.
type history struct {
	flights  singleflight.Group
	kept     *cache
	counters *counters
}

// Definition is what one flag was during some revisions.
type Definition struct {
	// Rows are what the flag needs to be compiled alone: itself, the segments
	// it reads, the settings. None if the flag did not exist.
	Rows []eval.Row
	// From and To bound the revisions for which the rows hold: From ≤ r < To.
	// A To of 0 means that they hold to this day, as far as Known, which was the
	// newest revision then.
	From, To, Known int64

	flag *eval.Flag
}

// Flag returns the flag, compiled; nil if it did not exist.
func (d Definition) Flag() *eval.Flag { return d.flag }

// Definition returns what the flag called key was at revision; 0 means the
// newest. A revision that is newer than the hub's is waited for, a second at
// most; the error is then [ErrBehind].
func (e *Environment) Definition(ctx context.Context, key string, revision int64) (Definition, error) {
	if err := e.Reach(ctx, revision); err != nil {
		return Definition{}, err
	}
	head := e.Snapshot()
	if f := head.Flag(key); f != nil && (revision == 0 || revision >= f.EffectiveFrom()) {
		return definitionIn(head, f), nil
	} else if f == nil && (revision == 0 || revision == head.Revision()) {
		return Definition{From: head.Revision(), Known: head.Revision()}, nil
	}
	found, err := e.hub.history.load(ctx, place{e.name, key}, revision, func(ctx context.Context) (entry, error) {
		rows, from, to, err := e.hub.source.Superseded(ctx, e.name, key, revision)
		if err != nil {
			return entry{}, err
		}
		compiled, err := eval.Compile(revision, rows)
		if err != nil {
			return entry{}, err
		}
		until := to
		if to == 0 {
			until = head.Revision() + 1 // as far as it is known
		}
		d := Definition{Rows: rows, From: from, To: to, Known: until - 1, flag: compiled.Flag(key)}
		return entry{value: d, from: from, to: until, bytes: size(rows)}, nil
	})
	d, _ := found.(Definition)
	return d, err
}

// definitionIn returns what a flag of a snapshot is, to this day.
func definitionIn(snapshot *eval.Snapshot, f *eval.Flag) Definition {
	d := Definition{From: f.EffectiveFrom(), Known: snapshot.Revision(), flag: f}
	for _, name := range f.Dependencies() {
		if row, ok := snapshot.Row(name); ok {
			d.Rows = append(d.Rows, row)
		}
	}
	return d
}

// maxRetired bounds how much one change may put into the history: more than it
// is an import, which would drive out what is asked for.
const maxRetired = 1000

// retire keeps what flags were in a snapshot that is about to be superseded.
// Most pins that are not the newest revision are a little older: answering for
// them takes no query. What comes between the two snapshots is not known here.
func (e *Environment) retire(old *eval.Snapshot, upserts []eval.Row, deletes []eval.Name) {
	if len(upserts)+len(deletes) > maxRetired {
		return
	}
	keep := func(name eval.Name) {
		f := old.Flag(name.Name)
		if !name.Kind.OfFlag() || f == nil {
			return
		}
		d := definitionIn(old, f)
		d.To = old.Revision() + 1
		e.hub.history.kept.put(place{e.name, f.Key()}, entry{value: d, from: d.From, to: d.To, bytes: size(d.Rows)})
	}
	for _, row := range upserts {
		keep(eval.Name{Kind: row.Kind, Name: row.Name})
	}
	for _, name := range deletes {
		keep(name)
	}
}

// FlagAt returns the flag called key as of revision, nil if it did not exist
// then. See [propagate.Snapshots].
func (e *Environment) FlagAt(ctx context.Context, key string, revision int64) (*eval.Flag, error) {
	if kept, ok := e.hub.history.kept.get(place{environment: e.name}, revision); ok {
		return kept.(*eval.Snapshot).Flag(key), nil // somebody asked for all of them
	}
	d, err := e.Definition(ctx, key, revision)
	if err != nil {
		return nil, fmt.Errorf("flag %q at revision %d cannot be had: %w", key, revision, err)
	}
	return d.flag, nil
}

// Nearest returns the flag called key as of revision or, where that is no longer
// kept, as of the oldest revision that is. See [propagate.Snapshots].
func (e *Environment) Nearest(ctx context.Context, key string, revision int64) (*eval.Flag, int64, error) {
	if kept, ok := e.hub.history.kept.get(place{environment: e.name}, revision); ok {
		return kept.(*eval.Snapshot).Flag(key), revision, nil
	}
	d, at, err := e.nearestDefinition(ctx, key, revision)
	if err != nil {
		return nil, 0, fmt.Errorf("flag %q at revision %d cannot be had: %w", key, revision, err)
	}
	return d.flag, at, nil
}

// nearestDefinition returns what the flag called key was at revision or, where
// that is no longer kept, at the oldest revision that is, and which of the two.
// A lost revision is an error, as for [Environment.Definition].
func (e *Environment) nearestDefinition(ctx context.Context, key string, revision int64) (Definition, int64, error) {
	d, err := e.Definition(ctx, key, revision)
	if !errors.Is(err, store.ErrRevisionCollected) && !errors.Is(err, store.ErrNotFound) { // a relay cannot tell them apart
		return d, revision, err
	}
	at, err := e.hub.source.Oldest(ctx, e.name, key, revision)
	if err != nil {
		return Definition{}, 0, err
	}
	d, err = e.Definition(ctx, key, at)
	return d, at, err
}

// Emergencies returns the log up to the newest revision.
func (e *Environment) Emergencies() eval.Emergencies { return e.Snapshot().Emergencies() }

// EmergenciesAt returns the log up to a revision at least. See
// [propagate.Snapshots].
func (e *Environment) EmergenciesAt(ctx context.Context, revision int64) (eval.Emergencies, error) {
	if err := e.Reach(ctx, revision); err != nil {
		return eval.Emergencies{}, fmt.Errorf("emergencies up to revision %d cannot be had: %w", revision, err)
	}
	return e.Emergencies(), nil
}

// At returns the snapshot at revision; 0 means the newest. A revision that no
// replica has published is [store.ErrRevisionAhead].
func (e *Environment) At(ctx context.Context, revision int64) (*eval.Snapshot, error) {
	if err := e.Reach(ctx, revision); errors.Is(err, ErrBehind) {
		return nil, fmt.Errorf("%w: environment %q is at revision %d, %d was asked for",
			store.ErrRevisionAhead, e.name, e.Head().Revision(), revision)
	} else if err != nil {
		return nil, err
	}
	if head := e.Snapshot(); revision == 0 || revision == head.Revision() {
		return head, nil
	}
	found, err := e.hub.history.load(ctx, place{environment: e.name}, revision, func(ctx context.Context) (entry, error) {
		rows, _, err := e.hub.source.SnapshotRows(ctx, e.name, revision)
		if err != nil {
			return entry{}, err
		}
		compiled, err := eval.Compile(revision, rows)
		return entry{value: compiled, from: revision, to: revision + 1, bytes: size(rows)}, err
	})
	s, _ := found.(*eval.Snapshot)
	return s, err
}

// Reach waits for a revision that is newer than the head, a second at most. The
// error is then [ErrBehind].
func (e *Environment) Reach(ctx context.Context, revision int64) error {
	if revision < 0 {
		return &store.FieldError{Field: "revision", Message: "must not be negative, is " + strconv.FormatInt(revision, 10)}
	}
	if revision <= e.Head().Revision() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return e.Await(ctx, revision)
}

// load returns what is kept of a place at a revision, or reads it. A caller
// that goes away does not take the read away from the others.
func (h *history) load(ctx context.Context, at place, revision int64, read func(context.Context) (entry, error)) (any, error) {
	if value, ok := h.kept.get(at, revision); ok {
		h.counters.hits.Add(1)
		return value, nil
	}
	flight := at.environment + "\x00" + at.flag + "\x00" + strconv.FormatInt(revision, 10)
	result := h.flights.DoChan(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		found, err := read(ctx)
		h.counters.reads.Add(1)
		if err != nil {
			h.counters.readsFailed.Add(1)
			return nil, err
		}
		h.kept.put(at, found)
		return found.value, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-result:
		return r.Val, r.Err
	}
}

// size estimates what rows keep in memory, compiled: measured at about four
// times their documents.
func size(rows []eval.Row) int {
	n := 512
	for r := range slices.Values(rows) {
		n += 256 + 4*len(r.Document)
	}
	return n
}
