//go:build image

package main

import (
	"debug/elf"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/guidon-flags/guidon/store/storetest"
)

// instructions reads the Dockerfile: the arguments of its instructions, by name,
// of one stage.
func instructions(t *testing.T, stage string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	found, in := map[string][]string{}, false
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "FROM" {
			in = strings.HasSuffix(rest, stage)
		}
		if in {
			found[name] = append(found[name], rest)
		}
	}
	return found
}

// argv is an instruction's command in JSON.
func argv(t *testing.T, text string) (args []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return args
}

// TestImage builds the image's binary by the line of the Dockerfile that does,
// and runs it as the image would: not as root, in a directory that it may not
// write to, with nothing but what the image sets.
func TestImage(t *testing.T) {
	binary := filepath.Join(dataDirectory(t), "guidon")
	built := false
	for _, run := range instructions(t, "AS build")["RUN"] {
		if !strings.Contains(run, "go build") {
			continue
		}
		built = true
		build := exec.Command("sh", "-euc", strings.Replace(run, "-o /guidon", "-o "+binary, 1))
		build.Dir, build.Env = "../..", append(os.Environ(), "VERSION=v1.2.3-image")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", run, err, out)
		}
	}
	if !built {
		t.Fatal("the stage called build builds nothing")
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary needs a loader, of which the image has none")
		}
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the binary needs %q (%v)", libraries, err)
	}

	final := instructions(t, ":nonroot")
	port := freePort(t)
	env := []string{"GUIDON_DATABASE_URL=" + storetest.URL(t), "GUIDON_MASTER_KEY=" + "01" + strings.Repeat("00", 31)}
	for _, e := range final["ENV"] {
		env = append(env, strings.Replace(e, "0.0.0.0:8080", "127.0.0.1:"+port, 1))
	}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Dir, cmd.Env = "/", env
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: reaches(t, storetest.URL(t))}
		}
		return cmd
	}
	if got := argv(t, final["ENTRYPOINT"][0]); len(got) != 1 || got[0] != "/guidon" {
		t.Fatalf("ENTRYPOINT %q", got)
	}
	_, check, _ := strings.Cut(final["HEALTHCHECK"][0], "CMD ")
	healthy := argv(t, check)[1:]
	if out, err := command("version").CombinedOutput(); err != nil || !strings.Contains(string(out), "v1.2.3-image") {
		t.Errorf("version: %v: %s", err, out)
	}
	if out, err := command("migrate", "up").CombinedOutput(); err != nil {
		t.Fatalf("migrate up: %v: %s", err, out)
	}
	if out, err := command(healthy...).CombinedOutput(); err == nil {
		t.Errorf("with no server it is healthy: %s", out)
	}
	serve := command(argv(t, final["CMD"][0])...)
	serve.Stderr = t.Output()
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the health check to pass", func() bool { return command(healthy...).Run() == nil })
	storetest.Eventually(t, "it to be ready", func() bool { return command("health", "--ready").Run() == nil })
	if out, err := command("key", "create", "--kind", "admin", "--name", "me", "--database-url", storetest.URL(t)).CombinedOutput(); err != nil {
		t.Errorf("key create: %v: %s", err, out)
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := serve.Wait(); err != nil {
		t.Errorf("on SIGTERM it ends with %v", err)
	}
}

// reaches is the account, not root's, that may enter the directory of a
// database's socket.
func reaches(t *testing.T, databaseURL string) *syscall.Credential {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(u.Query().Get("host"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		t.Fatal("Postgres runs as root")
	}
	return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
}

// freePort is a port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
