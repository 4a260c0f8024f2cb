package embedded_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/embedded"
)

// directory returns a directory that any account can get to, which
// t.TempDir's is not.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guidon-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

func exec(t *testing.T, s *embedded.Server, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var out string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStartKeepsDataAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := directory(t) + "/made/by/start"
	s := start(t, dir)
	exec(t, s, `WITH x AS (SELECT 1) SELECT 'a'`)
	if got := exec(t, s, `SELECT current_setting('fsync') || current_setting('listen_addresses') || current_setting('server_encoding')`); got != "onUTF8" {
		t.Errorf("settings = %q, want fsync on, no address, UTF8", got)
	}
	exec(t, s, `SELECT set_config('search_path', 'public', false)`)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	exec(t, s, `SELECT 'b'`)
}
