package container_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
)

const root = "../../../"

// anyImage says of every base image that it is there, and nothing more: nothing
// is downloaded to look at a Dockerfile.
type anyImage struct{}

func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(ref), []byte(`{"architecture":"amd64","os":"linux","config":{}}`), nil
}

// lint returns what BuildKit finds wrong with a Dockerfile.
func lint(t *testing.T, text []byte) (found []string) {
	t.Helper()
	result, err := dockerfile2llb.DockerfileLint(t.Context(), text, dockerfile2llb.ConvertOpt{
		MetaResolver: anyImage{}, SourceMap: &llb.SourceMap{Filename: "Dockerfile", Data: text, Definition: &llb.Definition{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Error != nil {
		found = append(found, result.Error.Message)
	}
	for _, w := range result.Warnings {
		found = append(found, fmt.Sprintf("%s: %s", w.RuleName, w.Detail))
	}
	return found
}

func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile(root + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range lint(t, text) {
		t.Errorf("Dockerfile: %s", found)
	}
	// What it would not let through.
	for change, with := range map[string]string{
		"AS build": "as build", "golang:1.26-alpine": "golang:${GO}", "USER nonroot:nonroot": "USR nonroot", `["serve"]`: "serve",
		"ENV GUIDON_LISTEN=0.0.0.0:8080": "ENV GUIDON_LISTEN 0.0.0.0:8080", "COPY . .": "COPY .", "ARG VERSION=devel": "ARG API_TOKEN=x",
	} {
		broken := strings.Replace(string(text), change, with, 1)
		if broken == string(text) || len(lint(t, []byte(broken))) == 0 {
			t.Errorf("a Dockerfile with %q for %q passes", with, change)
		}
	}
}

// compose loads a file as Compose does.
func compose(t *testing.T, file string, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(env), cli.WithWorkingDirectory(root), cli.WithConsistency(true), cli.WithInterpolation(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func TestCompose(t *testing.T) {
	secrets := []string{"GUIDON_MASTER_KEY=" + strings.Repeat("ab", 32), "POSTGRES_PASSWORD=p"}
	project, err := compose(t, root+"compose.yaml", secrets...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := project.ServiceNames(), []string{"guidon-1", "guidon-2", "migrate", "postgres"}; !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	for name, s := range project.Services {
		if name == "postgres" {
			continue
		}
		if url := s.Environment["GUIDON_DATABASE_URL"]; url == nil || !strings.HasPrefix(*url, "postgres://guidon:p@postgres:5432/") {
			t.Errorf("%s: the database is %v", name, url)
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") {
			t.Errorf("%s may write or has capabilities", name)
		}
		if after := s.DependsOn["migrate"]; name != "migrate" && after.Condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s does not wait for the schema", name)
		}
	}
	for _, missing := range secrets {
		if _, err := compose(t, root+"compose.yaml", slices.DeleteFunc(slices.Clone(secrets), func(s string) bool { return s == missing })...); err == nil {
			t.Errorf("without %.10s… it starts", missing)
		}
	}
	// What it would not let through.
	text, err := os.ReadFile(root + "compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for change, with := range map[string]string{
		"restart: unless-stopped": "restrat: always", "condition: service_healthy": "condition: is_healthy", "      postgres:\n        condition": "      postgre:\n        condition",
		"volumes:\n  postgres:": "volumes:\n  other:", `"127.0.0.1:8080:8080"`: `"127.0.0.1:http:8080"`,
	} {
		file := t.TempDir() + "/compose.yaml"
		broken := strings.Replace(string(text), change, with, 1)
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := compose(t, file, secrets...); err == nil || broken == string(text) {
			t.Errorf("a compose.yaml with %q for %q passes", with, change)
		}
	}
}
