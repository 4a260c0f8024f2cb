package guidon_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestOpenRefusesWrongOptions(t *testing.T) {
	t.Parallel()
	key := guidon.WithKey(serverKey)
	cases := map[string]struct {
		url  string
		opts []guidon.Option
		want string
	}{
		"no url":           {"", []guidon.Option{key}, `url ""`},
		"no scheme":        {"guidon.example.com", []guidon.Option{key}, "https://host"},
		"another scheme":   {"ftp://guidon.example.com", []guidon.Option{key}, "https://host"},
		"no host":          {"https://", []guidon.Option{key}, "https://host"},
		"not a url":        {"http://a b", []guidon.Option{key}, "invalid character"},
		"a password":       {"https://me:secret@guidon.example.com", []guidon.Option{key}, "xxxxx"},
		"a query":          {"https://guidon.example.com?a=b", []guidon.Option{key}, "more than a host"},
		"empty key":        {"https://guidon.example.com", []guidon.Option{guidon.WithKey("")}, "key is empty"},
		"not a key":        {"https://guidon.example.com", []guidon.Option{guidon.WithKey("secret-hunter2")}, "gdn_server_"},
		"another kind":     {"https://guidon.example.com", []guidon.Option{guidon.WithKey("gdn_admin_hunter2")}, "not a server key"},
		"a client timeout": {"https://guidon.example.com", []guidon.Option{key, guidon.WithHTTPClient(&http.Client{Timeout: time.Second})}, "timeout"},
		"a destination":    {"https://guidon.example.com", []guidon.Option{key, guidon.WithDestinations("http://x")}, "destination"},
		"a bag's":          {"https://guidon.example.com", []guidon.Option{key, guidon.WithBaggage("http://x")}, "Baggage"},
		"a mode":           {"https://guidon.example.com", []guidon.Option{key, guidon.WithMode(99)}, "mode"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := guidon.Open(t.Context(), c.url, c.opts...)
			if client != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Open = %v, %v, want an error with %q", client, err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "secret@") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestOpenReturnsAtOnceWithoutAServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client, err := guidon.Open(ctx, "http://127.0.0.1:1", guidon.WithKey(serverKey))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	cancel() // the end of its context is not the end of the client
	storetest.Eventually(t, "an error in the status", func() bool { return client.Status().LastError != "" })
	if got := client.Status(); got.State != feed.StateConnecting || client.Snapshot() != nil {
		t.Errorf("Status() = %+v, want connecting", got)
	}
	if err := client.WaitReady(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitReady: %v, want the context's error", err)
	}
	for range 2 {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := client.WaitReady(t.Context()); !errors.Is(err, feed.ErrEnded) {
		t.Errorf("WaitReady after Close: %v, want ErrEnded", err)
	}
}

func TestFlagsArriveOverBothHTTPs(t *testing.T) {
	t.Parallel()
	unencrypted2 := new(http.Protocols)
	unencrypted2.SetUnencryptedHTTP2(true)
	h2c := &http.Transport{Protocols: unencrypted2}
	t.Cleanup(h2c.CloseIdleConnections)
	cases := map[string]struct {
		opts  []guidon.Option
		proto string
	}{
		"HTTP/1.1": {nil, "HTTP/1.1"},
		"h2c":      {[]guidon.Option{guidon.WithHTTPClient(&http.Client{Transport: h2c})}, "HTTP/2.0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, boolean("checkout", false), boolean("search", true))
			client := ready(t, s, c.opts...)
			if got := client.Status(); !got.Connected || got.Environment != "production" || got.Revision != 1 {
				t.Errorf("Status() = %+v", got)
			}
			for range 5 {
				newest := s.put(boolean("checkout", true))
				storetest.Eventually(t, "the newest revision", func() bool { return client.Snapshot().Revision() == newest })
			}
			flag, err := client.Propagator().Evaluate(t.Context(), "checkout", 0, nil).Boolean()
			if !flag || !err {
				t.Error("checkout is off at the newest revision")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Contains(s.seen, c.proto+" /guidon.v1.SyncService/Sync") {
				t.Errorf("the server saw %q, want Sync over %s", s.seen, c.proto)
			}
		})
	}
}

func TestWrongKeyIsRetriedAndSaid(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	var log storetest.Log
	client := open(t, s, guidon.WithKey("gdn_server_another"), guidon.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	attempts := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.seen)
	}
	storetest.Eventually(t, "three attempts", func() bool { return attempts() >= 3 })
	if got := client.Status(); !strings.Contains(got.LastError, "unauthenticated") {
		t.Errorf("LastError = %q, want unauthenticated", got.LastError)
	}
	if got := log.String(); strings.Contains(got, "another") {
		t.Errorf("the log shows the key:\n%s", got)
	}
	if got := fmt.Sprintf("%v %+v %#v", client, client, client); strings.Contains(got, "another") {
		t.Errorf("the client prints its key: %s", got)
	}
}

func TestKeysSignHeaders(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	client := ready(t, s)
	carried := http.Header{}
	client.Propagator().Inject(client.Propagator().Root(t.Context(), nil), propagate.HTTPCarrier(carried))
	header, err := propagate.Decode(carried.Get("Guidon"))
	if err != nil || header.KeyID != "k1" || header.Environment != "production" || header.Revision != 1 {
		t.Errorf("Decode(%q) = %+v, %v, want it signed by k1 at revision 1 of production", carried.Get("Guidon"), header, err)
	}
}

func TestBadKeysLeaveTheOldOnes(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	var log storetest.Log
	short := []*guidonv1.PropagationKeys{
		{Signer: "k2", Keys: []*guidonv1.PropagationKey{{Id: "k2", Secret: []byte("too short")}}},
		{Signer: "k3", Keys: []*guidonv1.PropagationKey{{Id: "k2", Secret: []byte("0123456789abcdef0123456789abcdef")}}},
	}
	client := ready(t, s, guidon.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), guidon.WithSource(func(src feed.Source) feed.Source {
		return interjected{src, short}
	}))
	newest := s.put(boolean("checkout", false))
	storetest.Eventually(t, "the newest revision", func() bool { return client.Snapshot().Revision() == newest })
	carried := http.Header{}
	client.Propagator().Inject(client.Propagator().Root(t.Context(), nil), propagate.HTTPCarrier(carried))
	if header, err := propagate.Decode(carried.Get("Guidon")); err != nil || header.KeyID != "k1" {
		t.Errorf("Decode = %+v, %v, want it signed by k1 still", header, err)
	}
	if got := log.String(); strings.Count(got, "propagation keys refused") != 2 || strings.Contains(got, "too short") {
		t.Errorf("the log should say twice that keys were refused, without the secret:\n%s", got)
	}
}

func TestLogSaysEachKindOfEventOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, boolean("checkout", true))
	var log storetest.Log
	client := ready(t, s, guidon.WithMode(propagate.Internal), guidon.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	handler := client.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for range 50 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Guidon", `1;c="forged"`)
		handler.ServeHTTP(discard{}, request)
		client.Propagator().Evaluate(t.Context(), "checkout", 0, nil)
	}
	got := log.String()
	for _, event := range []string{"event=header_refused", "event=no_state flag=checkout"} {
		if strings.Count(got, event) != 1 {
			t.Errorf("the log has %d lines with %s, want 1:\n%s", strings.Count(got, event), event, got)
		}
	}
	if strings.Contains(got, "forged") {
		t.Errorf("the log shows the header:\n%s", got)
	}
}

// interjected adds propagation keys before each delta.
type interjected struct {
	feed.Source
	keys []*guidonv1.PropagationKeys
}

func (i interjected) Sync(ctx context.Context, have *guidonv1.SyncServiceSyncRequest) iter.Seq2[*guidonv1.SyncServiceSyncResponse, error] {
	return func(yield func(*guidonv1.SyncServiceSyncResponse, error) bool) {
		for event, err := range i.Source.Sync(ctx, have) {
			for _, keys := range i.keys {
				if event.GetDelta() != nil && !yield(&guidonv1.SyncServiceSyncResponse{Event: &guidonv1.SyncServiceSyncResponse_PropagationKeys{PropagationKeys: keys}}, nil) {
					return
				}
			}
			if !yield(event, err) {
				return
			}
		}
	}
}

// discard is a response that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
