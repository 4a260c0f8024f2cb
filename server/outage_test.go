package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// wire stands between a server and its Postgres, and can be cut, or hang.
type wire struct {
	t      testing.TB
	target string // the socket of Postgres
	dir    string // of our own
	mu     sync.Mutex
	l      net.Listener
	conns  []net.Conn
	wg     sync.WaitGroup
	hung   atomic.Bool
}

// newWire returns a wire that is whole, and the URL of the test's database over
// it.
func newWire(t testing.TB) (*wire, string) {
	t.Helper()
	u, err := url.Parse(storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	socket := ".s.PGSQL." + query.Get("port")
	w := &wire{t: t, target: filepath.Join(query.Get("host"), socket), dir: filepath.Join(t.TempDir(), socket)}
	query.Set("host", filepath.Dir(w.dir))
	u.RawQuery = query.Encode()
	w.mend()
	t.Cleanup(w.cut)
	return w, u.String()
}

func (w *wire) mend() {
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.l = l
	w.wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := new(net.Dialer).DialContext(context.Background(), "unix", w.target)
			if err != nil {
				_ = from.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, from, to)
			w.mu.Unlock()
			for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
				w.wg.Go(func() {
					_, _ = io.Copy(hanging{pair[0], &w.hung}, pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
}

// hang makes both ends hear nothing of each other any more, as if the other had
// stopped in the middle of its work.
func (w *wire) hang() { w.hung.Store(true) }

// hanging swallows what is written to it while it hangs.
type hanging struct {
	net.Conn
	hung *atomic.Bool
}

func (h hanging) Write(b []byte) (int, error) {
	if h.hung.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// cut ends all connections and refuses new ones.
func (w *wire) cut() {
	_ = w.l.Close()
	w.mu.Lock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
	w.mu.Unlock()
	w.wg.Wait()
}

func open(t testing.TB, config store.Config) *store.DB {
	t.Helper()
	config.MasterKey = storetest.MasterKey
	db, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// TestPostgresAway: what needs no database goes on without one, what needs it
// says so, and all is well when it is back.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	w, url := newWire(t)
	g := startOn(t, open(t, store.Config{DatabaseURL: url}), func(o *options) {
		o.server.Heartbeat = 20 * time.Millisecond
		o.hub.PollInterval = 20 * time.Millisecond
		o.hub.StaleAfter = 200 * time.Millisecond
	})
	key := g.key(t, store.KeyServer, "staging")
	revision := g.apply(t, "staging", putFlag("staging", "a", "on"))
	f := g.follow(t, key, nil)
	f.reach(revision)
	evaluate := func() (*guidonv1.EvaluationServiceEvaluateResponse, error) {
		return g.evaluations(key).Evaluate(t.Context(), &guidonv1.EvaluationServiceEvaluateRequest{Key: "a"})
	}
	if _, err := evaluate(); err != nil {
		t.Fatal(err)
	}

	w.cut()
	storetest.Eventually(t, "it is not ready", func() bool {
		return g.do(t, http.MethodGet, "/readyz", "").status == http.StatusServiceUnavailable
	})
	ready := g.do(t, http.MethodGet, "/readyz", "").body
	if !strings.Contains(ready, "last known to be the newest") || !strings.Contains(ready, "database unavailable") || strings.Contains(ready, "PGSQL") {
		t.Errorf("/readyz says %q, want which environment is stale and that the database is away, and no more", ready)
	}
	if a := g.do(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("/healthz: %d, want 200: restarting would help nobody", a.status)
	}
	if res, err := evaluate(); err != nil || res.GetResolution().GetVariant() != "on" {
		t.Errorf("Evaluate = %v, %v, want variant on", res, err)
	}
	fresh := g.follow(t, key, nil)
	fresh.reach(revision)
	for beats := f.heartbeats; f.heartbeats < beats+3; {
		f.step()
	}
	flags := guidonv1connect.NewFlagServiceClient(http.DefaultClient, g.url, withKey(key))
	if list, err := flags.List(t.Context(), &guidonv1.FlagServiceListRequest{}); err != nil || len(list.GetFlags()) != 1 {
		t.Errorf("List = %v, %v, want the flag", list, err)
	}
	if got, err := flags.Get(t.Context(), &guidonv1.FlagServiceGetRequest{Key: "a"}); err != nil || got.GetFlag().GetState() != "ENABLED" {
		t.Errorf("Get = %v, %v, want the flag", got, err)
	}
	// The admin key was used before, so that it is still known to be good.
	_, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
		Operations: []*guidonv1.Operation{setState("staging", "a", "DISABLED")},
	})
	if connect.CodeOf(err) != connect.CodeUnavailable || strings.Contains(err.Error(), "PGSQL") || !strings.Contains(err.Error(), "idempotency key") {
		t.Errorf("Apply: %v, want unavailable without the driver's words, and how to go on", err)
	}
	if a := g.post(t, "/guidon.v1.AuditService/List", g.admin, "{}"); a.code() != "unavailable" || strings.Contains(a.body, "idempotency") {
		t.Errorf("AuditService.List: %d %s, want unavailable, and nothing of changes", a.status, a.body)
	}

	w.mend()
	storetest.Eventually(t, "it is ready again", func() bool {
		return g.do(t, http.MethodGet, "/readyz", "").status == http.StatusOK
	})
	next := g.apply(t, "staging", setState("staging", "a", "DISABLED"))
	f.reach(next)
	if f.snapshots != 1 || f.snapshot.Flag("a").State() != "DISABLED" {
		t.Errorf("the stream that was open got %d snapshots and ended at state %s, want 1, DISABLED", f.snapshots, f.snapshot.Flag("a").State())
	}
}

// TestNotificationsDead: a change made elsewhere arrives by the poll alone.
func TestNotificationsDead(t *testing.T) {
	t.Parallel()
	w, direct := newWire(t)
	w.cut()
	g := startOn(t, open(t, store.Config{DatabaseURL: storetest.URL(t), DirectURL: direct}), func(o *options) {
		o.hub.PollInterval = 10 * time.Millisecond
	})
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(1)
	for i := range 5 {
		revision := applyElsewhere(t, g.db, i)
		f.reach(revision)
	}
}

// TestNotified: with a poll that never comes, a change made elsewhere arrives
// by the notification.
func TestNotified(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) {
		o.hub.PollInterval = time.Hour
		o.hub.StaleAfter = 2 * time.Hour
	})
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(1)
	for i := range 5 {
		f.reach(applyElsewhere(t, g.db, i))
	}
}

// applyElsewhere makes a change as another replica would: this one's hub is
// not told.
func applyElsewhere(t testing.TB, db *store.DB, i int) int64 {
	t.Helper()
	applied, err := db.Apply(t.Context(), store.ChangeSet{Actor: "elsewhere", Operations: []store.Operation{store.PutFlag{
		Environment: "staging", Key: "a",
		Definition: []byte(`{"state":"` + []string{"ENABLED", "DISABLED"}[i%2] + `","variants":{"on":true},"defaultVariant":"on"}`),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return applied.Revisions["staging"]
}
