package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// request is a change set made ready to be tried, more than once if need be:
// the ID is the same in every try, so that a try whose commit went unanswered
// is recognised by the next.
type request struct {
	ChangeSet
	id   string
	hash [32]byte
	// record is what the entries of the change set have in common.
	record audit.Record
	steps  []step
	// conformity is what was found out of its values and their schemas.
	conformity *conformity
	// owners are the hashes of the owners that the steps give to flags.
	owners map[string]audit.Hash
}

func newRequest(cs ChangeSet) request {
	id := newID()
	return request{ChangeSet: cs, id: id, conformity: newConformity(), record: audit.Record{Actor: cs.Actor, Reason: cs.Reason, Change: id, Correlation: cs.CorrelationID}}
}

// hashOf is what a repeated change set must have in common with the first. The
// correlation ID is not: each request has its own.
func hashOf(cs ChangeSet) ([32]byte, error) {
	type operation struct {
		Type string
		Operation
	}
	asked := struct {
		Reason         string
		Expect         map[string]int64
		IsolateInvalid bool
		Operations     []any
	}{Reason: cs.Reason, Expect: cs.Expect, IsolateInvalid: cs.IsolateInvalid}
	if cs.intent != "" {
		raw, err := json.Marshal([]string{cs.intent, cs.Reason})
		return sha256.Sum256(raw), err
	}
	for _, o := range cs.Operations {
		asked.Operations = append(asked.Operations, operation{fmt.Sprintf("%T", o), o})
	}
	raw, err := json.Marshal(asked)
	return sha256.Sum256(raw), err
}

// changeRow is what the table remembers of a change set.
type changeRow struct {
	Request     int // its place among those that were looked up
	RequestHash []byte
	Result      []byte
}

var selectChanges = over(`
SELECT n.number AS request, c.request_hash, c.result
FROM {rows}
CROSS JOIN LATERAL (
	SELECT request_hash, result FROM changes
	WHERE id = n.id OR actor = n.actor AND idempotency_key = n.key
	LIMIT 1
) c`, "number int", "id uuid", "actor text", "key text")

// lookUp reads which of some change sets were applied already.
func lookUp(b *pgx.Batch, out *[]changeRow, requests []request) {
	var rows []bulkRow
	for i, r := range requests {
		rows = append(rows, bulkRow{i, r.id, r.Actor, r.IdempotencyKey})
	}
	queueOver(b, out, selectChanges, rows)
}

// answer is the stored result of a change set that was applied already.
func (c changeRow) answer(r request) (Applied, error) {
	if [32]byte(c.RequestHash) != r.hash {
		return Applied{}, ErrKeyReused
	}
	var applied Applied
	if err := json.Unmarshal(c.Result, &applied); err != nil {
		return Applied{}, fmt.Errorf("stored result of a change set: %w", err)
	}
	return applied, nil
}

var insertChanges = over(`
INSERT INTO changes (id, actor, idempotency_key, request_hash, reason, result, created_at)
SELECT id, actor, NULLIF(key, ''), hash, reason, result, at
FROM {rows}`,
	"id uuid", "actor text", "key text", "hash bytea", "reason text", "result bytea", "at timestamptz")

// One transaction in so many, by lot, looks for change sets to be forgotten: each
// would find as good as nothing. It removes more than all of them add, so the
// table stays as large as 30 days of changes without a job that somebody must run.
const forgetEvery = 16

const deleteExpiredChanges = `
DELETE FROM changes WHERE id IN (
	SELECT id FROM changes
	WHERE created_at < @at::timestamptz - interval '30 days'
	ORDER BY created_at
	LIMIT @limit
	FOR UPDATE SKIP LOCKED
)`

// doneChange is a change set with its result.
type doneChange struct {
	request
	result []byte
	at     time.Time
}

// done is the change set as it is remembered: without the documents.
func (r request) done(applied Applied, at time.Time) (doneChange, error) {
	applied.Changes = slices.Clone(applied.Changes)
	for i := range applied.Changes {
		applied.Changes[i].Before, applied.Changes[i].After = nil, nil
	}
	result, err := json.Marshal(applied)
	return doneChange{r, result, at}, err
}

// writeChanges queues what is remembered of change sets.
func writeChanges(b *pgx.Batch, done []doneChange) {
	var rows []bulkRow
	var newest time.Time
	for _, d := range done {
		rows = append(rows, bulkRow{d.id, d.Actor, d.IdempotencyKey, d.hash[:], d.Reason, d.result, d.at})
		newest = latest(newest, d.at)
	}
	insertChanges.queue(b, rows)
	if len(done) > 0 && rand.N(forgetEvery) == 0 { //nolint:gosec // a lot
		b.Queue(deleteExpiredChanges, args{"at": newest, "limit": 4 * forgetEvery * len(done)})
	}
}

// An idempotency key is its actor's; what has no actor left has none.
var eraseChanges = `
UPDATE changes SET actor = ` + anonymous("actor") + `, reason = ` + unsaid("reason") + `,
	idempotency_key = CASE WHEN actor = @name THEN NULL ELSE idempotency_key END
WHERE ` + named("actor") + ` OR ` + holdsName("reason")
