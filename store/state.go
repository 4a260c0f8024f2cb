package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// stateRow is a row that the installation's chain speaks of, as the chain says
// it.
type stateRow struct {
	kind, name string
	document   json.RawMessage
	// unmade says that the row may be there without an entry: a migration or a
	// change set of an environment made it, and nobody changed it since.
	unmade bool
}

// Kinds of rows that the installation's chain makes, besides flags, of which it
// holds what describes them.
const (
	kindKey            = "key"
	kindPropagationKey = "propagation_key"
	kindOverrideKey    = "override_key"
	kindOverride       = "override"
	kindCheckpointKey  = "checkpoint_key"
	kindEnvironment    = "environment"
	kindProject        = "project"
)

// InstallationReplay returns what carries out the installation's chain as of a
// time, by which old overrides are gone.
func InstallationReplay(now time.Time) *audit.Replay {
	return &audit.Replay{
		Kinds: []string{
			kindKey, kindPropagationKey, kindOverrideKey, kindOverride, kindCheckpointKey, kindEnvironment, kindProject, eval.KindFlag.String(),
		},
		Unmade: []string{kindEnvironment, kindProject, eval.KindFlag.String()},
		Passes: func(o audit.Operation) bool {
			var ends struct{ Expires time.Time }
			return o.Kind == kindOverride && json.Unmarshal(o.After, &ends) == nil && ends.Expires.Before(now.Add(-keepEndedOverrides))
		},
	}
}

// installationState is the head of the installation's chain and the rows that
// it made, at one moment.
type installationState struct {
	head audit.Head
	now  time.Time
	rows []stateRow
}

func (db *DB) installationState(ctx context.Context) (s installationState, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := db.acquire(ctx, db.pool(ctx, db.reads))
	if err != nil {
		return s, dbError("installation", err)
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		heads, err := writing[installationRow](ctx, tx, selectInstallation, nil)
		if err != nil {
			return err
		}
		s.head, s.now = audit.Head{Seq: heads[0].AuditSeq, Hash: audit.Hash(heads[0].AuditHead)}, heads[0].Now
		for _, read := range []func(context.Context, pgx.Tx) ([]stateRow, error){
			keyStates, propagationKeyStates, overrideKeyStates, overrideStates, checkpointKeyStates, environmentStates, projectStates, flagStates,
		} {
			rows, err := read(ctx, tx)
			if err != nil {
				return err
			}
			s.rows = append(s.rows, rows...)
		}
		return nil
	})
	return s, dbError("installation", err)
}

// compare holds what a replay of the chain made against the rows.
func (s installationState) compare(replay *audit.Replay) (err error) {
	compared := replay.Compare(audit.Installation, func(yield func(string, []byte) bool) {
		for _, r := range s.rows {
			name := r.kind + "/" + r.name
			if r.unmade && !replay.Names(name) {
				continue
			}
			var document []byte
			if document, err = audit.Canonical(r.document); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				return
			}
			if !yield(name, document) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return compared
}

// states makes rows of what a statement yields.
func states[T any](ctx context.Context, tx pgx.Tx, sql string, state func(T) stateRow) ([]stateRow, error) {
	rows, err := writing[T](ctx, tx, sql, nil)
	out := make([]stateRow, len(rows))
	for i, r := range rows {
		out[i] = state(r)
	}
	return out, err
}
