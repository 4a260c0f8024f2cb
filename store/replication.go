package store

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// replicationInterval is how often the settings are looked at again.
const replicationInterval = 5 * time.Second

const selectReplication = `
SELECT current_setting('synchronous_standby_names') AS standbys, current_setting('synchronous_commit') AS waits`

type replicationRow struct{ Standbys, Waits string }

// err is why a commit would not wait for a standby; nil if it would.
func (r replicationRow) err() error {
	switch {
	case r.Standbys == "":
		return fmt.Errorf("%w: synchronous_standby_names is empty", ErrNotReplicated)
	case r.Waits == "off", r.Waits == "local":
		return fmt.Errorf("%w: synchronous_commit is %s", ErrNotReplicated, r.Waits)
	}
	return nil
}

// WatchReplication looks every few seconds whether commits wait for a standby,
// for [DB.Replicating], until ctx ends. It returns at once where that is not
// required.
func (db *DB) WatchReplication(ctx context.Context) error {
	if !db.replicated {
		return nil
	}
	tick := time.NewTicker(replicationInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			before := db.Replicating()
			if err := db.lookReplication(ctx); err != nil && before == nil {
				db.log.LogAttrs(ctx, slog.LevelError, "changes are refused", slog.Any("error", err))
			}
		}
	}
}

// Replicating is why changes are refused where synchronous replication is
// required, as of the last look; nil if they are not. It asks nobody.
func (db *DB) Replicating() error {
	if err := db.unreplicated.Load(); err != nil {
		return *err
	}
	return nil
}

// lookReplication looks at the settings. A database that cannot be reached says
// nothing of them.
func (db *DB) lookReplication(ctx context.Context) error {
	rows, err := read[replicationRow](Background(ctx), db, "replication", selectReplication, nil)
	if err != nil {
		return err
	}
	err = rows[0].err()
	db.noteReplication(err)
	return err
}

func (db *DB) noteReplication(err error) {
	if err == nil {
		db.unreplicated.Store(nil)
	} else {
		db.unreplicated.Store(&err)
	}
}

// confirm commits, once it is certain that the commit will be as durable as is
// required.
func (db *DB) confirm(ctx context.Context, tx pgx.Tx) error {
	if db.replicated {
		rows, err := writing[replicationRow](ctx, tx, selectReplication, nil)
		if err == nil {
			err = db.replicating(rows)
		}
		if err != nil {
			return err
		}
	}
	return db.commit(ctx, tx.Conn(), &pgx.Batch{})
}

// replicating refuses a commit that would not be as durable as is required. It
// is given the settings as of the transaction, if that is so.
func (db *DB) replicating(rows []replicationRow) error {
	if !db.replicated {
		return nil
	}
	err := rows[0].err()
	db.noteReplication(err)
	return err
}

// commit sends what is queued and COMMIT in one round trip, and does not take a
// commit for one that Postgres warned of: a wait for the standby that is cut
// short, as by pg_cancel_backend, ends in success.
func (db *DB) commit(ctx context.Context, conn *pgx.Conn, b *pgx.Batch) error {
	var warning string
	conn.PgConn().CustomData()[warningKey] = &warning
	if err := commit(ctx, conn, b); err != nil {
		return err
	}
	if warning != "" {
		db.count.unreplicated.Add(1)
		return fmt.Errorf("%w: %s", ErrUnknownDurability, warning)
	}
	return nil
}

// queueCommit queues COMMIT, which must commit: a transaction that failed before
// is rolled back by it, without an error.
func queueCommit(b *pgx.Batch) {
	b.Queue("commit").Exec(func(tag pgconn.CommandTag) error { return committed(tag.String()) })
}

func committed(tag string) error {
	if tag != "COMMIT" {
		return fmt.Errorf("commit: Postgres answered %.32q", tag)
	}
	return nil
}

// warningKey is where a connection has the place for a warning at its next
// commit.
const warningKey = "guidon.warning"

// onNotice puts down what Postgres warns of at a commit. The text may be in any
// language, and nothing else there makes it warn.
func onNotice(conn *pgconn.PgConn, n *pgconn.Notice) {
	place, ok := conn.CustomData()[warningKey].(*string)
	if !ok || n.SeverityUnlocalized != "WARNING" {
		return
	}
	*place = n.Message
	if n.Detail != "" {
		*place += ": " + n.Detail
	}
}
