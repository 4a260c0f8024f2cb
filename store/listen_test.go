package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// listen runs Listen until the test ends and returns what it calls.
func listen(t *testing.T, db *store.DB) <-chan struct{} {
	t.Helper()
	heard := make(chan struct{}, 1) // a wake-up carries no data: further ones merge
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- db.Listen(ctx, func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Listen: %v, want %v", err, context.Canceled)
		}
	})
	return heard
}

func wait(t *testing.T, heard <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-heard:
	case <-time.After(30 * time.Second):
		t.Fatalf("not heard in 30s: %s", what)
	}
}

func TestListenHearsEveryBurstOfChanges(t *testing.T) {
	t.Parallel()
	db, other := storetest.New(t), storetest.New(t) // two replicas on one database
	heard := listen(t, other)
	wait(t, heard, "the connection")
	for i := range 5 {
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
		// A hint may be that of the change before: look until it is there.
		for {
			wait(t, heard, fmt.Sprintf("change %d", i))
			revisions, err := other.Revisions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if revisions["staging"] == int64(i+2) {
				break
			}
		}
	}
}

func TestListenReconnects(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	heard := listen(t, db)
	wait(t, heard, "the connection")
	for range 3 {
		sql(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN guidon' AND datname = current_database()`)
		wait(t, heard, "the reconnection")
		apply(t, db, store.PutSegment{Environment: "staging", Name: "s", Condition: []byte(fmt.Sprintf(`{"==":[1,%d]}`, time.Now().UnixNano()%1e9))})
		wait(t, heard, "a change after the reconnection")
	}
	if got := db.Stats().Unlistened; got < 3 {
		t.Errorf("%d lost listeners were counted, want 3 or more", got)
	}
}

func TestWhatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	_, err := store.Open(t.Context(), store.Config{DatabaseURL: "postgres://nobody@127.0.0.1:1/none?sslmode=disable"})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Open of nothing: %v, want ErrUnavailable", err)
	}
	if _, err := store.Open(t.Context(), store.Config{DatabaseURL: "postgres://me:secret@[::"}); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Open of a bad URL: %v, want another error", err)
	}
}

func TestTerminatedConnectionsCostNoChange(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for i := range 20 {
		if i%2 == 0 {
			sql(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		}
		apply(t, db, put("staging", fmt.Sprintf("flag-%d", i), onOff))
	}
	if got, want := state(t, db, "staging"), (written{21, 20, 20}); got != want {
		t.Errorf("staging = %+v, want %+v", got, want)
	}
	storetest.Eventually(t, "no read is at work", func() bool { return db.Stats().Reads == 0 }) // a dead connection is given up a moment later
	if s := db.Stats(); s.Retries == 0 || s.Lost == 0 || s.Writes > s.MaxWrites {
		t.Errorf("Stats = %+v, want retries and lost connections", s)
	}
}
