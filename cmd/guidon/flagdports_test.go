package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store/storetest"
)

// An environment that is open to all must be there: else each call fails.
func TestOpenEnvironmentMustExist(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	for name, good := range map[string]bool{"": true, "staging": true, "nope": false} {
		flags := clientFlags{openEnvironment: name}
		if err := flags.known(t.Context(), db); (err == nil) != good {
			t.Errorf("--open-environment %q: %v, want it accepted: %t", name, err, good)
		}
	}
}

// flagd's clients find the environment for development without a key, and
// nothing else; a port that is taken is passed over.
func TestDevFlagdPorts(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	dir := dataDirectory(t)
	readyFile, document := filepath.Join(dir, "ready.json"), filepath.Join(dir, "plan.json")
	const plan = `{"flags": {"plan": {"state": "ENABLED", "variants": {"pro": "pro", "free": "free"}, "targeting": {"var": "plan"}}}}`
	if err := os.WriteFile(document, []byte(plan), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "dev", "--import", document, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--ready-file", readyFile,
		"--flagd-ports", "0,"+port+",0", "--static-context", "plan=pro,region=eu", "--context-from-header", "X-Plan=plan")
	r := p.ready(t, readyFile)
	if len(r.Flagd) != 2 {
		t.Fatalf("flagd's ports are %q, want the two that are not taken", r.Flagd)
	}
	ask := func(address, path string, header ...string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+path, strings.NewReader(`{"flagKey":"plan","context":{"plan":"free"}}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	for _, path := range []string{"/ofrep/v1/evaluate/flags/plan", "/flagd.evaluation.v1.Service/ResolveString", "/flagd.evaluation.v2.Service/ResolveString", "/schema.v1.Service/ResolveString"} {
		for _, address := range r.Flagd {
			if status, body := ask(address, path); status != 200 || !strings.Contains(body, `"variant":"pro"`) {
				t.Errorf("%s = %d %s, want the static context's plan", path, status, body)
			}
			if status, body := ask(address, path, "X-Plan", "free"); status != 200 || !strings.Contains(body, `"variant":"free"`) {
				t.Errorf("%s = %d %s, want the header's plan", path, status, body)
			}
		}
		if status, _ := ask(strings.TrimPrefix(r.URL, "http://"), path); status != 401 {
			t.Errorf("%s without a key on the main port = %d, want 401", path, status)
		}
	}
	for _, path := range []string{"/guidon.v1.FlagService/List", "/admin/", "/metrics"} {
		if status, body := ask(r.Flagd[0], path); status != 404 {
			t.Errorf("%s on flagd's port = %d %s, want 404", path, status, body)
		}
	}
	p.stop(t)
}

func TestClientFlagsRefused(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	for _, args := range [][]string{
		{"--flagd-ports", "8013;8015"},
		{"--flagd-ports", "70000"},
		{"--context-from-header", "X-Plan="},
		{"--client-rate", "-1"},
		{"--server-rate", "-1"},
		{"--address-rate", "-1"},
		{"--static-context", "plan"},
	} {
		fails(t, exitUsage, append([]string{"dev", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0"}, args...)...)
	}
}

// An environment that is open is so on this machine only, unless it is said that
// everybody may use it.
func TestOpenAnywhere(t *testing.T) {
	t.Parallel()
	local, anywhere := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}, &net.TCPAddr{IP: net.IPv4zero, Port: 8080}
	for _, c := range []struct {
		flags clientFlags
		addr  net.Addr
		want  bool
	}{
		{clientFlags{}, anywhere, true},
		{clientFlags{openEnvironment: "staging"}, local, true},
		{clientFlags{openEnvironment: "staging"}, anywhere, false},
		{clientFlags{openEnvironment: "staging", openAnywhere: true}, anywhere, true},
	} {
		var config server.Config
		if err := c.flags.configure(&config, c.addr); (err == nil) != c.want || c.want && config.OpenEnvironment != c.flags.openEnvironment {
			t.Errorf("%+v at %s: %v, open is %q", c.flags, c.addr, err, config.OpenEnvironment)
		}
	}
}
