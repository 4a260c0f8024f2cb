package server_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestMain(m *testing.M) {
	// The cluster that all tests share lives as long as the process.
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's
	goleak.VerifyTestMain(m,
		// A toxic that is taken away in the middle of a write stays there.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
		goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"))
}

// guidon is a running server, and what a test needs to talk to it.
type guidon struct {
	db    *store.DB
	hub   *hub.Hub
	url   string
	admin string // the text of an admin key
	stop  func() // ends the server and waits; it may be called early

	// upstream and verify are those of a relay; see eachWay.
	upstream *guidon
	verify   func(context.Context, string) (store.Key, error)
}

// options are what a test may run a server with.
type options struct {
	server server.Config
	hub    hub.Config
	listen net.ListenConfig
	// outermost says that it is what clients reach; see eachWay.
	outermost bool
}

// start runs a server on a database of its own until the end of the test.
func start(t testing.TB, adjust ...func(*options)) *guidon {
	t.Helper()
	return startOn(t, storetest.New(t), adjust...)
}

func startOn(t testing.TB, db *store.DB, adjust ...func(*options)) *guidon {
	t.Helper()
	// Whatever someone must act on shows up in the test's output.
	quiet := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	o := options{server: server.Config{Store: db, Log: quiet}, hub: hub.Config{Store: db, Log: quiet}}
	for _, f := range adjust {
		f(&o)
	}
	g := &guidon{db: db}
	g.admin = g.key(t, store.KeyAdmin, "")
	g.run(t, o)
	return g
}

// run serves until the end of the test, with what runs beside.
func (g *guidon) run(t testing.TB, o options, beside ...func(context.Context) error) {
	t.Helper()
	g.hub = hub.New(o.hub)
	o.server.Hub = g.hub
	l, err := o.listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	if o.server.Fleet == nil {
		o.server.Fleet = fleet.New(fleet.Config{Store: g.db, Log: o.server.Log, Interval: 50 * time.Millisecond})
	}
	beside = append(beside, g.hub.Run)
	if g.upstream == nil {
		beside = append(beside, o.server.Fleet.Run)
	}
	done := make(chan error, len(beside)+1)
	for _, f := range beside {
		go func() { _ = f(ctx); done <- nil }()
	}
	go func() { done <- server.New(o.server).Serve(ctx, l) }()
	stopped := false
	g.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(g.stop)
	storetest.Eventually(t, "the hub is ready", func() bool { return g.hub.Ready() == nil })
}

// key makes an API key and returns its text.
func (g *guidon) key(t testing.TB, kind store.KeyKind, environment string) string {
	t.Helper()
	_, text := g.create(t, store.NewKey{Kind: kind, Environment: environment, Name: "test"})
	return text
}

// create makes an API key and returns its ID and text.
func (g *guidon) create(t testing.TB, k store.NewKey) (id, text string) {
	t.Helper()
	k.Actor = "test"
	made, secret, err := g.db.CreateKey(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	g.knows(t, secret.Reveal())
	return made.ID, secret.Reveal()
}

// withKey is a client option that sends a key with each call.
func withKey(text string) connect.ClientOption {
	return connect.WithInterceptors(auth.Bearer(text))
}

func (g *guidon) changes(key string) guidonv1connect.ChangeServiceClient {
	return guidonv1connect.NewChangeServiceClient(http.DefaultClient, g.origin().url, withKey(key))
}

func (g *guidon) evaluations(key string, options ...connect.ClientOption) guidonv1connect.EvaluationServiceClient {
	return guidonv1connect.NewEvaluationServiceClient(http.DefaultClient, g.url, append(options, withKey(key))...)
}

// apply carries out operations and returns the new revision of environment.
func (g *guidon) apply(t testing.TB, environment string, operations ...*guidonv1.Operation) int64 {
	t.Helper()
	res, err := g.changes(g.admin).Apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{Operations: operations, Reason: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	g.reached(t, environment, res.GetRevisions()[environment])
	return res.GetRevisions()[environment]
}

// putFlag is an operation that puts a boolean flag with two variants.
func putFlag(environment, key, defaultVariant string) *guidonv1.Operation {
	return putDefinition(environment, key, map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": defaultVariant,
	})
}

func putDefinition(environment, key string, definition map[string]any) *guidonv1.Operation {
	s, err := structpb.NewStruct(definition)
	if err != nil {
		panic(err)
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
		Environment: environment, Key: key, Definition: s,
	}}}
}

func setState(environment, key, state string) *guidonv1.Operation {
	return &guidonv1.Operation{Operation: &guidonv1.Operation_SetState{SetState: &guidonv1.SetState{
		Environment: environment, Key: key, State: state,
	}}}
}

// mark is what no refused request may change: the revisions of all
// environments and the number of audit entries.
type mark struct {
	revisions map[string]int64
	entries   int
}

func (g *guidon) mark(t testing.TB) mark {
	t.Helper()
	revisions, err := g.db.Revisions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := mark{revisions: revisions}
	for token := ""; ; {
		entries, next, err := g.db.Audit(t.Context(), store.AuditFilter{}, store.Page{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		m.entries += len(entries)
		if token = next; token == "" {
			return m
		}
	}
}

// answer is a plain HTTP answer, as curl would show it.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the Connect code in the body of an error.
func (a answer) code() string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &e)
	return e.Code
}

// post sends JSON as curl would.
func (g *guidon) post(t testing.TB, path, key, body string, header ...string) answer {
	t.Helper()
	headers := append([]string{"Content-Type", "application/json"}, header...)
	if key != "" {
		headers = append(headers, "Authorization", "Bearer "+key)
	}
	return g.do(t, http.MethodPost, path, body, headers...)
}

func (g *guidon) do(t testing.TB, method, path, body string, header ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := noRedirects.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

var noRedirects = &http.Client{
	Transport:     http.DefaultTransport,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
