package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// TestReadyOnlyWhileReplicated: a server that requires a standby says so while
// the database does not wait for one.
func TestReadyOnlyWhileReplicated(t *testing.T) {
	t.Parallel()
	db, end := storetest.Replicated(t)
	s := server.New(server.Config{Store: db, Hub: start(t).hub})
	ready := func() (int, string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w.Code, w.Body.String()
	}
	storetest.Eventually(t, "the server is ready", func() bool { code, _ := ready(); return code == http.StatusOK })
	end()
	storetest.Eventually(t, "a change is refused", func() bool {
		_, err := db.Apply(t.Context(), store.ChangeSet{Actor: "ada", Operations: []store.Operation{
			store.PutFlag{Environment: "staging", Key: "a", Definition: []byte(`{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}`)},
		}})
		return errors.Is(err, store.ErrNotReplicated)
	})
	code, says := ready()
	if code != http.StatusServiceUnavailable || says != "not ready: "+store.ErrNotReplicated.Error()+": synchronous_standby_names is empty\n" {
		t.Errorf("/readyz = %d %q, want 503 and why", code, says)
	}
}
