package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	guidonsdk "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/store/storetest"
)

// The report of a kill outlives the servers that saw it spread, and the
// instances that it reached.
func TestKillReportOutlivesTheServers(t *testing.T) {
	t.Parallel()
	dir := dataDirectory(t)
	data, readyFile := filepath.Join(dir, "data"), filepath.Join(dir, "ready.json")
	args := []string{"dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile}
	first := start(t, args...)
	r := first.ready(t, readyFile)
	load := command(r, "import", "--environment", "development", "-")
	load.Stdin = strings.NewReader(pricing)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("import: %v: %s", err, out)
	}
	client, err := guidonsdk.Open(t.Context(), r.URL, guidonsdk.WithKey(r.Keys.servers["development"]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	storetest.Eventually(t, "the service to have the flag", func() bool {
		return client.Propagator().Evaluate(t.Context(), "pricing", 0, nil).Variant() == "off"
	})
	ctx := client.Propagator().Root(t.Context(), nil)
	if got := client.Propagator().Evaluate(ctx, "pricing", 0, nil).Variant(); got != "off" {
		t.Fatalf("before the kill: %q, want off", got)
	}
	guidon(t, r, "flag", "kill", "pricing", "--environment", "development", "--variant", "on", "--reason", "prices are wrong")
	storetest.Eventually(t, "a request under way to change its value", func() bool {
		return client.Propagator().Evaluate(ctx, "pricing", 0, nil).Variant() == "on"
	})
	type report struct {
		Timed, Reached, Connected, Pierced int
		KilledAt, P50, P99, Last           string
		Recorded                           *struct{ Reached, Connected int }
	}
	ask := func(r ready) (out report) {
		t.Helper()
		text := guidon(t, r, "flag", "kill-report", "pricing", "--environment", "development", "--output", "json")
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return out
	}
	var before report
	storetest.Eventually(t, "the service to have told of it", func() bool {
		before = ask(r)
		return before.Timed == 1 && before.Pierced == 1
	})
	conn, err := pgx.Connect(t.Context(), r.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the server to have noted it", func() bool {
		var noted bool
		err := conn.QueryRow(t.Context(), `SELECT timed = 1 AND pierced = 1 FROM kill_reports`).Scan(&noted)
		return err == nil && noted
	})
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	first.stop(t)

	second := start(t, args...)
	r = second.ready(t, readyFile)
	awaitStatus(t, r.URL+"/readyz", http.StatusOK)
	after := ask(r)
	if after.Connected != 0 || after.Recorded == nil || after.Recorded.Reached != 1 || after.Recorded.Connected != 1 {
		t.Errorf("after a restart: %+v, want nobody connected, and 1 of 1 then", after)
	}
	after.Reached, after.Connected, after.Recorded = before.Reached, before.Connected, nil
	if after != before {
		t.Errorf("after a restart the report is %+v, want %+v", after, before)
	}
	if out := guidon(t, r, "flag", "kill-report", "pricing", "--environment", "development"); !strings.Contains(out, "1 of 1 connected instances, at ") {
		t.Errorf("kill-report prints %s, want how many had it then", out)
	}
	second.stop(t)
}
