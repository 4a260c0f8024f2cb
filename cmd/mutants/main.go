// Command mutants shows what a green run of the tests is worth: it makes each
// bug of testdata in a copy of the tree, one at a time, runs the one test that
// the bug names, and counts how many of them fail. A bug that no test catches
// fails the command. So does a test that fails without a bug, which is tried
// first: what it caught would mean nothing.
//
// A bug is a txtar file: a comment that says what it is, the package and the
// test that must catch it, flags for that, and pairs of files "old PATH" and "new PATH", whose
// texts are exchanged. The package's own test checks that each old text is
// there, once, so that bugs do not rot unseen.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// mutant is a bug.
type mutant struct {
	name, about string
	pkg, test   string
	flags       []string
	edits       []edit
}

// edit exchanges a text of a file, which it has once.
type edit struct{ path, old, new string }

const folder = "cmd/mutants/testdata"

// load reads the bugs of a tree.
func load(root string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(root, folder, "*.txtar"))
	if err != nil {
		return nil, err
	}
	var out []mutant
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			return nil, err
		}
		m := mutant{name: strings.TrimSuffix(filepath.Base(path), ".txtar")}
		about, caught, ok := strings.Cut(strings.TrimSpace(string(archive.Comment)), "\ncaught by: ")
		if m.about, ok = about, ok && about != ""; !ok {
			return nil, fmt.Errorf("%s: its comment does not say what it is and what it is caught by", path)
		}
		words := strings.Fields(caught)
		if len(words) < 2 {
			return nil, fmt.Errorf("%s: want a package and a test", path)
		}
		m.pkg, m.test, m.flags = words[0], words[1], words[2:]
		if len(archive.Files) == 0 || len(archive.Files)%2 != 0 {
			return nil, fmt.Errorf("%s: want pairs of old and new", path)
		}
		for i := 0; i < len(archive.Files); i += 2 {
			before, after := archive.Files[i], archive.Files[i+1]
			e := edit{strings.TrimPrefix(before.Name, "old "), string(before.Data), string(after.Data)}
			if before.Name != "old "+e.path || after.Name != "new "+e.path {
				return nil, fmt.Errorf("%s: %q and %q are no pair", path, before.Name, after.Name)
			}
			m.edits = append(m.edits, e)
		}
		out = append(out, m)
	}
	return out, nil
}

// apply makes the edit in a tree, and returns what undoes it.
func (e edit) apply(root string) (undo func() error, err error) {
	path := filepath.Join(root, e.path)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(e.old)); n != 1 {
		return nil, fmt.Errorf("%s has the text %d times, want once:\n%s", e.path, n, e.old)
	}
	undo = func() error { return os.WriteFile(path, text, 0o600) }                               //nolint:gosec // below the copy
	return undo, os.WriteFile(path, bytes.Replace(text, []byte(e.old), []byte(e.new), 1), 0o600) //nolint:gosec // below the copy
}

func run(ctx context.Context, out io.Writer, only []string) error {
	mutants, err := load(".")
	if err != nil {
		return err
	}
	copied, err := copyTree(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(copied)
	if len(only) > 0 {
		mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !slices.Contains(only, m.name) })
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	start := time.Now()
	if err := pass(ctx, copied, mutants); err != nil {
		return err
	}
	caught, total := 0, 0
	for _, m := range mutants {
		total++
		verdict, err := m.try(ctx, copied)
		if ctx.Err() != nil {
			return fmt.Errorf("%s, after %d of %d caught: %w", m.name, caught, total-1, err)
		}
		if err != nil {
			verdict, m.about = "BROKEN", err.Error()
		}
		if verdict == "caught" {
			caught++
		}
		fmt.Fprintf(out, "%-10s %-24s %s (%s %s)\n", verdict, m.name, m.about, m.pkg, m.test)
	}
	fmt.Fprintf(out, "caught %d/%d in %v\n", caught, total, time.Since(start).Round(time.Second))
	if caught < total || total == 0 {
		return errors.New("the tests miss a bug")
	}
	return nil
}

// pass runs the tests that the bugs name, where there is none.
func pass(ctx context.Context, root string, mutants []mutant) error {
	tests := map[string][]string{}
	for _, m := range mutants {
		tests[m.pkg] = append(tests[m.pkg], m.test)
	}
	for _, pkg := range slices.Sorted(maps.Keys(tests)) {
		if text, err := test(ctx, root, pkg, strings.Join(tests[pkg], "|")); err != nil {
			return fmt.Errorf("%s fails without a bug: %w\n%s", pkg, err, text)
		}
	}
	return nil
}

const (
	// bound is how long all of it may take.
	bound = 30 * time.Minute
	// patience is how long a test may, until it is taken to hang, which it does
	// for a bug.
	patience = "2m"
)

func test(ctx context.Context, root, pkg, names string, flags ...string) ([]byte, error) {
	args := append([]string{"test", "-count=1", "-timeout=" + patience, "-run", "^(" + names + ")$", pkg}, flags...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	return cmd.CombinedOutput()
}

// try makes the bug, and says whether its test catches it: a test that fails,
// not a program that does not compile.
func (m mutant) try(ctx context.Context, root string) (verdict string, err error) {
	for _, e := range m.edits {
		undo, err := e.apply(root)
		if err != nil {
			return "", err
		}
		defer func() {
			if undoErr := undo(); err == nil {
				err = undoErr
			}
		}()
	}
	text, err := test(ctx, root, m.pkg, m.test, m.flags...)
	switch {
	case err == nil:
		return "MISSED", nil
	case bytes.Contains(text, []byte("--- FAIL: "+m.test)), bytes.Contains(text, []byte("panic: ")):
		return "caught", nil
	}
	return "", fmt.Errorf("its test did not run: %w\n%s", err, text)
}

// copyTree copies what git knows of the tree, and what it does not ignore.
func copyTree(ctx context.Context) (string, error) {
	list, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return "", fmt.Errorf("git ls-files: %w", err)
	}
	root, err := os.MkdirTemp("", "guidon-mutants-")
	if err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted and not committed
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o750)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), text, 0o600) //nolint:gosec // what git lists
		}
		if err != nil {
			return root, err
		}
	}
	return root, nil
}
