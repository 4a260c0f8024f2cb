package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestPublic: what needs no key, and all of it.
func TestPublic(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) {
		o.server.Admin = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "the UI at "+r.URL.Path)
		})
	})
	for _, tt := range []struct {
		path   string
		status int
		says   string
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 200, "ready"},
		{"/metrics", 200, "guidon_build_info"},
		{"/admin/flags/a", 200, "the UI at /admin/flags/a"},
		{"/nothing", 404, ""},
		{"/guidon.v1.NoService/List", 404, ""},
	} {
		if a := g.do(t, http.MethodGet, tt.path, ""); a.status != tt.status || !strings.Contains(a.body, tt.says) {
			t.Errorf("GET %s: %d %.200q, want %d with %q", tt.path, a.status, a.body, tt.status, tt.says)
		}
	}
	if a := g.do(t, http.MethodGet, "/", ""); a.status != http.StatusFound || a.header.Get("Location") != "/admin/" {
		t.Errorf("GET /: %d to %q, want 302 to /admin/", a.status, a.header.Get("Location"))
	}
	if a := g.do(t, http.MethodPost, "/healthz", "{}"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST /healthz: %d, want 405", a.status)
	}
}

func TestGRPCHealth(t *testing.T) {
	t.Parallel()
	g := start(t)
	r := g.relay(t)
	knows := func(g *guidon, service, want string) {
		t.Helper()
		a := g.post(t, "/"+grpchealth.HealthV1ServiceName+"/Check", "", `{"service":"`+service+`"}`)
		if !strings.Contains(a.body, want) {
			t.Errorf("Check(%q): %d %s, want %s", service, a.status, a.body, want)
		}
	}
	const serving, unknown = "SERVING_STATUS_SERVING", "not_found"
	for _, service := range []string{"", syncv1connect.FlagSyncServiceName} {
		knows(g, service, serving)
		knows(r, service, serving)
	}
	knows(g, "guidon.v1.NoService", unknown)
	for _, call := range rpcs() {
		service := strings.Split(call.procedure, "/")[1]
		knows(g, service, serving)
		switch service { // a relay serves what needs no database
		case guidonv1connect.EvaluationServiceName, guidonv1connect.FleetServiceName, guidonv1connect.SyncServiceName:
			knows(r, service, serving)
		default:
			knows(r, service, unknown)
		}
	}
}

// TestIdentity: each answer says by which IDs the call is known, taken from
// the caller where they are well formed.
func TestIdentity(t *testing.T) {
	t.Parallel()
	g := start(t)
	made := regexp.MustCompile(`^[0-9a-f]{12}7[0-9a-f]{19}$`)
	const id, other = "0123456789abcdef-REQ_1", "order.4711"
	for name, tt := range map[string]struct {
		header               []string
		request, correlation string // "" for one that was made
	}{
		"none":                {nil, "", ""},
		"both":                {[]string{"X-Request-Id", id, "X-Correlation-ID", id + "2"}, id, id + "2"},
		"request only":        {[]string{"X-Request-Id", id}, id, id},
		"correlation only":    {[]string{"X-Correlation-ID", id}, "", id},
		"too short":           {[]string{"X-Correlation-ID", "short"}, "", ""},
		"too long":            {[]string{"X-Correlation-ID", strings.Repeat("a", 65)}, "", ""},
		"another alphabet":    {[]string{"X-Correlation-ID", "0123456789abcdef " + other}, "", ""},
		"with quotes":         {[]string{"X-Request-Id", `0123456789abcdef"`}, "", ""},
		"another, not quoted": {[]string{"X-Request-Id", "0123456789abcdefé"}, "", ""},
	} {
		a := g.post(t, evaluatePath, g.admin, `{"environment":"staging","key":"a"}`, tt.header...)
		for header, want := range map[string]string{"X-Request-Id": tt.request, "X-Correlation-ID": tt.correlation} {
			if got := a.header.Get(header); got != want && (want != "" || !made.MatchString(got)) {
				t.Errorf("%s: %s is %q, want %q or a new one", name, header, got, want)
			}
		}
	}
	if a := g.post(t, evaluatePath, "", `{}`); a.header.Get("X-Request-Id") == "" {
		t.Error("a refused call has no request ID")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	g := start(t)
	revision := g.apply(t, "staging", putFlag("staging", "a", "on"))
	f := g.follow(t, g.key(t, store.KeyServer, "staging"), nil)
	f.reach(revision)
	g.post(t, evaluatePath, g.admin, `{"environment":"staging","key":"a"}`)
	g.post(t, evaluatePath, "", `{}`)
	g.post(t, evaluatePath, g.admin, `{`)
	g.post(t, "/guidon.v1.FlagService/"+strings.Repeat("x", 50), g.admin, `{}`)
	text := g.do(t, http.MethodGet, "/metrics", "").body
	for _, want := range []string{
		`guidon_rpc_total{code="ok",procedure="/guidon.v1.EvaluationService/Evaluate"} 1`,
		`guidon_rpc_total{code="unauthenticated",procedure="/guidon.v1.EvaluationService/Evaluate"} 1`,
		`guidon_rpc_total{code="invalid_argument",procedure="/guidon.v1.EvaluationService/Evaluate"} 1`,
		`guidon_rpc_total{code="unimplemented",procedure="unknown"} 1`,
		`guidon_rpc_seconds_count{procedure="/guidon.v1.ChangeService/Apply"} 1`,
		`guidon_environment_revision{environment="staging"} 2`,
		`guidon_environment_flags{environment="staging"} 1`,
		`guidon_environment_age_seconds{environment="staging"} `,
		`guidon_sync_streams{environment="staging"} 1`,
		`guidon_build_info{version="devel"} 1`,
		`guidon_hub_looks_total{result="ok"} `,
		`guidon_hub_looks_total{result="failed"} 0`,
		`guidon_hub_history_total{result="memory"} 0`,
		`guidon_database_groups_total 1`,
		`guidon_database_waiting 0`,
		`guidon_database_retries_total 0`,
		`guidon_database_connections{pool="write"} 0`,
		`guidon_database_connections_max{pool="job"} `,
		`go_goroutines `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(text, "xxxx") {
		t.Error("a path that a caller made up is a label")
	}
}

// TestOpenEnvironment: without a key one environment can be read, and nothing
// written.
func TestOpenEnvironment(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.OpenEnvironment = "development" })
	g.apply(t, "development", putFlag("development", "a", "on"))
	before := g.mark(t)
	for _, tt := range []struct{ path, body, code string }{
		{evaluatePath, `{"key":"a"}`, ""},
		{evaluatePath, `{"key":"a","environment":"production"}`, "permission_denied"},
		{applyPath, `{"operations":[{"setState":{"environment":"development","key":"a","state":"DISABLED"}}]}`, "permission_denied"},
		{"/guidon.v1.KeyService/Create", `{"kind":"admin","name":"x"}`, "permission_denied"},
	} {
		if a := g.post(t, tt.path, "", tt.body); a.code() != tt.code {
			t.Errorf("POST %s %s without a key: %d %s, want %q", tt.path, tt.body, a.status, a.body, tt.code)
		}
	}
	if a := g.post(t, evaluatePath, g.admin[:len(g.admin)-1]+"!", `{"key":"a"}`); a.code() != "unauthenticated" {
		t.Errorf("with a wrong key: %d %s, want unauthenticated", a.status, a.body)
	}
	g.unchanged(t, before)
}

// TestWritesAreReadHere: who writes on a replica reads what was written there.
func TestWritesAreReadHere(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging", putFlag("staging", "a", "on"))
	for i := range 20 {
		state := []string{"DISABLED", "ENABLED"}[i%2]
		revision := g.apply(t, "staging", setState("staging", "a", state))
		res, err := g.flags(g.admin).Get(t.Context(), &guidonv1.FlagServiceGetRequest{Environment: "staging", Key: "a"})
		if err != nil || res.GetFlag().GetState() != state || res.GetFlag().GetRevision() != revision {
			t.Fatalf("after revision %d: %v, %v, want %s", revision, res, err, state)
		}
	}
}

// TestGRPC: writing and reading over gRPC and h2c, errors with their details.
func TestGRPC(t *testing.T) {
	t.Parallel()
	g := start(t)
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: h2c}}
	t.Cleanup(client.CloseIdleConnections)
	changes := guidonv1connect.NewChangeServiceClient(client, g.url, connect.WithGRPC(), withKey(g.admin))
	res, err := changes.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{putFlag("staging", "a", "on")}})
	if err != nil || res.GetRevisions()["staging"] != 2 {
		t.Fatalf("Apply = %v, %v, want revision 2", res, err)
	}
	_, err = changes.Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{
		Operations: []*guidonv1.Operation{setState("staging", "a", "DISABLED")}, ExpectedRevisions: map[string]int64{"staging": 1},
	})
	if connect.CodeOf(err) != connect.CodeAborted || detail[*guidonv1.Conflict](t, err).GetRevision() != 2 {
		t.Errorf("at a stale revision: %v, want aborted, at revision 2", err)
	}
	_, err = guidonv1connect.NewChangeServiceClient(client, g.url, connect.WithGRPC()).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{})
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("without a key: %v, want unauthenticated", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	g := start(t)
	a := g.post(t, evaluatePath, g.admin, `{"environment":"staging","key":"a"}`, "X-Large", strings.Repeat("x", 64<<10))
	if a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d, want 431", a.status)
	}
}

// TestBeforeTheFirstLook: a server that knows nothing yet says so, and not that
// there is nothing; a change follows the rules of the database all the same.
func TestBeforeTheFirstLook(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	s := server.New(server.Config{Store: db, Hub: hub.New(hub.Config{Store: db})})
	key := (&guidon{db: db}).key(t, store.KeyAdmin, "")
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"/guidon.v1.FlagService/List", `{}`, 503},
		{"/guidon.v1.FlagService/List", `{"environment":"staging"}`, 503},
		{"/guidon.v1.EnvironmentService/List", `{}`, 503},
		{evaluatePath, `{"environment":"staging","key":"a"}`, 503},
		{applyPath, `{"operations":[{"setState":{"environment":"production","key":"a","state":"ENABLED"}}]}`, 400},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+key)
		if s.ServeHTTP(w, r); w.Code != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.path, tt.body, w.Code, w.Body, tt.status)
		}
	}
}

// TestEveryRequestHasDeadlines: who sends or reads slowly holds nothing for
// ever, with a key or without. Sync sets its own; see TestStalledClientIsCut.
func TestEveryRequestHasDeadlines(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	s := server.New(server.Config{Store: db, Hub: hub.New(hub.Config{Store: db})})
	paths := []string{"/", "/healthz", "/readyz", "/metrics", "/admin/", "/nowhere", "/grpc.health.v1.Health/Check"}
	for _, r := range rpcs() {
		paths = append(paths, r.procedure)
	}
	for _, path := range paths {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, nil))
		if w.read.IsZero() || w.write.IsZero() {
			t.Errorf("%s: read by %v, written by %v, want both bounded", path, w.read, w.write)
		}
	}
}

// deadlines notes the deadlines that a handler sets.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.read = at
	return nil
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.write = at
	return nil
}
