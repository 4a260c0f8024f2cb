package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A directory that was named by mistake loses nothing.
func TestMakeAnew(t *testing.T) {
	t.Parallel()
	made := filepath.Join(t.TempDir(), "a", "data")
	for range 2 { // the second run finds what the first left
		if err := makeAnew(made); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(made, "left"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeAnew(t.TempDir()); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	home := t.TempDir()
	thesis := filepath.Join(home, "thesis")
	if err := os.WriteFile(thesis, []byte("done"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeAnew(home); err == nil {
		t.Error("a directory with a thesis in it was taken")
	}
	if err := makeAnew(thesis); err == nil {
		t.Error("a file was taken")
	}
	if _, err := os.Stat(thesis); err != nil {
		t.Error(err)
	}
}
