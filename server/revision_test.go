package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

func TestRevisionIsImmutable(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	revision := g.apply(t, "staging", putFlag("staging", "a", "on"))
	digest := follow(t, g, key, revision)
	g.apply(t, "staging", putFlag("staging", "a", "off")) // is superseded

	path := fmt.Sprintf("/guidon/v1/environments/staging/revisions/%d", revision)
	got := g.do(t, http.MethodGet, path, "", "Authorization", "Bearer "+key, "Accept-Encoding", "gzip")
	if got.status != http.StatusOK {
		t.Fatalf("GET %s = %d %s", path, got.status, got.body)
	}
	for header, want := range map[string]string{
		"Cache-Control": "private, immutable, max-age=31536000", "Content-Encoding": "gzip", "Content-Type": "application/json",
		"Vary": "Authorization, X-API-Key, Accept-Encoding",
	} {
		if value := got.header.Get(header); value != want {
			t.Errorf("%s is %q, want %q", header, value, want)
		}
	}
	unzip, err := gzip.NewReader(strings.NewReader(got.body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatal(err)
	}
	// Who takes zstd gets it, who takes neither gets the text.
	small := g.do(t, http.MethodGet, path, "", "Authorization", "Bearer "+key, "Accept-Encoding", "gzip, deflate, br, zstd")
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	if plain, err := decoder.DecodeAll([]byte(small.body), nil); err != nil || !bytes.Equal(plain, text) || small.header.Get("Content-Encoding") != "zstd" {
		t.Errorf("zstd: %s, %v %s", plain, err, small.header.Get("Content-Encoding"))
	}
	plain := g.do(t, http.MethodGet, path, "", "Authorization", "Bearer "+key, "Accept-Encoding", "br")
	if plain.body != string(text) || plain.header.Get("Content-Encoding") != "" {
		t.Errorf("as it is: %s %v", plain.body, plain.header)
	}
	tags := map[string]bool{got.header.Get("ETag"): true, small.header.Get("ETag"): true, plain.header.Get("ETag"): true}
	if len(tags) != 3 {
		t.Errorf("what differs has one ETag: %v", tags)
	}
	var export struct {
		Environment, Digest string
		Revision            int64
		Rows                []struct {
			Kind, Name string
			From       int64 `json:"from_revision"`
			Document   json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &export); err != nil {
		t.Fatal(err)
	}
	var rows []eval.Row
	for _, r := range export.Rows {
		kind, err := eval.ParseKind(r.Kind)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, eval.Row{Kind: kind, Name: r.Name, From: r.From, Document: r.Document})
	}
	snapshot, err := eval.Compile(export.Revision, rows)
	if err != nil {
		t.Fatal(err)
	}
	if export.Environment != "staging" || export.Revision != revision || export.Digest != digest || snapshot.Digest().String() != digest {
		t.Errorf("the export is %s at %d with digest %s, want staging at %d with %s", export.Environment, export.Revision, export.Digest, revision, digest)
	}
	again := g.do(t, http.MethodGet, path, "", "X-API-Key", key, "Accept-Encoding", "gzip", "If-None-Match", "W/"+got.header.Get("ETag"))
	if again.status != http.StatusNotModified || again.body != "" {
		t.Errorf("with If-None-Match: %d %q, want 304", again.status, again.body)
	}
}

// follow returns the digest of a revision that an SDK gets.
func follow(t testing.TB, g *guidon, key string, revision int64) string {
	t.Helper()
	f := g.follow(t, key, nil)
	defer f.close()
	f.reach(revision)
	return f.snapshot.Digest().String()
}

func TestRevisionIsRefused(t *testing.T) {
	t.Parallel()
	g := start(t)
	key := g.key(t, store.KeyServer, "staging")
	own := []string{"Authorization", "Bearer " + key}
	for name, tt := range map[string]struct {
		path   string
		header []string
		want   int
	}{
		"no key":              {"staging/revisions/1", nil, http.StatusUnauthorized},
		"another environment": {"production/revisions/1", own, http.StatusForbidden},
		"nowhere":             {"nowhere/revisions/1", own, http.StatusForbidden},
		"nowhere, to admin":   {"nowhere/revisions/1", []string{"Authorization", "Bearer " + g.admin}, http.StatusNotFound},
		"of the future":       {"staging/revisions/999", own, http.StatusNotFound},
		"zero":                {"staging/revisions/0", own, http.StatusBadRequest},
		"not canonical":       {"staging/revisions/01", own, http.StatusBadRequest},
		"not a number":        {"staging/revisions/newest", own, http.StatusBadRequest},
		"nothing at all":      {"staging/revisions/1", append([]string{"Accept-Encoding", "gzip;q=0, zstd;q=0, identity;q=0"}, own...), http.StatusBadRequest},
		"good":                {"staging/revisions/1", append([]string{"Accept-Encoding", "br, *;q=0.5"}, own...), http.StatusOK},
	} {
		got := g.do(t, http.MethodGet, "/guidon/v1/environments/"+tt.path, "", tt.header...)
		if got.status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, tt.want)
		}
		if got.status != http.StatusOK && got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: an error may be cached: %q", name, got.header.Get("Cache-Control"))
		}
	}
}
