package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// A guidonServer is a real one, on a real database, with the shop's flags in
// development.
type guidonServer struct {
	url, admin, key string
}

func startGuidon(t *testing.T) guidonServer {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	db := storetest.New(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := hub.New(hub.Config{Store: db, Log: log})
	s := server.New(server.Config{Store: db, Hub: h, Log: log, Drain: time.Millisecond})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.Run(ctx) })
	g.Go(func() error { return s.Serve(ctx, listener) })
	t.Cleanup(func() {
		cancel()
		_ = g.Wait() // it ends because it was told to
	})
	key := func(kind store.KeyKind, environment string) string {
		_, text, err := db.CreateKey(t.Context(), store.NewKey{Kind: kind, Environment: environment, Name: t.Name(), Actor: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return text.Reveal()
	}
	storetest.Eventually(t, "guidon is ready", func() bool { return h.Ready() == nil })
	gs := guidonServer{localURL(listener.Addr()), key(store.KeyAdmin, ""), key(store.KeyServer, "development")}
	gs.load(t)
	return gs
}

// load puts flags.json into development, as an import does.
func (g guidonServer) load(t *testing.T) {
	t.Helper()
	changes := guidonv1connect.NewChangeServiceClient(&http.Client{Transport: bearer{g.admin, http.DefaultTransport}}, g.url, connect.WithProtoJSON())
	document := readFlags(t)
	req := &guidonv1.ChangeServiceApplyRequest{Reason: "test"}
	for name, condition := range document.Evaluators {
		v := &structpb.Value{}
		if err := v.UnmarshalJSON(condition); err != nil {
			t.Fatal(err)
		}
		req.Operations = append(req.Operations, &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{
			PutSegment: &guidonv1.PutSegment{Environment: "development", Name: name, Condition: v},
		}})
	}
	for _, f := range document.Flags {
		definition := &structpb.Struct{}
		if err := definition.UnmarshalJSON(f.Definition); err != nil {
			t.Fatal(err)
		}
		req.Operations = append(req.Operations, &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{
			PutFlag: &guidonv1.PutFlag{Environment: "development", Key: f.Key, Definition: definition},
		}})
	}
	if _, err := changes.Apply(t.Context(), req); err != nil {
		t.Fatalf("import of flags.json: %v", err)
	}
}

func readFlags(t *testing.T) eval.Document {
	t.Helper()
	data, err := os.ReadFile("flags.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := eval.ParseDocument(data)
	if err != nil {
		t.Fatalf("flags.json: %v", err)
	}
	return document
}

// A shopProcess is the program as started from a command line.
type shopProcess struct {
	URL      string            `json:"url"`
	Services map[string]string `json:"services"`
	out      *storetest.Log
	file     string // the ready file
	stop     func() int
}

// startShop runs the program and waits until it says that it is ready.
func startShop(t *testing.T, guidon, key string, flags ...string) *shopProcess {
	t.Helper()
	p := &shopProcess{out: &storetest.Log{}, file: filepath.Join(t.TempDir(), "ready.json")}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	go func() {
		args := append([]string{"--guidon", guidon, "--key", key, "--listen", "127.0.0.1:0", "--ready-file", p.file}, flags...)
		ended <- run(ctx, p.out, p.out, args...)
	}()
	p.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() {
		if code := p.stop(); code != 0 {
			t.Errorf("the shop ended with code %d:\n%s", code, p.out)
		}
	})
	storetest.Eventually(t, "the shop is open", func() bool {
		data, err := os.ReadFile(p.file)
		if err != nil {
			return false
		}
		// Written whole: what can be opened can be read.
		if err := json.Unmarshal(data, p); err != nil {
			t.Fatalf("ready file %q: %v", data, err)
		}
		return true
	})
	return p
}

// stats reads /stats.
func (p *shopProcess) stats(t *testing.T) Stats {
	t.Helper()
	var s Stats
	get(t, p.URL+"/stats", http.StatusOK, &s)
	return s
}

// get asks for JSON.
func get(t *testing.T, url string, status int, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, req, status, into)
}

func do(t *testing.T, req *http.Request, status int, into any) http.Header {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d:\n%s", req.Method, req.URL, res.Status, status, &body)
	}
	if text, ok := into.(*string); ok {
		*text = body.String()
	} else if err := json.Unmarshal(body.Bytes(), into); err != nil {
		t.Fatalf("%s %s: %v:\n%s", req.Method, req.URL, err, &body)
	}
	return res.Header
}
