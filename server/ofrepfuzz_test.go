package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store"
)

// FuzzOFREPRequest: whatever a body and headers hold, the answer is JSON or
// empty, and never the server's fault.
func FuzzOFREPRequest(f *testing.F) {
	g := start(f)
	g.apply(f, "production", putFlag("production", "plain", "on"), func() *guidonv1.Operation {
		o := putPlan("production", "targeted", "pro")
		o.GetPutFlag().Scope = "local"
		return o
	}())
	key := g.key(f, store.KeyServer, "production")
	handler := server.New(server.Config{Store: g.db, Hub: g.hub})
	f.Add("targeted", []byte(`{"context":{"targetingKey":"ada","plan":"pro"}}`), "flagSetId=default", `"x"`, "1;c=", "flagConfigEtag=r1")
	f.Add("a/b", []byte(`{"context":[]}`), "=", "*", "", "flagConfigLastModified=1")
	f.Add("", []byte("{\"\xff\":\"\\ud800\"}"), "a,b", "W/", "\x01", "%zz")
	f.Fuzz(func(t *testing.T, flag string, body []byte, selector, tag, guidon, query string) {
		if strings.Contains(query, "flagConfig") {
			query = "" // it may wait for a second
		}
		for _, path := range []string{ofrepSingle + "x", ofrepBulk} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
			if path != ofrepBulk {
				r.URL.Path = ofrepSingle + flag
			}
			r.URL.RawQuery = query
			r.Header = http.Header{
				"X-Api-Key": {key}, "Flagd-Selector": {selector}, "If-None-Match": {tag}, "Guidon": {guidon},
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %q = %d %s", path, body, w.Code, w.Body)
			}
			if text := w.Body.Bytes(); w.Header().Get("Content-Type") == "application/json" && !json.Valid(text) {
				t.Errorf("%s %q = %s", path, body, text)
			}
		}
	})
}
