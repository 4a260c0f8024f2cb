package store

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const channel = "guidon"

const (
	// hintInterval is how far apart the notifications of one replica are at
	// least. NOTIFY takes a lock of the whole cluster.
	hintInterval = 10 * time.Millisecond
	// listenCheck is how long a silent connection is trusted.
	listenCheck = 15 * time.Second
	// relistenMin and relistenMax bound the pause before a reconnection.
	relistenMin = 50 * time.Millisecond
	relistenMax = 5 * time.Second
)

// Listen calls notify whenever something may have been published: on each
// notification and after each connection to the database, the first included.
// Notifications that come together may be merged into one call. It uses a
// connection of its own, reconnects for ever with a growing pause, and returns
// the context's error when ctx ends. A notification is a hint that can be
// lost: poll Revisions too. notify must not block.
func (db *DB) Listen(ctx context.Context, notify func()) error {
	pause := relistenMin
	for {
		heard, err := db.listen(ctx, notify)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		db.count.unlistened.Add(1)
		if heard {
			pause = relistenMin
		}
		wait := pause/2 + rand.N(pause/2+1) //nolint:gosec // jitter
		db.log.LogAttrs(ctx, slog.LevelWarn, "listen lost", slog.Any("error", err), slog.Duration("retry_in", wait))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, relistenMax)
	}
}

// listen serves one connection until it breaks and reports whether it was
// ever good.
func (db *DB) listen(ctx context.Context, notify func()) (heard bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, db.direct.Copy())
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it may be broken already
	}()
	starting, cancel := context.WithTimeout(ctx, requestTimeout)
	_, err = conn.Exec(starting, "LISTEN "+channel)
	cancel()
	if err != nil {
		return false, err
	}
	for {
		// After LISTEN, not before: whatever is published from here on is heard.
		notify()
		if err := wait(ctx, conn); err != nil {
			return true, err
		}
	}
}

// wait returns when a notification has come. A connection that says nothing
// for long is asked whether it is still there.
func wait(ctx context.Context, conn *pgx.Conn) error {
	for {
		quiet, cancel := context.WithTimeout(ctx, listenCheck)
		_, err := conn.WaitForNotification(quiet)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return err
		}
		alive, cancel := context.WithTimeout(ctx, requestTimeout)
		err = conn.Ping(alive)
		cancel()
		if err != nil {
			return err
		}
	}
}

// hint is the sender of notifications. While one is sent and for hintInterval
// after it, any number of further ones become one: listeners look for what is
// new, however many times they are told to.
type hint struct {
	mu      sync.Mutex
	running bool
	again   bool
	sending sync.WaitGroup
}

func (h *hint) wait() { h.sending.Wait() }

// notify tells listeners, after a commit and outside its transaction, that
// there is something to look at.
func (db *DB) notify() {
	h := &db.hint
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running {
		h.again = true
		return
	}
	h.running = true
	h.sending.Go(db.sendHints)
}

// A hint has nothing to be durable, and a commit that waits for the disk or a
// standby would have the next change wait too.
const sendHint = `SELECT set_config('synchronous_commit', 'off', true), pg_notify(@channel, '')`

func (db *DB) sendHints() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		_, err := db.exec(Background(ctx), sendHint, pgx.StrictNamedArgs{"channel": channel})
		cancel()
		if err != nil {
			db.count.unhinted.Add(1)
			db.log.LogAttrs(ctx, slog.LevelWarn, "notification not sent", slog.Any("error", err))
		}
		<-time.After(hintInterval)
		db.hint.mu.Lock()
		if !db.hint.again {
			db.hint.running = false
			db.hint.mu.Unlock()
			return
		}
		db.hint.again = false
		db.hint.mu.Unlock()
	}
}
