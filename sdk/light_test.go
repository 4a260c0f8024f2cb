package guidon_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// An application links what the SDK imports: no database, no server, no metrics
// library, no test code.
func TestSDKStaysLight(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	banned := []string{
		"github.com/jackc/pgx", "github.com/golang-migrate/migrate", "github.com/prometheus/client_golang", "github.com/spf13/cobra",
		modulePath + "/server", modulePath + "/store", modulePath + "/migrations", modulePath + "/admin", "testing",
	}
	for _, path := range banned {
		if strings.Contains(path, ".") && !strings.Contains(string(module), strings.Join(strings.SplitN(path, "/", 4)[:3], "/")) {
			t.Errorf("%s is banned and not even in go.mod: the list is out of date", path)
		}
	}
	linked := strings.Fields(string(out))
	if len(linked) < 50 {
		t.Fatalf("go list names %d packages only", len(linked))
	}
	for _, path := range linked {
		for _, ban := range banned {
			if path == ban || strings.HasPrefix(path, ban+"/") {
				t.Errorf("the SDK links %s", path)
			}
		}
	}
}

const modulePath = "github.com/guidon-flags/guidon"
