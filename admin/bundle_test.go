package admin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/guidon-flags/guidon/admin"
)

const page = "<!doctype html><title>Guidon</title>"

func bundle() fstest.MapFS {
	return fstest.MapFS{
		"index.html":             {Data: []byte(page)},
		"guidon.svg":             {Data: []byte("<svg/>")},
		"assets/main-1a2b.js":    {Data: []byte("plain")},
		"assets/main-1a2b.js.gz": {Data: []byte("gzipped")},
		"assets/main-1a2b.js.br": {Data: []byte("brotli")},
		"assets/main-3c4d.css":   {Data: []byte("body{}")},
	}
}

func get(t *testing.T, h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	return do(t, h, http.MethodGet, path, header...)
}

func do(t *testing.T, h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFiles(t *testing.T) {
	t.Parallel()
	h := admin.HandlerFor(bundle())
	const immutable = "public, max-age=31536000, immutable"
	for _, tt := range []struct {
		path             string
		status           int
		body, typ, cache string
	}{
		{"/admin/", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/index.html", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/flags", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/flags/checkout.new-pricing", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/flags/looks-like.js", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/../secret", 200, page, "text/html; charset=utf-8", "no-cache"},
		{"/admin/guidon.svg", 200, "<svg/>", "image/svg+xml", "no-cache"},
		{"/admin/assets/main-1a2b.js", 200, "plain", "text/javascript; charset=utf-8", immutable},
		{"/admin/assets/main-3c4d.css", 200, "body{}", "text/css; charset=utf-8", immutable},
		{"/admin/assets/old.js", 404, "no such asset\n", "text/plain; charset=utf-8", ""},
		{"/admin/assets/main-1a2b.js.br", 404, "no such asset\n", "text/plain; charset=utf-8", ""},
	} {
		w := get(t, h, tt.path)
		if w.Code != tt.status || w.Body.String() != tt.body {
			t.Errorf("GET %s = %d %q, want %d %q", tt.path, w.Code, w.Body, tt.status, tt.body)
		}
		if got := w.Header().Get("Content-Type"); got != tt.typ {
			t.Errorf("GET %s: Content-Type %q, want %q", tt.path, got, tt.typ)
		}
		if got := w.Header().Get("Cache-Control"); got != tt.cache {
			t.Errorf("GET %s: Cache-Control %q, want %q", tt.path, got, tt.cache)
		}
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	h := admin.HandlerFor(bundle())
	for _, tt := range []struct{ accept, encoding, body string }{
		{"", "", "plain"},
		{"gzip, deflate, br, zstd", "br", "brotli"},
		{"gzip", "gzip", "gzipped"},
		{"br;q=0, gzip;q=0.5", "gzip", "gzipped"},
		{"zstd", "", "plain"},
	} {
		w := get(t, h, "/admin/assets/main-1a2b.js", "Accept-Encoding", tt.accept)
		if got := w.Header().Get("Content-Encoding"); got != tt.encoding || w.Body.String() != tt.body {
			t.Errorf("Accept-Encoding %q: %q %q, want %q %q", tt.accept, got, w.Body, tt.encoding, tt.body)
		}
		if got := w.Header().Get("Vary"); got != "Accept-Encoding" {
			t.Errorf("Vary %q, want Accept-Encoding", got)
		}
	}
}

func TestETag(t *testing.T) {
	t.Parallel()
	h := admin.HandlerFor(bundle())
	path := "/admin/assets/main-1a2b.js"
	plain, brotli := get(t, h, path), get(t, h, path, "Accept-Encoding", "br")
	tag := brotli.Header().Get("ETag")
	if tag == "" || tag == plain.Header().Get("ETag") {
		t.Fatalf("ETags %q and %q, want one for each encoding", tag, plain.Header().Get("ETag"))
	}
	if w := get(t, h, path, "Accept-Encoding", "br", "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("same ETag: %d with %d bytes, want 304 and none", w.Code, w.Body.Len())
	}
	if w := get(t, h, path, "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("ETag of another encoding: %d, want 200", w.Code)
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := admin.HandlerFor(bundle())
	if w := do(t, h, http.MethodHead, "/admin/"); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d with %d bytes, want 200 and none", w.Code, w.Body.Len())
	}
	if w := do(t, h, http.MethodPost, "/admin/"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, Allow %q, want 405, GET, HEAD", w.Code, w.Header().Get("Allow"))
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.Handler{"built": admin.HandlerFor(bundle()), "unbuilt": admin.HandlerFor(fstest.MapFS{})} {
		w := get(t, h, "/admin/")
		policy := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'self'; style-src 'self' 'unsafe-inline'") || strings.Contains(policy, "script-src") {
			t.Errorf("%s: Content-Security-Policy %q", name, policy)
		}
		if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q, want nosniff", name, got)
		}
	}
}

func TestWithoutBundle(t *testing.T) {
	t.Parallel()
	h := admin.HandlerFor(fstest.MapFS{"README.txt": {Data: []byte("no bundle")}})
	for _, path := range []string{"/admin/", "/admin/flags", "/admin/README.txt"} {
		w := get(t, h, path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("GET %s: %d %s, want 200 HTML", path, w.Code, w.Header().Get("Content-Type"))
		}
		if body := w.Body.String(); !strings.Contains(body, "make admin") || strings.Contains(body, "<script") {
			t.Errorf("GET %s: does not say how to build, or has a script:\n%s", path, body)
		}
	}
}

// TestEmbedded holds for a tree with a bundle and for one without: both answer
// with a page.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	w := get(t, admin.Handler(), "/admin/")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Guidon") {
		t.Errorf("GET /admin/: %d %q, want a page of Guidon", w.Code, w.Body)
	}
}
