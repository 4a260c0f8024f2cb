//go:build failpoint

package store

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A program built with the tag failpoint does what GUIDON_FAILPOINT says the
// n-th time it comes to a point: "after-lock=exit@3". cmd/torture sets it.
// Points: before-lock, after-lock, after-audit, commit-sent,
// committed-not-acked, acked-not-notified; and those of other packages, see
// [Failpoint]. Actions: exit, panic, stall, error.
var armed = func() func(point string) error {
	point, rest, ok := strings.Cut(os.Getenv("GUIDON_FAILPOINT"), "=")
	action, times, counted := strings.Cut(rest, "@")
	n, err := strconv.ParseInt(times, 10, 64)
	if !ok || !counted || err != nil {
		return func(string) error { return nil }
	}
	var hits atomic.Int64
	return func(at string) error {
		if at != point || hits.Add(1) != n {
			return nil
		}
		fmt.Fprintln(os.Stderr, "failpoint", point, action) // what torture waits for
		switch action {
		case "exit":
			os.Exit(137)
		case "panic":
			panic("failpoint " + point)
		case "stall":
			time.Sleep(3 * time.Second)
		case "error":
			return driver(fmt.Errorf("failpoint %s: %w", point, syscall.ECONNRESET))
		}
		return nil
	}
}()

func failpoint(point string) error { return armed(point) }

// Failpoint is for the packages that deliver what was written: the hub has
// notified-not-broadcast, streams have mid-stream.
func Failpoint(point string) error { return armed(point) }

// commit sends what is queued, and COMMIT with it, but for what the failpoints
// do. For after-audit and commit-sent it sends COMMIT by itself; at commit-sent
// Postgres has it and nobody waits for its answer.
func commit(ctx context.Context, conn *pgx.Conn, b *pgx.Batch) error {
	point, _, _ := strings.Cut(os.Getenv("GUIDON_FAILPOINT"), "=")
	if b.Len() > 0 && (point == "after-audit" || point == "commit-sent") {
		if err := conn.SendBatch(ctx, b).Close(); err != nil {
			return driver(err)
		}
		b = &pgx.Batch{}
		if err := failpoint("after-audit"); err != nil {
			return err
		}
	}
	if point == "commit-sent" {
		return commitSent(ctx, conn.PgConn())
	}
	queueCommit(b)
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		return driver(err)
	}
	return failpoint("committed-not-acked")
}

func commitSent(ctx context.Context, conn *pgconn.PgConn) error {
	conn.Frontend().SendQuery(&pgproto3.Query{String: "COMMIT"})
	if err := conn.Frontend().Flush(); err != nil {
		return driver(err)
	}
	if err := failpoint("commit-sent"); err != nil {
		_ = conn.Conn().Close() // its answer is lost
		return err
	}
	var refused error
	for {
		answer, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return driver(err)
		}
		if failed, ok := answer.(*pgproto3.ErrorResponse); ok {
			return driver(fmt.Errorf("commit: %s", failed.Message))
		}
		if done, ok := answer.(*pgproto3.CommandComplete); ok {
			refused = committed(string(done.CommandTag))
		}
		if _, ok := answer.(*pgproto3.ReadyForQuery); ok {
			return driver(refused)
		}
	}
}
