package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/storetest"
)

const pricing = `{"flags": {"pricing": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}}}`

// A process that is killed leaves nothing running, and the next start has the
// same keys and goes on at the same revision.
func TestDevAfterKill(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	document := filepath.Join(dir, "pricing.json")
	if err := os.WriteFile(document, []byte(pricing), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile, "--import", document}

	first := start(t, args...)
	before := first.ready(t, readyFile)
	guidon(t, before, "flag", "disable", "pricing", "--environment", "development", "--reason", "before the kill")
	reads := [][]string{
		{"flag", "list", "--output", "json"},
		{"environment", "list", "--output", "json"},
		{"audit", "list", "--output", "json"},
		{"eval", "pricing", "--environment", "development", "--revision", "2", "--output", "json"},
	}
	var want []string
	for _, args := range reads {
		want = append(want, guidon(t, before, args...))
	}

	first.kill(t)
	awaitNothingIn(t, data)
	stale, err := os.Stat(readyFile)
	if err != nil {
		t.Fatalf("a killed process cannot have removed its ready file: %v", err)
	}

	second := start(t, args...)
	after := second.readyAnew(t, readyFile, stale)
	if diff := cmp.Diff(before.Keys, after.Keys, cmp.AllowUnexported(apiKeys{})); diff != "" {
		t.Errorf("keys changed (-before +after)\n%s", diff)
	}
	for i, args := range reads {
		if diff := cmp.Diff(want[i], guidon(t, after, args...)); diff != "" {
			t.Errorf("guidon %q (-before +after)\n%s", args, diff)
		}
	}
	guidon(t, after, "flag", "enable", "pricing", "--environment", "development", "--reason", "after the kill")

	second.stop(t)
	awaitNothingIn(t, data)
	if _, err := os.Stat(readyFile); !os.IsNotExist(err) {
		t.Errorf("the ready file of a stopped process: %v, want none", err)
	}
	for _, name := range []string{"master.key", "keys.json"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
}

// serve runs beside dev on one Postgres, and refuses a database that is not
// migrated.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	one := start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile)
	r := one.ready(t, readyFile)
	masterKey := filepath.Join(data, "master.key")

	empty := strings.Replace(r.DatabaseURL, "/guidon?", "/postgres?", 1)
	out := fails(t, exitFailed, "serve", "--database-url", empty, "--master-key-file", masterKey)
	if !strings.Contains(out, "guidon migrate up") {
		t.Errorf("serve on an empty database says %q, want what to do", out)
	}
	fails(t, exitFailed, "migrate", "status", "--database-url", empty)
	out = fails(t, exitFailed, "key", "create", "--kind", "admin", "--name", "first", "--database-url", empty)
	if !strings.Contains(out, "guidon migrate up") {
		t.Errorf("key create on an empty database says %q, want what to do", out)
	}
	for range 2 { // the second changes nothing
		if out, err := exec.Command("guidon", "migrate", "up", "--database-url", empty).CombinedOutput(); err != nil {
			t.Fatalf("migrate up: %v: %s", err, out)
		}
	}

	migrateBeyond(t, empty)
	out = fails(t, exitFailed, "serve", "--database-url", empty, "--master-key-file", masterKey)
	if !strings.Contains(out, "newer guidon") {
		t.Errorf("serve on a schema of the future says %q, want what to do", out)
	}
	out = fails(t, exitFailed, "migrate", "up", "--database-url", empty)
	if !strings.Contains(out, "newer guidon") {
		t.Errorf("migrate up on a schema of the future says %q, want what to do", out)
	}

	otherKey := filepath.Join(dir, "other.key")
	if err := os.WriteFile(otherKey, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	out = fails(t, exitFailed, "serve", "--listen", "127.0.0.1:0", "--database-url", r.DatabaseURL, "--master-key-file", otherKey)
	if !strings.Contains(out, "not the one that sealed") {
		t.Errorf("serve with another master key says %q, want why it refuses", out)
	}

	two := start(t, "serve", "--listen", "127.0.0.1:0", "--database-url", r.DatabaseURL, "--master-key-file", masterKey)
	elsewhere := r
	elsewhere.URL = two.servingURL(t)
	awaitStatus(t, elsewhere.URL+"/readyz", http.StatusOK)
	importFlags := exec.Command("guidon", "import", "--environment", "development", "--url", elsewhere.URL, "-")
	importFlags.Env = append(os.Environ(), "GUIDON_KEY="+r.Keys.admin)
	importFlags.Stdin = strings.NewReader(pricing)
	if out, err := importFlags.CombinedOutput(); err != nil {
		t.Fatalf("import through the second server: %v: %s", err, out)
	}
	if out := guidon(t, elsewhere, "flag", "get", "pricing", "--environment", "development"); !strings.Contains(out, "ENABLED") {
		t.Errorf("flag get from the second server = %s, want the flag", out)
	}

	// A key made with Postgres alone works on every server, until it is revoked.
	create := exec.Command("guidon", "key", "create", "--kind", "admin", "--name", "rescue", "--database-url", r.DatabaseURL, "--output", "json")
	raw, err := create.Output()
	if err != nil {
		t.Fatalf("key create: %v", err)
	}
	var created struct {
		Key  struct{ ID string }
		Text string
	}
	if err := json.Unmarshal(raw, &created); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	rescued := elsewhere
	rescued.Keys.admin = created.Text
	guidon(t, rescued, "key", "list")
	guidon(t, r, "key", "revoke", created.Key.ID)
	storetest.Eventually(t, "the revocation to act", func() bool {
		out, err := command(rescued, "key", "list").CombinedOutput()
		return err != nil && strings.Contains(string(out), "GUIDON_KEY")
	})

	two.stop(t)
	one.stop(t)
	awaitNothingIn(t, data)
}

func TestDevOpenEnvironment(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	args := []string{"dev", "--data", data, "--ready-file", readyFile, "--open-environment"}

	out := fails(t, exitFailed, append(args, "development", "--listen", "0.0.0.0:0")...)
	if !strings.Contains(out, "loopback") {
		t.Errorf("dev says %q, want that the address must be loopback", out)
	}
	out = fails(t, exitUsage, append(args, "nowhere", "--listen", "127.0.0.1:0")...)
	if !strings.Contains(out, "nowhere") {
		t.Errorf("dev says %q, want the environment that there is not", out)
	}

	p := start(t, append(args, "development", "--listen", "127.0.0.1:0")...)
	nobody := p.ready(t, readyFile)
	admin := nobody
	nobody.Keys.admin = ""
	guidon(t, nobody, "flag", "list", "--environment", "development")
	for _, args := range [][]string{
		{"flag", "list", "--environment", "production"},
		{"flag", "enable", "pricing", "--environment", "development"},
		{"key", "list"},
	} {
		if out, err := command(nobody, args...).CombinedOutput(); err == nil {
			t.Errorf("guidon %q without a key succeeds: %s", args, out)
		}
	}
	guidon(t, admin, "key", "list")
	p.stop(t)
}

// Ctrl-C in a terminal reaches every process of a make, and each of them then
// asks its children to stop: the second signal must not cut the first short.
func TestDevIsToldToStopTwice(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	p := start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile)
	r := p.ready(t, readyFile)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the server to stop listening", func() bool {
		res, err := http.Get(r.URL + "/healthz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err != nil
	})
	p.stop(t)
	if _, err := os.Stat(readyFile); !os.IsNotExist(err) {
		t.Errorf("the ready file of a stopped process: %v, want none", err)
	}
}

// migrateBeyond leaves a database as a later build would.
func migrateBeyond(t *testing.T, databaseURL string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `UPDATE schema_migrations SET version = version + 1`); err != nil {
		t.Fatal(err)
	}
}

// process is a guidon in the background.
type process struct {
	cmd    *exec.Cmd
	stderr *bufio.Reader
	ended  chan struct{}
	err    error
}

func start(t testing.TB, args ...string) *process {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command("guidon", args...), stderr: bufio.NewReader(read), ended: make(chan struct{})}
	p.cmd.Stderr = write
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close() // the process holds its own
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill(t)
		rest, _ := io.ReadAll(p.stderr) // Postgres may hold the pipe a little longer
		_ = read.Close()
		if t.Failed() {
			t.Logf("guidon %s wrote to stderr: %s", args[0], rest)
		}
	})
	return p
}

func (p *process) kill(t testing.TB) {
	t.Helper()
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// stop asks the process to stop and wants a clean end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the process does not stop")
	}
	if p.err != nil {
		t.Errorf("stopped process: %v, want exit code 0", p.err)
	}
}

func (p *process) ready(t testing.TB, path string) ready {
	t.Helper()
	return p.readyAnew(t, path, nil)
}

// readyAnew waits for a ready file that is not the stale one.
func (p *process) readyAnew(t testing.TB, path string, stale os.FileInfo) ready {
	t.Helper()
	storetest.Eventually(t, "a ready file", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("guidon ended before it was ready: %v", p.err)
		default:
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Fatalf("the ready file has mode %v, want 0600: keys are in it", info.Mode())
		}
		// A file may get the inode of the one removed before it.
		return err == nil && (stale == nil || !info.ModTime().Equal(stale.ModTime()))
	})
	r, err := awaitReadyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// servingURL reads from the log where a serve listens.
func (p *process) servingURL(t *testing.T) string {
	t.Helper()
	for {
		line, err := p.stderr.ReadBytes('\n')
		if err != nil {
			t.Fatalf("serve ended before it was serving: %v", err)
		}
		var entry struct{ Msg, URL string }
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("serve logs %q: %v", line, err)
		}
		if entry.Msg == "serving" {
			return entry.URL
		}
	}
}

// command is a client command that talks to the server of r as its admin.
func command(r ready, args ...string) *exec.Cmd {
	cmd := exec.Command("guidon", args...)
	cmd.Env = append(os.Environ(), "GUIDON_URL="+r.URL, "GUIDON_KEY="+r.Keys.admin)
	return cmd
}

// guidon runs a client command that must succeed and returns what it prints.
func guidon(t *testing.T, r ready, args ...string) string {
	t.Helper()
	cmd := command(r, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("guidon %q: %v: %s", args, err, &stderr)
	}
	return string(out)
}

// fails runs a command that must end with an exit code, and returns what it
// says.
func fails(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command("guidon", args...)
	out, _ := cmd.CombinedOutput() // its exit code is looked at
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("guidon %q: exit code %d, want %d: %s", args, got, code, out)
	}
	return string(out)
}

// dataDirectory makes a directory that the account that runs Postgres can get
// to, as a path without symbolic links.
func dataDirectory(t *testing.T) string {
	t.Helper()
	dir, err := traversableDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// awaitNothingIn waits until no process works in a directory: a postmaster and
// its backends all do. Without /proc it has nothing to look at.
func awaitNothingIn(t *testing.T, dir string) {
	t.Helper()
	storetest.Eventually(t, "the end of every process in "+dir, func() bool {
		links, err := filepath.Glob("/proc/[0-9]*/cwd")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
				return false
			}
		}
		return true
	})
}

func awaitStatus(t *testing.T, url string, want int) {
	t.Helper()
	storetest.Eventually(t, url, func() bool {
		res, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == want
	})
}
