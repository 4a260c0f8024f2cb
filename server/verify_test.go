package server_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store/storetest"
)

// A server verifies two chains at a time and says so to whoever asks for a third;
// a client that goes away leaves its place to others.
func TestVerifyHasTwoPlaces(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `LOCK TABLE audit_entries IN ACCESS EXCLUSIVE MODE`) // whoever verifies waits here
	}
	if err != nil {
		t.Fatal(err)
	}
	client := guidonv1connect.NewAuditServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	verify := func(ctx context.Context) error {
		_, err := client.Verify(ctx, &guidonv1.AuditServiceVerifyRequest{Environment: "staging"})
		return err
	}
	third := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return verify(ctx)
	}
	busy, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan struct{})
	for range 2 {
		go func() {
			for busy.Err() == nil { // until it has a place, and when it had to wait too long there
				_ = verify(busy)
			}
			left <- struct{}{}
		}()
	}
	storetest.Eventually(t, "a third is refused", func() bool {
		err := third()
		return connect.CodeOf(err) == connect.CodeResourceExhausted && strings.Contains(err.Error(), "verifies 2 chains already")
	})
	leave()
	<-left
	<-left
	storetest.Eventually(t, "there is a place, though nobody was done", func() bool {
		return connect.CodeOf(third()) == connect.CodeDeadlineExceeded
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "it verifies", func() bool { return verify(t.Context()) == nil })
}

// deadlined is an answer that notes until when its connection is good.
type deadlined struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlined) SetReadDeadline(t time.Time) error {
	d.read = t
	return nil
}

func (d *deadlined) SetWriteDeadline(t time.Time) error {
	d.write = t
	return nil
}

// What cuts off other calls after half a minute cuts off no verification whose
// client waits longer: neither its reads, by which it would notice that the client
// is gone and cancel, nor its answer.
func TestVerifyMayTakeLong(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	s := server.New(server.Config{Store: g.db, Hub: g.hub})
	ask := func(procedure string) *deadlined {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, procedure, bytes.NewReader([]byte(`{"environment":"staging"}`)))
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Authorization": "Bearer " + g.admin, "Connect-Timeout-Ms": "1200000",
		} {
			request.Header.Set(name, value)
		}
		d := &deadlined{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(d, request)
		if d.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", procedure, d.Code, d.Body)
		}
		return d
	}
	asked := time.Now().Add(20 * time.Minute)
	if d := ask(guidonv1connect.AuditServiceVerifyProcedure); d.write.Before(asked) || !d.read.IsZero() || !strings.Contains(d.Body.String(), `"outcome":"ok"`) {
		t.Errorf("Verify has until %v to answer and %v to read, want no earlier than %v: %s", d.write, d.read, asked, d.Body)
	}
	if d := ask(guidonv1connect.AuditServiceListProcedure); d.write.After(asked) || d.read.After(asked) {
		t.Errorf("List has until %v to answer, as long as it asked", d.write)
	}
}
