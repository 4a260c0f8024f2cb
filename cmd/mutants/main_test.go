package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutantsCanBeMade finds bugs that rotted: whose text is no longer in the
// tree, or whose test is gone.
func TestMutantsCanBeMade(t *testing.T) {
	t.Parallel()
	const root = "../.."
	mutants, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) < 12 {
		t.Errorf("%d mutants, want 12 or more", len(mutants))
	}
	for _, m := range mutants {
		for _, e := range m.edits {
			text, err := os.ReadFile(filepath.Join(root, e.path))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), e.old); n != 1 || e.old == e.new {
				t.Errorf("%s: %s has this text %d times, want once:\n%s", m.name, e.path, n, e.old)
			}
		}
		files, err := filepath.Glob(filepath.Join(root, m.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(text), "\nfunc "+m.test+"(t *testing.T)")
		}
		if !found {
			t.Errorf("%s: there is no %s in %s", m.name, m.test, m.pkg)
		}
	}
}
