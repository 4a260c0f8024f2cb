package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkMemory prints what a server with 1,000 flags holds: after it
// imported them and after a load of bulk evaluations. It is the binary that is
// measured, not this one with its tests. Its time says nothing.
func BenchmarkMemory(b *testing.B) {
	bin := b.TempDir()
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	b.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	flags := map[string]any{}
	for i := range 1000 {
		flags[fmt.Sprintf("flag-%04d", i)] = map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"fractional": []any{[]any{"on", 10}, []any{"off", 90}}},
		}
	}
	document, err := json.Marshal(map[string]any{"flags": flags})
	if err != nil {
		b.Fatal(err)
	}
	data, err := traversableDir()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(data) })
	file, readyFile := filepath.Join(b.TempDir(), "flags.json"), filepath.Join(b.TempDir(), "ready.json")
	if err := os.WriteFile(file, document, 0o600); err != nil {
		b.Fatal(err)
	}
	p := start(b, "dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", readyFile, "--import", file)
	r := p.ready(b, readyFile)
	imported := resident(b, r)
	for i := range 2000 {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, r.URL+"/ofrep/v1/evaluate/flags",
			strings.NewReader(fmt.Sprintf(`{"context":{"targetingKey":"user-%d"}}`, i)))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("X-API-Key", r.Keys.servers["development"])
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || n < 1000*50 {
			b.Fatalf("%s, %d bytes, %v", response.Status, n, err)
		}
	}
	loaded := resident(b, r)
	for b.Loop() {
	}
	b.ReportMetric(imported, "MiB-after-import")
	b.ReportMetric(loaded, "MiB-loaded")
}

// resident is the memory of a server, as it says itself.
func resident(b *testing.B, r ready) float64 {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, r.URL+"/metrics", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\nprocess_resident_memory_bytes ")
	line, _, _ := strings.Cut(after, "\n")
	bytes, err := strconv.ParseFloat(line, 64)
	if err != nil {
		b.Fatal(err)
	}
	return bytes / (1 << 20)
}
