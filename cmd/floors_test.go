// Package cmd_test holds the rules that span packages: which may import which,
// and what an application links when it imports the SDK.
package cmd_test

import (
	"bytes"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/guidon-flags/guidon"

// floors is the package table. A package imports only packages on lower
// floors; a sub-package may import its parent. An entry that ends in "/…"
// stands for everything below it.
var floors = map[string]int{
	"sdk/checkpoint": -1, // what store/audit and the SDK agree on

	"sdk/eval":    0,
	"store/audit": 0,
	"proto/gen/…": 0,
	"migrations":  0,
	"admin":       0,

	"sdk/propagate":  1,
	"sdk/feed":       1,
	"store":          1,
	"store/embedded": 1,

	"sdk":                          2,
	"sdk/otel":                     2,
	"sdk/propagate/connect":        2,
	"sdk/propagate/grpc":           2,
	"sdk/propagate/internal/stage": 2, // for tests of the transports
	"sdk/propagate/message":        2,
	"sdk/propagate/nats":           2,
	"sdk/propagate/otel":           2,
	"store/storetest":              2, // for tests, over store and embedded
	"server/auth":                  2,
	"server/hub":                   2,
	"server/notary":                2,
	"server/collector":             2,
	"server/fleet":                 2,
	"server/hub/view":              2,

	"server/flagd":   3,
	"server/ofrep":   3,
	"server/relay":   3,
	"sdk/guidontest": 3, // for tests of applications

	"server": 4,

	"cmd":         5,
	"cmd/guidon":  5,
	"cmd/demo":    5,
	"cmd/mutants": 5,
	"cmd/torture": 5,
	"cmd/bench":   5,
	"cmd/mesh":    5,
}

func TestFloors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		pkg := local(fields[0])
		entry, floor, ok := floorOf(pkg)
		if !ok {
			t.Errorf("package %s is on no floor", pkg)
			continue
		}
		seen[entry] = true
		for _, imported := range fields[1:] {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			target := local(imported)
			_, below, ok := floorOf(target)
			if ok && below >= floor && path.Dir(pkg) != target && !sameTree(pkg, target) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", pkg, floor, target, below)
			}
		}
	}
	for entry := range floors {
		if !seen[entry] {
			t.Errorf("floor entry %s names no package", entry)
		}
	}
}

// TestSDKStaysLight keeps an application that imports the SDK free of what
// only the server needs.
func TestSDKStaysLight(t *testing.T) {
	t.Parallel()
	banned := []string{
		"github.com/jackc/pgx/v5", "github.com/golang-migrate/migrate/v4", "github.com/prometheus/client_golang/prometheus",
		"github.com/spf13/cobra", "testing", module + "/server", module + "/store", module + "/migrations",
	}
	deps := goList(t, "-deps", "-f", "{{.ImportPath}}", "./sdk/...")
	for _, pkg := range banned {
		if i := slices.IndexFunc(deps, func(d string) bool { return d == pkg || strings.HasPrefix(d, pkg+"/") }); i >= 0 {
			t.Errorf("sdk/... depends on %s", deps[i])
		}
	}
	all := goList(t, "-deps", "-test", "-f", "{{.ImportPath}}", "./...")
	for _, pkg := range banned {
		if !slices.Contains(all, pkg) {
			t.Errorf("banned package %s is used nowhere: was it renamed?", pkg)
		}
	}
}

// TestPureLibraries keeps the evaluator and the audit chain free of I/O and of
// all but a few small modules.
func TestPureLibraries(t *testing.T) {
	t.Parallel()
	allowed := map[string][]string{
		"./sdk/eval":       {"golang.org/x/mod", "github.com/twmb/murmur3", "google.golang.org/protobuf"},
		"./store/audit":    {"golang.org/x/mod", "github.com/gowebpki/jcs", module + "/sdk/checkpoint"},
		"./sdk/checkpoint": {"golang.org/x/mod"},
	}
	for pkg, modules := range allowed {
		for _, dep := range goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg) {
			own := strings.HasPrefix(dep, module+"/"+strings.TrimPrefix(pkg, "./"))
			if !own && !slices.ContainsFunc(modules, func(m string) bool { return strings.HasPrefix(dep, m) }) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

func local(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }

func floorOf(pkg string) (entry string, floor int, ok bool) {
	if f, ok := floors[pkg]; ok {
		return pkg, f, true
	}
	for entry, f := range floors {
		if prefix, found := strings.CutSuffix(entry, "…"); found && strings.HasPrefix(pkg, prefix) {
			return entry, f, true
		}
	}
	return "", 0, false
}

// sameTree is true inside a "…" entry, whose packages may import each other.
func sameTree(a, b string) bool {
	ea, _, _ := floorOf(a)
	eb, _, _ := floorOf(b)
	return ea == eb && strings.HasSuffix(ea, "…")
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, &stderr)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}
