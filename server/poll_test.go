package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// A poll answers what a stream would begin with: at once to who lacks
// something, else with the next revision.
func TestPollBringsWhatAStreamWould(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	first := g.apply(t, "staging", putFlag("staging", "a", "on"), putFlag("staging", "b", "on"))
	have := &guidonv1.SyncServiceSyncRequest{Client: &guidonv1.Client{Service: "cart", Instance: "x"}}
	poll := func(wait time.Duration) []*guidonv1.SyncServiceSyncResponse {
		t.Helper()
		res, err := g.syncs(key).GetDelta(t.Context(), &guidonv1.SyncServiceGetDeltaRequest{Have: have, Wait: durationpb.New(wait)})
		if err != nil {
			t.Fatal(err)
		}
		if hello := res.GetEvents()[0].GetHello(); hello.GetEnvironment() != "staging" || hello.GetPropagationKeys().GetSigner() == "" {
			t.Errorf("the first event is %v, want a hello of staging with keys", res.GetEvents()[0])
		}
		return res.GetEvents()[1:]
	}
	events := poll(time.Hour) // is held to what the server allows
	snapshot := events[0].GetSnapshot()
	if len(events) != 1 || snapshot.GetRevision() != first || !snapshot.GetLast() {
		t.Fatalf("the first poll brings %v, want a snapshot of revision %d", events, first)
	}
	have.HaveRevision, have.HaveDigest = first, snapshot.GetDigest()
	if events := poll(time.Nanosecond); len(events) != 0 {
		t.Errorf("a poll without news brings %v", events)
	}
	_, seen := g.seen(t)
	if seen != "staging 1/1" {
		t.Errorf("the fleet is %q, want the one that polls", seen)
	}
	revisions := make(chan int64, 1)
	go func() { revisions <- g.apply(t, "staging", putFlag("staging", "a", "off")) }()
	events = poll(20 * time.Second)
	if d := events[0].GetDelta(); d.GetFromRevision() != first || d.GetToRevision() != <-revisions {
		t.Errorf("the poll that waited brings %v", events)
	}
}

// TestRefusedStreamsAreToldWhen: who comes too fast gets a time to come back,
// in the error of a stream as of a poll.
func TestRefusedStreamsAreToldWhen(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server = server.Config{Store: o.server.Store, Log: o.server.Log, StreamRate: 1} })
	key := g.key(t, store.KeyServer, "staging")
	var refused *connect.Error
	for range 20 {
		stream, err := g.syncs(key).Sync(t.Context(), &guidonv1.SyncServiceSyncRequest{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Close() }()
		if !stream.Receive() {
			if e, ok := stream.Err().(*connect.Error); ok { //nolint:errorlint // nothing wraps it
				refused = e
			}
			break
		}
	}
	if refused == nil {
		t.Fatal("20 streams at once were let in by a server that takes one a second")
	}
	if after := refused.Meta().Get("Retry-After"); refused.Code() != connect.CodeUnavailable || strings.Trim(after, "0123456789") != "" || after == "" {
		t.Errorf("refused with %v and Retry-After %q, want unavailable and seconds", refused, after)
	}
}

// TestPollByETag: a poll is a GET that any HTTP client can make. What it holds it
// says by ETag, and nothing new is 304.
func TestPollByETag(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		key := g.key(t, store.KeyServer, "production")
		first := g.apply(t, "production", putFlag("production", "a", "on"))
		poll := func(wait, tag string) answer {
			t.Helper()
			query := url.Values{"encoding": {"json"}, "connect": {"v1"}, "message": {`{"wait":"` + wait + `"}`}}
			header := []string{"Authorization", "Bearer " + key}
			if tag != "" {
				header = append(header, "If-None-Match", tag)
			}
			return g.do(t, http.MethodGet, guidonv1connect.SyncServiceGetDeltaProcedure+"?"+query.Encode(), "", header...)
		}
		revision := func(a answer) int64 {
			t.Helper()
			res := &guidonv1.SyncServiceGetDeltaResponse{}
			if err := protojson.Unmarshal([]byte(a.body), res); err != nil || a.status != http.StatusOK {
				t.Fatalf("%d %s: %v", a.status, a.body, err)
			}
			return res.GetEvents()[1].GetSnapshot().GetRevision()
		}
		got := poll("25s", "")
		tag := got.header.Get("ETag")
		if at := revision(got); at != first || tag == "" || got.header.Get("Cache-Control") != "private, no-cache" || !strings.Contains(got.header.Get("Vary"), "Authorization") {
			t.Errorf("the first poll brings revision %d with %v, want %d", at, got.header, first)
		}
		if got := poll("0.001s", tag); got.status != http.StatusNotModified || got.body != "" || got.header.Get("ETag") != tag {
			t.Errorf("without news: %d %q %v, want 304", got.status, got.body, got.header)
		}
		if got := revision(poll("25s", `"of another time"`)); got != first {
			t.Errorf("with a tag that is not known: revision %d, want %d at once", got, first)
		}
		revisions := make(chan int64, 1)
		go func() { revisions <- g.apply(t, "production", putFlag("production", "a", "off")) }()
		for before := tag; ; before = got.header.Get("ETag") {
			got = poll("25s", before)
			if got.header.Get("ETag") == before {
				t.Fatalf("the poll that waited brings revision %d and the ETag that was known", revision(got))
			}
			if revision(got) != first { // or else keys, which are news too
				break
			}
		}
		if at, want := revision(got), <-revisions; at != want {
			t.Errorf("the poll that waited brings revision %d, want %d", at, want)
		}
		// A new key for headers is news too.
		tag = got.header.Get("ETag")
		rotate := &guidonv1.EnvironmentServiceRotatePropagationKeyRequest{Environment: "production", Reason: "a test"}
		if _, err := g.origin().environments(g.admin).RotatePropagationKey(t.Context(), rotate); err != nil {
			t.Fatal(err)
		}
		storetest.Eventually(t, "a new propagation key changes the tag", func() bool { return poll("0.5s", tag).header.Get("ETag") != tag })
		if got := g.do(t, http.MethodGet, guidonv1connect.SyncServiceGetDeltaProcedure+"?encoding=json&connect=v1&message=%7B%7D", ""); got.status != http.StatusUnauthorized {
			t.Errorf("without a key: %d", got.status)
		}
	})
}

// TestKnownRevision: an answer about a definition that has not been superseded
// says up to which revision that is known.
func TestKnownRevision(t *testing.T) {
	eachWay(t, func(t *testing.T, start func(...func(*options)) *guidon) {
		g := start()
		key := g.key(t, store.KeyServer, "production")
		first := g.apply(t, "production", putFlag("production", "a", "on"))
		var last int64
		for _, variant := range []string{"on", "off", "on"} {
			last = g.apply(t, "production", putFlag("production", "b", variant))
		}
		for _, c := range []struct {
			flag                string
			at, from, to, known int64
		}{
			{"a", first, first, 0, last},
			{"a", last, first, 0, last},
			{"b", first + 1, first + 1, first + 2, first + 1},
			{"b", last, last, 0, last},
			{"none", last, last, 0, last},
		} {
			d, err := g.syncs(key).GetDefinition(t.Context(), &guidonv1.SyncServiceGetDefinitionRequest{Key: c.flag, Revision: c.at})
			if err != nil || d.GetFromRevision() != c.from || d.GetToRevision() != c.to || d.GetKnownRevision() != c.known {
				t.Errorf("%s at %d: %v, %v; want from %d to %d, known until %d", c.flag, c.at, d, err, c.from, c.to, c.known)
			}
		}
	})
}
