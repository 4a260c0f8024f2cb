package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	sdk "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/store/storetest"
)

// page is OPERATIONS.md by its headings.
type page map[string]string

func operations(t *testing.T) page {
	t.Helper()
	text, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	p, heading := page{}, ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(title)
		}
		p[heading] += line
	}
	return p
}

// step is the command of a section that begins so, as it stands there: a line of
// a block, or between backticks.
func (p page) step(t *testing.T, heading, begins string) string {
	t.Helper()
	for line := range strings.Lines(p[heading]) {
		if strings.HasPrefix(line, begins) {
			return strings.TrimSpace(line)
		}
		if _, found, ok := strings.Cut(line, "`"+begins); ok {
			found, _, _ = strings.Cut(found, "`")
			return begins + found
		}
	}
	t.Fatalf("OPERATIONS.md: under %q nothing begins with %q", heading, begins)
	return ""
}

// operator follows the page in a directory, with a database and a master key.
type operator struct {
	page page
	dir  string
	env  []string
}

// do runs a command as a shell would.
func (o *operator) do(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-euc", command)
	cmd.Dir, cmd.Env = o.dir, append(os.Environ(), o.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// serve starts a replica at an address and returns its URL.
func (o *operator) serve(t *testing.T, listen string) (*process, string) {
	t.Helper()
	p := start(t, "serve", "--listen", listen, "--database-url", strings.TrimPrefix(o.env[0], "GUIDON_DATABASE_URL="),
		"--master-key-file", strings.TrimPrefix(o.env[1], "GUIDON_MASTER_KEY_FILE="))
	return p, p.servingURL(t)
}

// database makes an empty database and returns its URL.
func database(t *testing.T, among, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), among)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(among, "/guidon?", "/"+name+"?", 1)
}

// TestOperationsFollowed follows the page: an installation is set up, backed up, lost and
// restored, and its replicas replaced, with a service connected all the while.
func TestOperationsFollowed(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	readyFile := filepath.Join(dir, "ready.json")
	postgres := start(t, "dev", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--ready-file", readyFile).ready(t, readyFile).DatabaseURL
	o := &operator{page: operations(t), dir: dir, env: []string{
		"GUIDON_DATABASE_URL=" + database(t, postgres, "lost"), "GUIDON_MASTER_KEY_FILE=" + filepath.Join(dir, "master.key"),
	}}
	// Another machine, where the cluster has none of the installation's roles.
	elsewhereReady := filepath.Join(dir, "elsewhere.json")
	standby := start(t, "dev", "--data", filepath.Join(dir, "elsewhere"), "--listen", "127.0.0.1:0", "--ready-file", elsewhereReady).ready(t, elsewhereReady).DatabaseURL
	const setup = "Running Guidon"
	if err := os.WriteFile(filepath.Join(dir, "master.key"), []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.do(t, o.page.step(t, setup, "guidon migrate up"))
	o.do(t, o.page.step(t, setup, "guidon migrate roles"))
	var admin, server struct{ Text string }
	parse := func(out string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	parse(o.do(t, o.page.step(t, setup, "guidon key create")+" --output json"), &admin)
	replica, url := o.serve(t, "127.0.0.1:0")
	o.env = append(o.env, "GUIDON_URL="+url, "GUIDON_KEY="+admin.Text)
	listen := strings.TrimPrefix(url, "http://")
	awaitStatus(t, url+"/readyz", http.StatusOK)
	o.do(t, "guidon health --ready && guidon health")
	parse(o.do(t, "guidon key create --kind server --environment development --name cart --output json"), &server)
	if err := os.WriteFile(filepath.Join(dir, "flags.json"), []byte(pricing), 0o600); err != nil {
		t.Fatal(err)
	}
	o.do(t, "guidon import --environment development flags.json")
	kept := o.do(t, "guidon flag get pricing --environment development --output json")

	o.do(t, o.page.step(t, "Backup", "pg_dump"))
	// What comes now will be lost: a service has it, and a request is pinned to it.
	o.do(t, "guidon flag disable pricing --environment development && guidon flag enable pricing --environment development && guidon flag disable pricing --environment development")
	service, err := sdk.Open(t.Context(), url, sdk.WithKey(server.Text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	storetest.Eventually(t, "the service to have its flags", func() bool { return service.Snapshot() != nil })
	lost := service.Snapshot().Revision()
	status, header := post(t, url+"/guidon/v1/state", server.Text, "", `{}`)
	var rooted struct{ Header string }
	parse(header, &rooted)
	if status != http.StatusOK || rooted.Header == "" {
		t.Fatalf("state: %d %s", status, header)
	}

	replica.stop(t) // Restore, step 1
	o.env[0] = "GUIDON_DATABASE_URL=" + database(t, standby, "restored")
	o.do(t, o.page.step(t, "Restore", "pg_restore"))
	o.do(t, o.page.step(t, "Restore", "guidon migrate status"))
	o.do(t, o.page.step(t, "Restore", "guidon migrate up"))
	o.do(t, o.page.step(t, "Restore", "guidon migrate roles"))
	// What the page says of servers before step 4.
	early, at := o.serve(t, "127.0.0.1:0")
	awaitStatus(t, at+"/readyz", http.StatusServiceUnavailable)
	refused := exec.Command("guidon", "flag", "enable", "pricing", "--environment", "development")
	refused.Env = append(os.Environ(), append(o.env, "GUIDON_URL="+at)...)
	if out, err := refused.CombinedOutput(); err == nil || !strings.Contains(string(out), "recover") {
		t.Errorf("a change before recover: %v: %s", err, out)
	}
	early.stop(t)
	if out := o.do(t, o.page.step(t, "Restore", "guidon recover")); !strings.Contains(out, "1048576") {
		t.Errorf("recover says %s", out)
	}
	replica, _ = o.serve(t, listen) // step 5
	awaitStatus(t, url+"/readyz", http.StatusOK)
	if got := o.do(t, "guidon flag get pricing --environment development --output json"); got != kept {
		t.Errorf("restored: %s, want as it was backed up: %s", got, kept)
	}
	storetest.Eventually(t, "the service to take what was restored", func() bool { return service.Snapshot().Revision() == 1<<20 })
	if lost >= 1<<20 {
		t.Errorf("the service held revision %d before", lost)
	}
	if status, body := post(t, url+"/ofrep/v1/evaluate/flags/pricing", server.Text, rooted.Header, `{}`); status != http.StatusBadRequest || !strings.Contains(body, "at the pinned revision could not be had") {
		t.Errorf("a request pinned to what was lost: %d %s", status, body)
	}
	if status, body := post(t, url+"/ofrep/v1/evaluate/flags/pricing", server.Text, "", `{}`); status != http.StatusOK {
		t.Errorf("a request that is not pinned: %d %s", status, body)
	}
	o.do(t, "guidon audit verify --environment development")

	// Upgrade: the new binary's schema first, then one replica after the other.
	other, elsewhere := o.serve(t, "127.0.0.1:0")
	awaitStatus(t, elsewhere+"/readyz", http.StatusOK)
	o.do(t, o.page.step(t, "Upgrade", "guidon migrate up"))
	for _, r := range []struct {
		old *process
		url string
	}{{other, elsewhere}, {replica, url}} {
		r.old.stop(t)
		o.serve(t, strings.TrimPrefix(r.url, "http://"))
		awaitStatus(t, r.url+"/readyz", http.StatusOK)
	}
	o.do(t, "guidon flag disable pricing --environment development")
	storetest.Eventually(t, "the service to hear of a change after the upgrade", func() bool { return service.Snapshot().Revision() == 1<<20+1 })
}

// post sends JSON with a key and, if it is given, a guidon header.
func post(t *testing.T, url, key, header, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	if header != "" {
		request.Header.Set("Guidon", header)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", url, err))
	}
	return response.StatusCode, string(text)
}
