package store_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEachTableIsWrittenByOneFile holds the list in the package comment: a
// reader who looks for what happens to a table finds it in one place.
func TestEachTableIsWrittenByOneFile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^\s*//.*$`)
	writes := regexp.MustCompile(`(?:INSERT INTO|UPDATE|DELETE FROM)\s+([a-z_]+)`)
	got := map[string][]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range writes.FindAllSubmatch(comment.ReplaceAll(text, nil), -1) {
			if table := string(m[1]); !slices.Contains(got[file], table) {
				got[file] = append(got[file], table)
			}
		}
	}
	want := map[string][]string{}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+\.go) +(.+)$`).FindAllStringSubmatch(string(doc), -1) {
		want[m[1]] = strings.Split(m[2], ", ")
	}
	for _, tables := range got {
		slices.Sort(tables)
	}
	for _, tables := range want {
		slices.Sort(tables)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables by the file that writes them (-package comment +code):\n%s", diff)
	}
}
