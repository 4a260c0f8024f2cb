package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What is shipped for containers names commands, variables and files that there
// are; no container engine is needed to see that.
func TestCompose(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct {
			Image       string
			Build       string
			Command     []string
			Environment map[string]string
			Ports       []string
			Volumes     []string
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
			Healthcheck *struct{ Test []string }
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	replicas := 0
	for name, service := range compose.Services {
		for other, needs := range service.DependsOn {
			upstream, ok := compose.Services[other]
			if !ok {
				t.Errorf("%s depends on %s, which there is not", name, other)
			}
			if needs.Condition == "service_healthy" && upstream.Healthcheck == nil {
				t.Errorf("%s waits for %s, which has no health check", name, other)
			}
		}
		for _, volume := range service.Volumes {
			if source, _, _ := strings.Cut(volume, ":"); !slices.Contains(keysOf(compose.Volumes), source) {
				t.Errorf("%s mounts %s, which is no volume", name, source)
			}
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s listens to everybody: %s", name, port)
			}
		}
		if service.Build == "" {
			continue
		}
		if service.Command[0] == "serve" {
			replicas++
		}
		checkCommand(t, name, service.Command)
		for variable := range service.Environment {
			checkVariable(t, name, variable)
		}
	}
	if replicas != 2 || compose.Services["migrate"].Command == nil {
		t.Errorf("%d replicas, migrate %v", replicas, compose.Services["migrate"].Command)
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var stages, last []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		switch fields[0] {
		case "FROM":
			stages, last = append(stages, fields[1]), nil
			if version, ok := strings.CutPrefix(fields[1], "golang:"); ok {
				version, _, _ = strings.Cut(version, "-")
				if !bytes.Contains(mod, []byte("\ngo "+version)) {
					t.Errorf("the image has Go %s, go.mod another", version)
				}
			}
		case "COPY":
			for _, source := range fields[1 : len(fields)-1] {
				if strings.HasPrefix(source, "--from=") {
					break
				}
				if _, err := os.Stat(filepath.Join("../..", source)); err != nil {
					t.Errorf("%s: %v", strings.TrimSpace(line), err)
				}
			}
		case "CMD":
			checkCommand(t, "Dockerfile", strings.Split(strings.Trim(strings.Join(fields[1:], ""), `[]"`), `","`))
		case "ENV":
			variable, _, _ := strings.Cut(fields[1], "=")
			checkVariable(t, "Dockerfile", variable)
		}
		last = append(last, fields[0])
	}
	if len(stages) < 2 || !strings.Contains(stages[len(stages)-1], "static") {
		t.Errorf("stages %q: want a build and a static image", stages)
	}
	for _, want := range []string{"USER", "ENTRYPOINT", "CMD"} {
		if !slices.Contains(last, want) {
			t.Errorf("the last stage has no %s", want)
		}
	}
	if !bytes.Contains(text, []byte("USER nonroot")) || !bytes.Contains(text, []byte("CGO_ENABLED=0")) {
		t.Error("the binary is to be static, and not to run as root")
	}
}

// TestOperations runs no command of the page, but each must be one.
func TestOperations(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, match := range regexp.MustCompile("(?m)(?:^|`)guidon ([a-z][^\n`#]*)").FindAllStringSubmatch(string(text), -1) {
		found++
		checkCommand(t, "OPERATIONS.md", strings.Fields(match[1]))
	}
	for _, match := range regexp.MustCompile(`GUIDON_[A-Z_]+`).FindAllString(string(text), -1) {
		checkVariable(t, "OPERATIONS.md", match)
	}
	if found < 4 {
		t.Errorf("only %d commands found", found)
	}
}

// checkCommand wants a command, and flags, that the binary has.
func checkCommand(t *testing.T, where string, args []string) {
	t.Helper()
	root := newRootCommand()
	cmd, _, err := root.Find(args)
	if err != nil || cmd == root {
		t.Errorf("%s: guidon %v: there is no such command", where, args)
		return
	}
	for _, arg := range args {
		if flag, ok := strings.CutPrefix(arg, "--"); ok {
			flag, _, _ = strings.Cut(flag, "=")
			if cmd.Flag(flag) == nil && cmd.InheritedFlags().Lookup(flag) == nil {
				t.Errorf("%s: guidon %v: there is no flag --%s", where, args, flag)
			}
		}
	}
}

// checkVariable wants a variable that some file of this command reads.
func checkVariable(t *testing.T, where, variable string) {
	t.Helper()
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && bytes.Contains(text, []byte(fmt.Sprintf("%q", variable))) {
			return
		}
	}
	t.Errorf("%s: nothing reads %s", where, variable)
}

func keysOf[V any](m map[string]V) (keys []string) {
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}
