package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
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
}

func newRequest(cs ChangeSet) request {
	id := newID()
	return request{ChangeSet: cs, id: id, record: audit.Record{Actor: cs.Actor, Reason: cs.Reason, Change: id, Correlation: cs.CorrelationID}}
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
	RequestHash []byte
	Result      []byte
}

const selectChange = `
SELECT request_hash, result
FROM changes
WHERE id = @id OR actor = @actor AND idempotency_key = @key`

func (r request) lookUp(b *pgx.Batch, out *[]changeRow) {
	queue(b, out, selectChange, pgx.StrictNamedArgs{"id": r.id, "actor": r.Actor, "key": r.IdempotencyKey})
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

const insertChange = `
INSERT INTO changes (id, actor, idempotency_key, request_hash, reason, result, created_at)
VALUES (@id, @actor, NULLIF(@key, ''), @hash, @reason, @result, @at)`

// Each change removes more than it adds, so the table stays as large as 30
// days of changes without a job that somebody must run.
const deleteExpiredChanges = `
DELETE FROM changes WHERE id IN (
	SELECT id FROM changes
	WHERE created_at < @at::timestamptz - interval '30 days'
	ORDER BY created_at
	LIMIT 4
	FOR UPDATE SKIP LOCKED
)`

func (r request) remember(b *pgx.Batch, applied Applied, at time.Time) error {
	for i := range applied.Changes {
		applied.Changes[i].Before, applied.Changes[i].After = nil, nil
	}
	result, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	b.Queue(insertChange, pgx.StrictNamedArgs{
		"id": r.id, "actor": r.Actor, "key": r.IdempotencyKey, "hash": r.hash[:], "reason": r.Reason, "result": result, "at": at,
	})
	b.Queue(deleteExpiredChanges, pgx.StrictNamedArgs{"at": at})
	return nil
}

// An idempotency key is its actor's; what has no actor left has none.
var eraseChanges = `
UPDATE changes SET actor = ` + anonymous("actor") + `, reason = ` + unsaid("reason") + `,
	idempotency_key = CASE WHEN actor = @name THEN NULL ELSE idempotency_key END
WHERE ` + named("actor") + ` OR ` + holdsName("reason")
