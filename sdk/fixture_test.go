package guidon_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
)

const serverKey = "gdn_server_4fzzwX0000testtesttest"

// TestMain gives the examples a Guidon to talk to, where the environment says.
func TestMain(m *testing.M) {
	s := newServer()
	s.put(boolean("checkout.new-pricing", true), object("cart.limits", `{"small":{"items":50}}`, "small"))
	if err := s.listen("127.0.0.1:0"); err != nil {
		panic(err)
	}
	below, closeBelow := pricing(s.url())
	for name, value := range map[string]string{"GUIDON_URL": s.url(), "GUIDON_KEY": serverKey, "PRICING_URL": below.URL} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	closeBelow()
	s.kill()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// The Postgres of the round trip lives as long as the process.
	err := goleak.Find(goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"),
		goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"), goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"))
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is Guidon as an SDK sees it: one environment's revisions behind the
// SyncService, on a real listener that can be killed and come back.
type server struct {
	guidonv1connect.UnimplementedSyncServiceHandler

	mu       sync.Mutex
	rows     [][]eval.Row // of each revision, from 0 on
	changed  chan struct{}
	keys     *guidonv1.PropagationKeys
	beat     time.Duration
	sabotage func(*guidonv1.SyncServiceSyncResponse) // changes what is sent
	seen     []string                                // protocol, authorization and client of each stream

	http    *http.Server
	address string
	served  sync.WaitGroup
}

func newServer() *server {
	return &server{
		rows: [][]eval.Row{nil}, changed: make(chan struct{}), beat: 15 * time.Second,
		keys: &guidonv1.PropagationKeys{Signer: "k1", Keys: []*guidonv1.PropagationKey{{Id: "k1", Secret: []byte("0123456789abcdef0123456789abcdef")}}},
	}
}

// startServer is a server at revision 1 that ends with the test.
func startServer(t testing.TB, rows ...eval.Row) *server {
	t.Helper()
	s := newServer()
	s.put(rows...)
	s.start(t)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	if err := s.listen(cmp.Or(s.address, "127.0.0.1:0")); err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(s.kill)
}

func (s *server) listen(address string) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(guidonv1connect.NewSyncServiceHandler(s))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{Handler: s.authenticated(mux), Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
	s.served.Go(func() { _ = s.http.Serve(listener) })
	return nil
}

func (s *server) url() string { return "http://" + s.address }

// kill cuts every connection and frees the port, as the end of a process does.
func (s *server) kill() {
	_ = s.http.Close()
	s.served.Wait()
}

func (s *server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Proto+" "+r.URL.Path)
		s.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+serverKey {
			http.Error(w, "no such key", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// put makes the next revision out of the newest and those rows.
func (s *server) put(rows ...eval.Row) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.Clone(s.rows[len(s.rows)-1])
	for _, row := range rows {
		row.From = int64(len(s.rows))
		next = slices.DeleteFunc(next, func(r eval.Row) bool { return r.Kind == row.Kind && r.Name == row.Name })
		next = append(next, row)
	}
	s.rows = append(s.rows, next)
	close(s.changed)
	s.changed = make(chan struct{})
	return int64(len(s.rows)) - 1
}

func (s *server) newest() (int64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.rows)) - 1, s.changed
}

func (s *server) at(revision int64) []eval.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[revision]
}

func (s *server) Sync(ctx context.Context, request *guidonv1.SyncServiceSyncRequest, stream *connect.ServerStream[guidonv1.SyncServiceSyncResponse]) error {
	held := request.GetHaveRevision()
	newest, changed := s.newest()
	hello := &guidonv1.Hello{Environment: "production", Revision: newest, HeartbeatInterval: durationpb.New(s.beat), PropagationKeys: s.keys}
	if err := stream.Send(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Hello{Hello: hello}}); err != nil {
		return err
	}
	if held == 0 || request.GetHaveDigest() != s.digest(held) {
		if err := s.sendSnapshot(stream, newest); err != nil {
			return err
		}
		held = newest
	}
	for {
		event := &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Heartbeat{Heartbeat: &guidonv1.Heartbeat{Revision: newest}}}
		if newest > held {
			event = s.delta(held, newest)
			held = newest
		}
		if err := s.send(stream, event); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(s.beat):
		case <-ctx.Done():
			return ctx.Err()
		}
		newest, changed = s.newest()
	}
}

// spoil changes what is sent from now on; nil no longer does.
func (s *server) spoil(sabotage func(*guidonv1.SyncServiceSyncResponse)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sabotage = sabotage
}

func (s *server) send(stream *connect.ServerStream[guidonv1.SyncServiceSyncResponse], event *guidonv1.SyncServiceSyncResponse) error {
	s.mu.Lock()
	sabotage := s.sabotage
	s.mu.Unlock()
	if sabotage != nil {
		sabotage(event)
	}
	return stream.Send(event)
}

func (s *server) sendSnapshot(stream *connect.ServerStream[guidonv1.SyncServiceSyncResponse], revision int64) error {
	payload := marshal(&guidonv1.Rows{Upserts: wire(s.at(revision))})
	half := len(payload) / 2
	for i, part := range [][]byte{payload[:half], payload[half:]} {
		chunk := &guidonv1.SnapshotChunk{Revision: revision, Digest: s.digest(revision), Encoding: "identity", Payload: part, Last: i == 1}
		if err := s.send(stream, &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Snapshot{Snapshot: chunk}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) delta(from, to int64) *guidonv1.SyncServiceSyncResponse {
	newer := slices.DeleteFunc(slices.Clone(s.at(to)), func(r eval.Row) bool { return r.From <= from })
	return &guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_Delta{Delta: &guidonv1.Delta{
		FromRevision: from, ToRevision: to, Digest: s.digest(to), Encoding: "identity", Payload: marshal(&guidonv1.Rows{Upserts: wire(newer)}),
	}}}
}

func (s *server) digest(revision int64) string {
	snapshot, err := eval.Compile(revision, s.at(revision))
	if err != nil {
		panic(err)
	}
	return snapshot.Digest().String()
}

func (s *server) GetDefinition(_ context.Context, request *guidonv1.SyncServiceGetDefinitionRequest) (*guidonv1.SyncServiceGetDefinitionResponse, error) {
	if newest, _ := s.newest(); request.GetRevision() > newest {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("no such revision yet"))
	}
	for _, row := range s.at(request.GetRevision()) {
		if row.Kind == eval.KindFlag && row.Name == request.GetKey() {
			return &guidonv1.SyncServiceGetDefinitionResponse{Rows: wire([]eval.Row{row}), FromRevision: row.From, ToRevision: request.GetRevision() + 1}, nil
		}
	}
	return &guidonv1.SyncServiceGetDefinitionResponse{FromRevision: request.GetRevision(), ToRevision: request.GetRevision() + 1}, nil
}

func wire(rows []eval.Row) []*guidonv1.Row {
	sent := make([]*guidonv1.Row, 0, len(rows))
	for _, row := range rows {
		sent = append(sent, &guidonv1.Row{Kind: row.Kind.String(), Name: row.Name, FromRevision: row.From, Document: row.Document})
	}
	return sent
}

func marshal(rows *guidonv1.Rows) []byte {
	payload, err := proto.Marshal(rows)
	if err != nil {
		panic(err)
	}
	return payload
}

// typed is a flag's row: variants as JSON, and which of them is the default.
func typed(key, kind, variants, variant string) eval.Row {
	if variant != "" {
		variant = fmt.Sprintf(`"defaultVariant":%q,`, variant)
	}
	document, err := eval.Canonical(fmt.Appendf(nil,
		`{"flag":{%s"metadata":{"team":"shop"},"state":"ENABLED","variants":%s},"guidon":{"kind":"release","project":"shop","scope":"request","type":%q}}`,
		variant, variants, kind))
	if err != nil {
		panic(err)
	}
	return eval.Row{Kind: eval.KindFlag, Name: key, Document: document}
}

func boolean(key string, on bool) eval.Row {
	return typed(key, "boolean", `{"off":false,"on":true}`, map[bool]string{false: "off", true: "on"}[on])
}

// open is a client of s that ends with the test.
func open(t testing.TB, s *server, opts ...guidon.Option) *guidon.Client {
	t.Helper()
	client, err := guidon.Open(t.Context(), s.url(), append([]guidon.Option{guidon.WithKey(serverKey)}, opts...)...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return client
}

// ready is a client that has flags.
func ready(t testing.TB, s *server, opts ...guidon.Option) *guidon.Client {
	t.Helper()
	client := open(t, s, opts...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.WaitReady(ctx); err != nil {
		t.Fatalf("WaitReady: %v", err)
	}
	return client
}

// patience is how long a test waits for what must happen sooner or later.
const patience = 30 * time.Second

// held is a source whose stream stops at a revision until it is let go on: a
// service that lags. Definitions are asked of the server as ever.
type held struct {
	feed.Source
	after int64
	gate  chan struct{}
}

func (h held) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		for event, err := range h.Source.Sync(ctx, have) {
			if delta := event.GetDelta(); delta != nil && delta.GetToRevision() > h.after {
				select {
				case <-h.gate:
				case <-ctx.Done():
				}
			}
			if !yield(event, err) {
				return
			}
		}
	}
}
