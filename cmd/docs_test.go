package cmd_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeGo keeps the Go of the README compiling: it is a part of a runnable
// example.
func TestReadmeGo(t *testing.T) {
	t.Parallel()
	example := unindent(read(t, "../sdk/example_test.go"))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "../README.md"), -1)
	if len(blocks) == 0 {
		t.Error("README.md has no Go block")
	}
	for _, block := range blocks {
		if !strings.Contains(example, unindent(block[1])) {
			t.Errorf("this block of README.md is not in sdk/example_test.go:\n%s", block[1])
		}
	}
}

// TestReadmeMake keeps the targets that the documents name.
func TestReadmeMake(t *testing.T) {
	t.Parallel()
	makefile := read(t, "../Makefile")
	for _, document := range []string{"../README.md", "../CONTRIBUTING.md"} {
		for _, target := range regexp.MustCompile(`(?m)(?:^|\x60)make ([a-z-]+)`).FindAllStringSubmatch(read(t, document), -1) {
			if !regexp.MustCompile(`(?m)^` + target[1] + `:.*## `).MatchString(makefile) {
				t.Errorf("%s names make %s, which is no target with a help text", document, target[1])
			}
		}
	}
}

// TestReadmeLinks keeps the files that the documents point to.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"../README.md", "../CONTRIBUTING.md"} {
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(read(t, document), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat("../" + link[1]); err != nil {
				t.Errorf("%s points to %s: %v", document, link[1], err)
			}
		}
	}
}

func TestChangelogHasUnreleased(t *testing.T) {
	t.Parallel()
	if !strings.Contains(read(t, "../CHANGELOG.md"), "\n## Unreleased\n") {
		t.Error("CHANGELOG.md has no section Unreleased")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
