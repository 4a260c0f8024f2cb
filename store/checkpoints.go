package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/store/audit"
)

// Checkpoint is one that was signed, as the database keeps it.
type Checkpoint struct {
	// Environment is empty for the installation's chain.
	Environment string
	// Head is the last entry that is covered.
	Head audit.Head
	// Tree is the tree over all entries up to it.
	Tree audit.Tree
	// Note is the signed text.
	Note      string
	CreatedAt time.Time
	// Anchor says that the entries that are covered may be gone.
	Anchor bool
}

// Chain is where one chain of the audit log stands.
type Chain struct {
	// Environment is empty for the installation's chain.
	Environment string
	Head        audit.Head
	// Revision is the newest of the environment.
	Revision int64
	// Checkpoint is the newest; its head is zero if there is none.
	Checkpoint Checkpoint
	// Waiting is how long the oldest entry that no checkpoint covers has been
	// there.
	Waiting time.Duration
}

// checkpointRow is Checkpoint as the table has it.
type checkpointRow struct {
	Environment string
	Size        int64
	Head, Edge  []byte
	Note        string
	CreatedAt   time.Time
	Anchor      bool
}

func (r checkpointRow) checkpoint() (Checkpoint, error) {
	tree, err := audit.NewTree(r.Size, r.Edge)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint of %q at %d: %w", r.Environment, r.Size, err)
	}
	return Checkpoint{r.Environment, audit.Head{Seq: r.Size, Hash: audit.Hash(r.Head)}, tree, r.Note, r.CreatedAt, r.Anchor}, nil
}

const selectChains = `
SELECT c.environment, c.seq, c.head, c.revision,
	COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - e.created_at), 0)::float8 AS waiting
FROM (
	SELECT name AS environment, audit_seq AS seq, audit_head AS head, revision FROM environments
	UNION ALL
	SELECT '', audit_seq, audit_head, 0 FROM installation
) c
LEFT JOIN LATERAL (SELECT max(size) AS size FROM audit_checkpoints WHERE environment = c.environment) p ON true
LEFT JOIN audit_entries e ON e.environment = c.environment AND e.seq = COALESCE(p.size, 0) + 1
ORDER BY c.environment`

const selectNewestCheckpoints = `
SELECT DISTINCT ON (environment) environment, size, head, edge, note, created_at, anchor
FROM audit_checkpoints
ORDER BY environment, size DESC`

// Chains returns where every chain stands, the installation's first.
func (db *DB) Chains(ctx context.Context) ([]Chain, error) {
	type row struct {
		Environment string
		Seq         int64
		Head        []byte
		Revision    int64
		Waiting     float64
	}
	// Checkpoints are read first: one that is made meanwhile is not missed, only
	// made again, which is refused.
	checkpoints, err := read[checkpointRow](ctx, db, "checkpoints", selectNewestCheckpoints, nil)
	if err != nil {
		return nil, err
	}
	rows, err := read[row](ctx, db, "audit chains", selectChains, nil)
	if err != nil {
		return nil, err
	}
	chains := make([]Chain, len(rows))
	for i, r := range rows {
		chains[i] = Chain{
			Environment: r.Environment, Head: audit.Head{Seq: r.Seq, Hash: audit.Hash(r.Head)}, Revision: r.Revision,
			Waiting: time.Duration(r.Waiting * float64(time.Second)),
		}
		for _, c := range checkpoints {
			if c.Environment != r.Environment {
				continue
			}
			if chains[i].Checkpoint, err = c.checkpoint(); err != nil {
				return nil, err
			}
		}
	}
	return chains, nil
}

const selectCheckpointKey = `
SELECT name, verifier, sealed FROM checkpoint_keys ORDER BY created_at DESC, name LIMIT 1`

const selectVerifiers = `
SELECT name, verifier FROM checkpoint_keys ORDER BY created_at DESC, name`

// verifierRow is what of a checkpoint key is no secret.
type verifierRow struct{ Name, Verifier string }

type checkpointKeyRow struct {
	Name     string
	Verifier string
	Sealed   []byte
}

// CheckpointVerifier returns the public key of the checkpoints, as the database
// has it; empty before the first.
func (db *DB) CheckpointVerifier(ctx context.Context) (string, error) {
	rows, err := read[verifierRow](ctx, db, "checkpoint key", selectVerifiers, nil)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0].Verifier, nil
}

// CheckpointKey returns the key that signs the checkpoints of this
// installation, and makes it if there is none. It needs the master key:
// ErrMasterKey.
func (db *DB) CheckpointKey(ctx context.Context) (checkpoint.Key, error) {
	if db.master.IsZero() {
		return checkpoint.Key{}, fmt.Errorf("checkpoint key: %w", ErrNoMasterKey)
	}
	rows, err := read[checkpointKeyRow](ctx, db, "checkpoint key", selectCheckpointKey, nil)
	if err == nil && len(rows) == 0 {
		if err = db.createCheckpointKey(ctx); err == nil {
			rows, err = read[checkpointKeyRow](ctx, db, "checkpoint key", selectCheckpointKey, nil)
		}
	}
	if err != nil {
		return checkpoint.Key{}, err
	}
	seed, err := db.master.open(rows[0].Sealed, forCheckpoints, audit.Installation, rows[0].Name)
	if err != nil {
		return checkpoint.Key{}, fmt.Errorf("checkpoint key %s: %w", rows[0].Name, err)
	}
	key, err := checkpoint.NewKey(rows[0].Name, seed)
	if err == nil && key.VerifierText() != rows[0].Verifier {
		err = fmt.Errorf("%w: checkpoint key %s is not the one that its verifier is of", ErrMasterKey, rows[0].Name)
	}
	return key, err
}

const insertCheckpointKey = `
INSERT INTO checkpoint_keys (name, verifier, sealed, created_at) VALUES (@name, @verifier, @sealed, @at)`

func (db *DB) createCheckpointKey(ctx context.Context) error {
	r := audit.Record{Actor: "guidon", Reason: "first use"}
	return db.installation(ctx, "create checkpoint key", r, func(tx pgx.Tx, at time.Time) ([]audit.Operation, error) {
		rows, err := writing[checkpointKeyRow](ctx, tx, selectCheckpointKey, nil)
		if err != nil || len(rows) > 0 {
			return nil, err
		}
		var seed [32]byte
		var id [5]byte
		_, _ = rand.Read(seed[:]) // crypto/rand does not fail
		_, _ = rand.Read(id[:])
		name := "guidon-" + hex.EncodeToString(id[:])
		key, err := checkpoint.NewKey(name, seed)
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, insertCheckpointKey, pgx.StrictNamedArgs{
			"name": name, "verifier": key.VerifierText(), "sealed": db.master.seal(seed, forCheckpoints, audit.Installation, name), "at": at,
		})
		return []audit.Operation{{
			Action: audit.ActionCreateCheckpointKey, Kind: kindCheckpointKey, Name: name, After: verifierRecord(key.VerifierText()),
		}}, driver(err)
	})
}

// verifierRecord is what the audit log says of a checkpoint key.
func verifierRecord(verifier string) json.RawMessage {
	raw, _ := json.Marshal(map[string]string{"verifier": verifier}) // strings always encode
	return raw
}

func checkpointKeyStates(ctx context.Context, tx pgx.Tx) ([]stateRow, error) {
	return states(ctx, tx, selectVerifiers, func(r verifierRow) stateRow {
		return stateRow{kind: kindCheckpointKey, name: r.Name, document: verifierRecord(r.Verifier)}
	})
}

const insertCheckpoint = `
INSERT INTO audit_checkpoints (environment, size, head, edge, note, created_at)
VALUES (@environment, @size, @head, @edge, @note, clock_timestamp())
ON CONFLICT DO NOTHING`

// What is older than 30 days serves only proofs, which need the first of each
// 1,024 entries. Each checkpoint removes more than it adds.
const thinCheckpoints = `
DELETE FROM audit_checkpoints d USING (
	SELECT environment, size FROM audit_checkpoints c
	WHERE environment = @environment AND created_at < clock_timestamp() - interval '30 days' AND NOT anchor
		AND EXISTS (SELECT FROM audit_checkpoints o WHERE o.environment = c.environment AND o.size < c.size AND o.size >> 10 = c.size >> 10)
	ORDER BY size
	LIMIT 4
) thin
WHERE d.environment = thin.environment AND d.size = thin.size`

// Checkpoint follows a chain from its newest checkpoint to its head, signs
// what it found and keeps it. A chain that is broken is a [*audit.BrokenError],
// and is not signed. Replicas may do the same at once: one of them is first.
func (db *DB) Checkpoint(ctx context.Context, key checkpoint.Key, c Chain) (Checkpoint, error) {
	made := Checkpoint{Environment: c.Environment, Tree: c.Checkpoint.Tree}
	entries := db.Entries(ctx, c.Environment, c.Checkpoint.Head.Seq, c.Head.Seq)
	head, err := audit.Verify(c.Environment, c.Checkpoint.Head, func(yield func(audit.Entry, error) bool) {
		for e, err := range entries {
			if !yield(e, err) {
				return
			}
			made.Tree.Add(e.Hash)
		}
	})
	if err == nil && head != c.Head {
		err = &audit.BrokenError{Scope: c.Environment, Seq: head.Seq + 1, Reason: "the chain does not end where its head says"}
	}
	if err != nil {
		return Checkpoint{}, err
	}
	made.Head = head
	made.Note, err = checkpoint.Sign(checkpoint.Checkpoint{
		Origin: checkpoint.Origin(key.Name(), c.Environment), Size: head.Seq, Root: made.Tree.Root(),
	}, key)
	if err != nil {
		return Checkpoint{}, err
	}
	b := &pgx.Batch{}
	b.Queue(insertCheckpoint, pgx.StrictNamedArgs{
		"environment": made.Environment, "size": head.Seq, "head": head.Hash[:], "edge": made.Tree.Edge(), "note": made.Note,
	})
	b.Queue(thinCheckpoints, pgx.StrictNamedArgs{"environment": made.Environment})
	conn, err := db.acquire(ctx, db.pool(ctx, db.writes))
	if err != nil {
		return Checkpoint{}, dbError("checkpoint", err)
	}
	defer conn.Release()
	return made, dbError("checkpoint", conn.SendBatch(ctx, b).Close())
}

const selectCheckpoints = `
SELECT environment, size, head, edge, note, created_at, anchor
FROM audit_checkpoints
WHERE environment = @environment AND size > @after
ORDER BY size
LIMIT @limit`

// Checkpoints yields the checkpoints of one chain of more than a number of
// entries, oldest first, in pieces. An error ends it.
func (db *DB) Checkpoints(ctx context.Context, environment string, after int64) iter.Seq2[Checkpoint, error] {
	return func(yield func(Checkpoint, error) bool) {
		for {
			rows, err := read[checkpointRow](ctx, db, "checkpoints", selectCheckpoints, pgx.StrictNamedArgs{
				"environment": environment, "after": after, "limit": maxPage,
			})
			if err != nil {
				yield(Checkpoint{}, err)
				return
			}
			for _, r := range rows {
				c, err := r.checkpoint()
				if !yield(c, err) || err != nil {
					return
				}
				after = r.Size
			}
			if len(rows) < maxPage {
				return
			}
		}
	}
}

const selectAnchor = `
SELECT environment, size, head, edge, note, created_at, anchor
FROM audit_checkpoints
WHERE environment = @environment AND anchor
ORDER BY size DESC
LIMIT 1`

// Anchor returns the checkpoint behind which the entries of a chain may be
// gone; without one, one of no entries.
func (db *DB) Anchor(ctx context.Context, environment string) (Checkpoint, error) {
	rows, err := read[checkpointRow](ctx, db, "anchor", selectAnchor, pgx.StrictNamedArgs{"environment": environment})
	if err != nil || len(rows) == 0 {
		return Checkpoint{Environment: environment}, err
	}
	return rows[0].checkpoint()
}

const selectTree = `
SELECT environment, size, head, edge, note, created_at, anchor
FROM audit_checkpoints
WHERE environment = @environment AND size >= @from AND size < @to
ORDER BY size
LIMIT 1`

const selectHashes = `
SELECT entry_hash FROM audit_entries WHERE environment = @environment AND seq > @from AND seq <= @to ORDER BY seq`

// ProveCheckpoint returns the proof that a chain of newer entries begins with
// its first older ones. It is [ErrNotFound] if entries that it needs are gone.
func (db *DB) ProveCheckpoint(ctx context.Context, environment string, older, newer int64) ([]checkpoint.Hash, error) {
	proof, err := audit.Source{
		Tree: func(from, to int64) (audit.Tree, bool, error) {
			rows, err := read[checkpointRow](ctx, db, "checkpoint", selectTree, pgx.StrictNamedArgs{"environment": environment, "from": from, "to": to})
			if err != nil || len(rows) == 0 {
				return audit.Tree{}, false, err
			}
			c, err := rows[0].checkpoint()
			return c.Tree, true, err
		},
		Hashes: func(from, to int64) ([]audit.Hash, error) {
			type row struct{ EntryHash []byte }
			rows, err := read[row](ctx, db, "audit chain", selectHashes, pgx.StrictNamedArgs{"environment": environment, "from": from, "to": to})
			out := make([]audit.Hash, len(rows))
			for i, r := range rows {
				out[i] = audit.Hash(r.EntryHash)
			}
			return out, err
		},
	}.Prove(older, newer)
	if errors.Is(err, audit.ErrForgotten) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return proof, err
}
