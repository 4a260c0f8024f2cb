package store

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// AuditFilter narrows a list of audit entries; fields that are set must all hold.
type AuditFilter struct {
	// Environments names the chains to read; "" is the installation's, which
	// records keys and what describes a flag in all environments. Nil reads
	// every chain.
	Environments []string
	// Flag is a flag key.
	Flag string
	// Actor is matched whole.
	Actor string
	// Action is matched whole: see the Action constants of package audit.
	Action string
	// ChangeID picks the entries of one change set.
	ChangeID string
	// Key is the ID of the API key that acted.
	Key string
	// After and Before bound the time: [After, Before). Zero does not.
	After, Before time.Time
	// Revision picks the entry that made a revision; 0 does not.
	Revision int64
	// CorrelationID picks the entries of one request.
	CorrelationID string
	// Text is somewhere in the entry, as it stands there in JSON. No index
	// helps to find it: it is looked for for some time, in what the other fields
	// leave, and a page may hold few entries or none and not be the last.
	Text string
}

// entryPlace is where an entry stands in the order of lists.
type entryPlace struct {
	At          time.Time
	Environment string
	Seq         int64
}

// entryRow is an entry as the table has it.
type entryRow struct {
	Environment         string
	Seq                 int64
	PrevHash, EntryHash []byte
	Payload             []byte
	CreatedAt           time.Time
	Found               int
	textColumns
}

func (r entryRow) entry() audit.Entry {
	return audit.Entry{
		Scope: r.Environment, Seq: r.Seq, Prev: audit.Hash(r.PrevHash), Hash: audit.Hash(r.EntryHash), Payload: r.Payload, Texts: r.list(),
	}
}

const selectEntries = `
SELECT environment, seq, prev_hash, entry_hash, payload, created_at, found, salts, said
FROM (
	SELECT environment, seq, prev_hash, entry_hash, payload, texts, created_at, count(*) OVER () AS found,
		sum(octet_length(payload)) OVER (ORDER BY created_at DESC, environment DESC, seq DESC) - octet_length(payload) AS bytes_before
	FROM (
		SELECT environment, seq, prev_hash, entry_hash, payload, texts, created_at
		FROM audit_entries
		WHERE (NOT @paged OR (created_at, environment, seq) < (@at::timestamptz, @environment, @seq::bigint))
			AND (NOT @bounded OR (created_at, environment, seq) >= (@until_at::timestamptz, @until_environment, @until_seq::bigint))
			AND (@every OR environment = ANY(@environments))
			AND (@names::text[] IS NULL OR names && @names::text[])
			AND (@actor = '' OR actor = @actor)
			AND (@person = '' OR texts && ARRAY(SELECT hash FROM audit_texts WHERE person AND md5(text) = md5(@person) AND text = @person))
			AND (@action = '' OR @action = ANY(actions))
			AND (@change = '' OR change_id = NULLIF(@change, '')::uuid)
			AND (@key = '' OR actor = 'key:' || @key OR starts_with(actor, 'key:' || @key || ' '))
			AND (@after::timestamptz IS NULL OR created_at >= @after)
			AND (@before::timestamptz IS NULL OR created_at < @before)
			AND (@revision = 0::bigint OR revision = @revision)
			AND (@correlation = '' OR correlation = @correlation)
			AND (@text = '' OR position(@text IN convert_from(payload, 'UTF8')) > 0
				OR EXISTS (SELECT FROM audit_texts t WHERE t.hash = ANY(texts) AND position(@text IN t.text) > 0))
		ORDER BY created_at DESC, environment DESC, seq DESC
		LIMIT @limit + 1
	) matching
) page` + joinTexts + `
WHERE bytes_before < @bytes
ORDER BY created_at DESC, environment DESC, seq DESC
LIMIT @limit`

// selectWindow finds the last of the next entries, whatever they hold; the index
// knows all that it asks.
const selectWindow = `
SELECT created_at AS at, environment, seq
FROM audit_entries
WHERE (NOT @paged OR (created_at, environment, seq) < (@at::timestamptz, @environment, @seq::bigint))
	AND (@every OR environment = ANY(@environments))
	AND (@after::timestamptz IS NULL OR created_at >= @after)
	AND (@before::timestamptz IS NULL OR created_at < @before)
ORDER BY created_at DESC, environment DESC, seq DESC
OFFSET @skip LIMIT 1`

const (
	// searchWindow is how many entries are searched for a text at once, and
	// searchTime how long one list goes on with that.
	searchWindow = 10_000
	searchTime   = 2 * time.Second
)

// Audit lists audit entries, newest first, with the token of the next page;
// empty if this is the last one. Each entry holds the very bytes that were hashed.
func (db *DB) Audit(ctx context.Context, filter AuditFilter, page Page) ([]audit.Entry, string, error) {
	var after entryPlace
	paged, err := page.after(&after)
	if err != nil {
		return nil, "", err
	}
	limit, err := page.limit()
	if err != nil {
		return nil, "", err
	}
	args, err := filter.args()
	if err != nil {
		return nil, "", err
	}
	if filter.Text == "" {
		entries, next, err := db.audit(ctx, args, paged, after, nil, limit, maxPageBytes)
		return entries, tokenOf(next), err
	}
	var found []audit.Entry
	bytes := 0
	for begin := time.Now(); ; {
		until, err := db.searchWindow(ctx, filter, paged, after)
		if err != nil {
			return nil, "", err
		}
		entries, next, err := db.audit(ctx, args, paged, after, until, limit-len(found), maxPageBytes-bytes)
		if err != nil {
			return nil, "", err
		}
		found = append(found, entries...)
		for _, e := range entries {
			bytes += len(e.Payload)
		}
		switch {
		case next != nil:
			return found, tokenOf(next), nil
		case until == nil, len(found) == limit || bytes >= maxPageBytes || time.Since(begin) > searchTime:
			return found, tokenOf(until), nil
		}
		paged, after = true, *until
	}
}

func tokenOf(place *entryPlace) string {
	if place == nil {
		return ""
	}
	return pageToken(*place)
}

// searchWindow returns the last entry of the next window, or nil if that takes in
// all that is left.
func (db *DB) searchWindow(ctx context.Context, filter AuditFilter, paged bool, after entryPlace) (*entryPlace, error) {
	rows, err := read[entryPlace](ctx, db, "audit log", selectWindow, pgx.StrictNamedArgs{
		"paged": paged, "at": after.At, "environment": after.Environment, "seq": after.Seq, "skip": searchWindow - 1,
		"every": filter.Environments == nil, "environments": filter.Environments,
		"after": nullTime(filter.After), "before": nullTime(filter.Before),
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// args are those of a filter for selectEntries.
func (f AuditFilter) args() (pgx.StrictNamedArgs, error) {
	if f.ChangeID != "" && !isID(f.ChangeID) {
		return nil, &FieldError{"change_id", "is not a UUID"}
	}
	var names []string
	if f.Flag != "" {
		names = []string{eval.KindFlag.String() + "/" + f.Flag, eval.KindEmergency.String() + "/" + f.Flag}
	}
	principal, person := audit.SplitActor(f.Actor)
	if principal != "" {
		person = "" // a key's ID says it all
	}
	return pgx.StrictNamedArgs{
		"every": f.Environments == nil, "environments": f.Environments,
		"names": names, "actor": principal, "person": person, "action": f.Action, "change": f.ChangeID,
		"key": f.Key, "after": nullTime(f.After), "before": nullTime(f.Before), "revision": f.Revision,
		"correlation": f.CorrelationID, "text": f.Text,
	}, nil
}

// audit lists the entries after a place, up to another if there is one, and says
// behind which one there are more.
func (db *DB) audit(ctx context.Context, filter pgx.StrictNamedArgs, paged bool, after entryPlace, until *entryPlace, limit, bytes int) (
	entries []audit.Entry, next *entryPlace, err error,
) {
	args := maps.Clone(filter)
	args["paged"], args["at"], args["environment"], args["seq"] = paged, after.At, after.Environment, after.Seq
	args["bounded"] = until != nil
	bound := entryPlace{}
	if until != nil {
		bound = *until
	}
	args["until_at"], args["until_environment"], args["until_seq"] = bound.At, bound.Environment, bound.Seq
	args["limit"], args["bytes"] = limit, bytes
	rows, err := read[entryRow](ctx, db, "audit log", selectEntries, args)
	if err != nil || len(rows) == 0 {
		return nil, nil, err
	}
	entries = make([]audit.Entry, len(rows))
	for i, r := range rows {
		entries[i] = r.entry()
	}
	if rows[0].Found == len(rows) {
		return entries, nil, nil
	}
	last := rows[len(rows)-1]
	return entries, &entryPlace{last.CreatedAt, last.Environment, last.Seq}, nil
}

// nullTime is a time for Postgres, where the zero one is NULL.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

const selectEntry = `
SELECT environment, seq, prev_hash, entry_hash, payload, created_at, 1 AS found, salts, said
FROM audit_entries` + joinTexts + `
WHERE environment = @environment AND seq = @seq`

// AuditEntry returns one entry of a chain, or [ErrNotFound].
func (db *DB) AuditEntry(ctx context.Context, environment string, seq int64) (audit.Entry, error) {
	r, err := readOne[entryRow](ctx, db, fmt.Sprintf("audit entry %.128s/%d", environment, seq), selectEntry,
		pgx.StrictNamedArgs{"environment": environment, "seq": seq})
	if err != nil {
		return audit.Entry{}, err
	}
	return r.entry(), nil
}

const selectChain = `
SELECT environment, seq, prev_hash, entry_hash, payload, created_at, found, salts, said
FROM (
	SELECT environment, seq, prev_hash, entry_hash, payload, texts, created_at, 0 AS found,
		sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
	FROM (
		SELECT environment, seq, prev_hash, entry_hash, payload, texts, created_at
		FROM audit_entries
		WHERE environment = @environment AND seq > @seq AND seq <= @last
		ORDER BY seq
		LIMIT @limit
	) matching
) page` + joinTexts + `
WHERE bytes_before < @bytes
ORDER BY seq`

// Entries yields the entries of one chain after number seq, up to number last,
// oldest first, in pieces of bounded size, for audit.Verify. An error ends it.
func (db *DB) Entries(ctx context.Context, scope string, seq, last int64) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for seq < last {
			rows, err := read[entryRow](ctx, db, "audit chain", selectChain, pgx.StrictNamedArgs{
				"environment": scope, "seq": seq, "last": last, "limit": maxPage, "bytes": maxPageBytes,
			})
			if err != nil {
				yield(audit.Entry{}, err)
				return
			}
			if len(rows) == 0 {
				return
			}
			for _, r := range rows {
				if !yield(r.entry(), nil) {
					return
				}
			}
			seq = rows[len(rows)-1].Seq
		}
	}
}

// installationRow is the head of the installation's chain, held by this
// transaction.
type installationRow struct {
	AuditSeq  int64
	AuditHead []byte
	UpdatedAt time.Time
	Now       time.Time
}

const lockInstallation = `
WITH locked AS MATERIALIZED (SELECT audit_seq, audit_head, updated_at FROM installation FOR NO KEY UPDATE)
SELECT audit_seq, audit_head, updated_at, clock_timestamp() AS now FROM locked`

const selectInstallation = `
SELECT audit_seq, audit_head, updated_at, clock_timestamp() AS now FROM installation`

const updateInstallation = `
UPDATE installation SET audit_seq = @seq, audit_head = @head, updated_at = @at`

// installation makes a change that belongs to no environment, in one
// transaction with its entry in the installation's chain. do returns what it
// did; nothing means that nothing is written. It may run more than once and
// must recognise what it did before.
func (db *DB) installation(ctx context.Context, doing string, r audit.Record, do func(tx pgx.Tx, at time.Time) ([]audit.Operation, error)) error {
	return db.installationAfter(ctx, doing, r, nil, do)
}

// installationAfter is installation for what needs locks that come before that
// of the installation's row: lock takes them.
func (db *DB) installationAfter(ctx context.Context, doing string, r audit.Record, lock func(context.Context, pgx.Tx) error,
	do func(tx pgx.Tx, at time.Time) ([]audit.Operation, error),
) error {
	r, err := db.pseudonymous(ctx, r)
	if err != nil {
		return err
	}
	return db.tries(ctx, doing, func(ctx context.Context, tx pgx.Tx) error {
		if lock != nil {
			if err := lock(ctx, tx); err != nil {
				return err
			}
		}
		rows, err := writing[installationRow](ctx, tx, lockInstallation, nil)
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return fmt.Errorf("the installation has %d rows, want 1", len(rows))
		}
		r.Time, r.Change = latest(rows[0].Now, rows[0].UpdatedAt), newID()
		if r.Operations, err = do(tx, r.Time); err != nil || len(r.Operations) == 0 {
			return err
		}
		b := &pgx.Batch{}
		if err := rows[0].append(b, r); err != nil {
			return err
		}
		return driver(tx.SendBatch(ctx, b).Close())
	})
}

// append queues an entry of the installation's chain.
func (i *installationRow) append(b *pgx.Batch, r audit.Record) error {
	head, err := appendEntry(b, audit.Head{Seq: i.AuditSeq, Hash: audit.Hash(i.AuditHead)}, r)
	if err != nil {
		return err
	}
	b.Queue(updateInstallation, args{"seq": head.Seq, "head": head.Hash[:], "at": r.Time})
	return nil
}

var insertEntries = over(`
INSERT INTO audit_entries (environment, seq, prev_hash, entry_hash, payload, created_at, actor, actions, names, texts, change_id, correlation, revision)
SELECT environment, seq, prev, hash, payload, at, actor, string_to_array(actions, E'\n'), string_to_array(names, E'\n'), texts::bytea[], change,
	correlation, NULLIF(revision, 0)
FROM {rows}`,
	"environment text", "seq bigint", "prev bytea", "hash bytea", "payload bytea", "at timestamptz", "actor text",
	"actions text", "names text", "texts text", "change uuid", "correlation text", "revision bigint")

// appendEntry queues the entry that follows head and returns the new head. The
// caller holds the lock of the row that keeps the head, and made the record
// [DB.pseudonymous].
func appendEntry(b *pgx.Batch, head audit.Head, r audit.Record) (audit.Head, error) {
	var e entries
	head, err := e.add(head, r)
	e.write(b)
	return head, err
}

// entries are entries to be written.
type entries []madeEntry

type madeEntry struct {
	audit.Entry
	audit.Record
	actions, names []string
	hidden         []hiddenText // what the record has the hashes of, of this entry alone
}

// add makes the entry that follows head and returns the new head.
func (e *entries) add(head audit.Head, r audit.Record) (audit.Head, error) {
	var actions, names []string
	for _, o := range r.Operations {
		actions = append(actions, o.Action)
		names = append(names, o.Kind+"/"+o.Name)
	}
	actions, names = distinct(actions), distinct(names)
	r.Action = audit.ActionChange
	if len(actions) == 1 {
		r.Action = actions[0]
	}
	hidden := hideTexts(&r)
	payload, err := r.Payload()
	if err != nil {
		return head, err
	}
	made := head.Next(r.Environment, payload)
	*e = append(*e, madeEntry{made, r, actions, names, hidden})
	return audit.Head{Seq: made.Seq, Hash: made.Hash}, nil
}

// write queues the entries, and their texts.
func (e *entries) write(b *pgx.Batch) {
	var rows, texts []bulkRow
	for _, m := range *e {
		rows = append(rows, bulkRow{
			m.Scope, m.Seq, m.Prev[:], m.Hash[:], m.Entry.Payload, m.Time, m.Actor,
			strings.Join(m.actions, "\n"), strings.Join(m.names, "\n"), hashArray(textsOf(m.Record)), m.Change, m.Correlation, m.Revision,
		})
		for _, t := range m.hidden {
			hash := t.Hash()
			texts = append(texts, bulkRow{hash[:], t.Salt[:], t.Text.Text, t.originOf})
		}
	}
	insertTexts.queue(b, texts)
	insertEntries.queue(b, rows)
}

func distinct(s []string) []string { return slices.Compact(slices.Sorted(slices.Values(s))) }
