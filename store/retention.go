package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/audit"
)

// errNothingToDrop says that no entry may be dropped yet.
var errNothingToDrop = &FieldError{"before", "no checkpoint lies before that time, or what it covers was dropped already"}

const selectDroppable = `
SELECT c.environment, c.size, c.head, c.edge, c.note, c.created_at, c.anchor
FROM audit_checkpoints c
JOIN audit_entries e ON e.environment = c.environment AND e.seq = c.size
WHERE c.environment = @environment AND e.created_at < @before
ORDER BY c.size DESC
LIMIT 1`

// Droppable returns the newest checkpoint of a chain whose entries are all
// older than a time: what may become its anchor.
func (db *DB) Droppable(ctx context.Context, environment string, before time.Time) (Checkpoint, error) {
	rows, err := read[checkpointRow](ctx, db, "checkpoints", selectDroppable, pgx.StrictNamedArgs{"environment": environment, "before": before})
	if err != nil {
		return Checkpoint{}, err
	}
	if len(rows) == 0 {
		return Checkpoint{}, errNothingToDrop
	}
	return rows[0].checkpoint()
}

// setAnchor, and what drops entries, need the role that owns the tables; a trigger lets
// only entries behind an anchor go.
const setAnchor = `
UPDATE audit_checkpoints SET anchor = true WHERE environment = @environment AND size = @size AND NOT anchor`

// dropBatch is how many entries go at a time: a million are a thousand short
// statements, which lock nothing that a change wants.
const dropBatch = 1000

const dropEntries = `
WITH going AS (
	SELECT seq, texts FROM audit_entries WHERE environment = @environment AND seq > @after AND seq <= @to
), unsaid AS (` + deleteReasons + `)
DELETE FROM audit_entries WHERE environment = @environment AND seq IN (SELECT seq FROM going)`

// Where a run that was broken off got to.
const selectFirstEntry = `
SELECT COALESCE(min(seq), 0) AS seq FROM audit_entries WHERE environment = @environment`

// DropAudit makes a checkpoint the anchor of its chain and drops the entries
// that it covers, which the caller exported and verified before. Verification
// begins at the anchor from then on, and the tree over the entries that were
// dropped stays in every later checkpoint. It needs the role that owns the
// tables. What was dropped, why and by whom is an entry of the installation's
// chain.
func (db *DB) DropAudit(ctx context.Context, c Checkpoint, actor, reason string) error {
	if actor == "" || reason == "" {
		return &FieldError{"reason", "and actor are required"}
	}
	after, err := json.Marshal(map[string]any{"environment": c.Environment, "entries": c.Head.Seq, "head": c.Head.Hash.String()})
	if err != nil {
		return err
	}
	args := pgx.StrictNamedArgs{"environment": c.Environment, "size": c.Head.Seq}
	r := audit.Record{Actor: actor, Reason: reason}
	err = db.installation(ctx, "drop audit entries", r, func(tx pgx.Tx, _ time.Time) ([]audit.Operation, error) {
		tag, err := tx.Exec(ctx, setAnchor, args)
		if err != nil || tag.RowsAffected() == 0 {
			return nil, driver(err) // an earlier try set it
		}
		return []audit.Operation{{Action: audit.ActionDropAudit, Kind: "audit", Name: fmt.Sprintf("%s/%d", c.Environment, c.Head.Seq), After: after}}, nil
	})
	if err == nil {
		err = db.dropEntries(ctx, c)
	}
	if errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w; what was dropped is dropped, the rest by the same call again", err)
	}
	return err
}

// dropEntries drops the entries that an anchor covers.
func (db *DB) dropEntries(ctx context.Context, c Checkpoint) error {
	type row struct{ Seq int64 }
	first, err := readOne[row](ctx, db, "audit entries", selectFirstEntry, pgx.StrictNamedArgs{"environment": c.Environment})
	if err != nil {
		return err
	}
	for after := first.Seq - 1; after < c.Head.Seq; after += dropBatch {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		_, err := db.exec(ctx, dropEntries, pgx.StrictNamedArgs{
			"environment": c.Environment, "after": after, "to": min(after+dropBatch, c.Head.Seq),
		})
		cancel()
		if err != nil {
			return dbError("drop audit entries", err)
		}
	}
	return nil
}
