package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecurityLogFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "security")
	log, err := (&securityFlags{path}).open(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	log.LogAttrs(t.Context(), slog.LevelWarn, "one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	log.LogAttrs(t.Context(), slog.LevelWarn, "two")
	log.LogAttrs(t.Context(), slog.LevelWarn, "three")
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "one") || strings.Count(string(text), "\n") != 2 {
		t.Errorf("after the first was moved away the file holds %s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, want 0600: %v", info.Mode(), err)
	}
	if _, err := (&securityFlags{dir}).open(io.Discard); err == nil {
		t.Error("a directory was taken for a file")
	}
	var out strings.Builder
	if log, err = (&securityFlags{"-"}).open(&out); err != nil {
		t.Fatal(err)
	}
	if log.LogAttrs(t.Context(), slog.LevelWarn, "shown"); !strings.Contains(out.String(), `"msg":"shown"`) {
		t.Errorf("standard output got %q", out.String())
	}
	if log, err := (&securityFlags{}).open(&out); err != nil || log != nil {
		t.Errorf("without a path: %v, %v; want none of its own", log, err)
	}
}
