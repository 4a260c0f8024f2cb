package notary_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guidon-flags/guidon/sdk/checkpoint"
	"github.com/guidon-flags/guidon/server/notary"
	"github.com/guidon-flags/guidon/store/storetest"
)

func TestNotaryAppendsToAFile(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	path := filepath.Join(t.TempDir(), "checkpoints")
	file, err := notary.NewFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, notary.Config{Store: db, Entries: 1, Interval: 10 * time.Millisecond, Publish: []notary.Destination{file}})
	content := func() string {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	newest := func() string {
		if c := n.Newest(t.Context(), "staging", 0); c != nil {
			return c.Note
		}
		return "none"
	}
	change(t, db, "a")
	storetest.Eventually(t, "the file has the first", func() bool { return strings.Contains(content(), newest()+"\n") })
	first := newest()
	change(t, db, "b")
	storetest.Eventually(t, "the file has the second too", func() bool { return first != newest() && strings.HasSuffix(content(), newest()+"\n") })
	if !strings.Contains(content(), first+"\n") {
		t.Error("the first was overwritten")
	}
	// Moved away, it begins anew; cut short, what was lost comes after a mark.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	change(t, db, "c")
	storetest.Eventually(t, "there is a new file", func() bool { return content() != "" && strings.HasSuffix(content(), newest()+"\n") })
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(content(), "\n\n")[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	change(t, db, "d")
	storetest.Eventually(t, "it goes on", func() bool { return strings.HasSuffix(content(), notary.CutShort+"\n"+newest()+"\n") })
	storetest.Eventually(t, "nothing waits any more", func() bool {
		s := n.Stats()
		return s.Published >= 4 && s.Waiting == 0
	})
}

func TestFileRefusesWhatItCannotAppendTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none", "file"), os.DevNull} {
		if f, err := notary.NewFile(path); err == nil {
			t.Errorf("NewFile(%q) = %v, want an error", path, f)
		}
	}
}

// receiver is an object store that goes wrong as it is told.
type receiver struct {
	mu      sync.Mutex
	mode    string
	seen    map[string]int    // calls by mode
	objects map[string]string // notes by path
	wrong   []string
	release chan struct{}
}

const token = "gdn-canary-of-the-token"

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.mu.Lock()
	mode := r.mode
	r.seen[mode]++
	if request.Method != http.MethodPut || request.Header.Get("Authorization") != "Bearer "+token || request.URL.Query().Get("signature") != "canary" {
		r.wrong = append(r.wrong, request.Method+" "+request.URL.String())
	}
	if mode == "ok" {
		r.objects[request.URL.Path] = string(body)
	}
	r.mu.Unlock()
	switch mode {
	case "fails":
		http.Error(w, "an answer that nobody needs to see: "+request.Header.Get("Authorization"), http.StatusInternalServerError)
	case "redirects":
		http.Redirect(w, request, "/elsewhere", http.StatusTemporaryRedirect)
	case "hangs":
		select {
		case <-request.Context().Done():
		case <-r.release:
		}
	case "drops":
		panic(http.ErrAbortHandler)
	}
}

func (r *receiver) set(mode string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = mode
}

func (r *receiver) calls(mode string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[mode]
}

func (r *receiver) object(path string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.objects[path]
}

func TestNotaryPublishesToWhatComesBack(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	to := &receiver{mode: "fails", seen: map[string]int{}, objects: map[string]string{}, release: make(chan struct{})}
	server := httptest.NewServer(to)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(to.release) })
	endpoint, err := notary.NewEndpoint(notary.EndpointConfig{
		URL: server.URL + "/anchors/{chain}/{size}?signature=canary", Token: token, Timeout: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	log := &storetest.Log{}
	n := run(t, notary.Config{
		Store: db, Log: slog.New(slog.NewJSONHandler(log, nil)), Entries: 1, Interval: 10 * time.Millisecond,
		Retry: time.Millisecond, Publish: []notary.Destination{endpoint},
	})
	changes := 0
	for _, mode := range []string{"fails", "redirects", "drops", "hangs"} {
		to.set(mode)
		changes++
		change(t, db, fmt.Sprintf("flag-%d", changes))
		storetest.Eventually(t, "the receiver "+mode+", twice", func() bool { return to.calls(mode) > 1 })
		// Signing waits for nobody.
		storetest.Eventually(t, "the change is signed", func() bool {
			c := n.Newest(t.Context(), "staging", 0)
			return c != nil && c.Size() == int64(changes)
		})
	}
	if s := n.Stats(); s.Published != 0 || s.PublishFailed < 6 || s.Waiting == 0 {
		t.Errorf("Stats() = %+v, want none published and some waiting", s)
	}
	to.set("ok")
	path := fmt.Sprintf("/anchors/environment/staging/%d", changes)
	storetest.Eventually(t, "the newest arrives", func() bool { return to.object(path) != "" })
	c := n.Newest(t.Context(), "staging", 0)
	if _, err := checkpoint.Open(to.object(path), c.Verifier); err != nil || to.object(path) != c.Note {
		t.Errorf("published %q, want %q: %v", to.object(path), c.Note, err)
	}
	storetest.Eventually(t, "that of the installation arrives", func() bool { return n.Stats().Waiting == 0 })
	if to.calls("elsewhere") > 0 || len(to.wrong) > 0 {
		t.Errorf("asked for %q", to.wrong)
	}
	storetest.Eventually(t, "the log says so", func() bool { return strings.Contains(log.String(), "audit checkpoints are published again") })
	if !strings.Contains(log.String(), "cannot publish audit checkpoints") {
		t.Error("the log does not say that it could not publish")
	}
	for _, secret := range []string{token, "canary", "nobody needs"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", endpoint, endpoint, endpoint, endpoint); strings.Contains(text, "canary") {
		t.Errorf("an endpoint prints as %s", text)
	}
}

func TestWebhookGetsAPost(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		got <- r.Method + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	t.Cleanup(server.Close)
	endpoint, err := notary.NewEndpoint(notary.EndpointConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := endpoint.Publish(t.Context(), notary.Publication{Size: 1, Note: "note"}); err != nil {
		t.Fatal(err)
	}
	if request := <-got; request != "POST text/plain; charset=utf-8 note" {
		t.Errorf("the webhook got %q", request)
	}
}

func TestEndpointRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, token, want string }{
		{"", "", "want http://"},
		{"ftp://host/", "", "want http://"},
		{"https:///path", "", "want http://"},
		{"https://user:secret@host/", "", "no place for a password"},
		{"https://host/#here", "", "fragment"},
		{"https://host/{environment}", "", "{chain} and {size}"},
		{"http://host/{size}", "token", "in the clear"},
		{"https://host/{size}", "to\nken", "no header can"},
		{"https://ho st/", "", "cannot be read"},
	} {
		_, err := notary.NewEndpoint(notary.EndpointConfig{URL: test.url, Token: test.token})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("NewEndpoint(%q): %v, want %q", test.url, err, test.want)
		}
	}
	for _, url := range []string{"http://127.0.0.1:1/{size}", "http://localhost/", "https://host/{chain}/{size}?a=b"} {
		if _, err := notary.NewEndpoint(notary.EndpointConfig{URL: url, Token: "token"}); err != nil {
			t.Errorf("NewEndpoint(%q): %v", url, err)
		}
	}
}
