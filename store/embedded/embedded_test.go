package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/store/embedded"
	"github.com/guidon-flags/guidon/store/storetest"
)

// childDir makes the test binary a process that starts a server in the
// directory, says so, and waits to be killed.
const childDir = "GUIDON_TEST_EMBEDDED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		syscall.Umask(0o077) // Postgres must get through what Start makes all the same
		s, err := embedded.Start(context.Background(), embedded.Config{Dir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.DatabaseURL())
		select {}
	}
	os.Exit(m.Run())
}

// directory returns a directory that any account can get to, which
// t.TempDir's is not.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guidon-embedded-") //nolint:usetesting // see above
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
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() }) // tests that care stop it themselves
	return s
}

func stop(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

// query runs statements and returns the one value of the last.
func query(t *testing.T, url string, statements ...string) (out string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for i, sql := range statements {
		if i < len(statements)-1 {
			_, err = conn.Exec(t.Context(), sql)
		} else {
			err = conn.QueryRow(t.Context(), sql).Scan(&out)
		}
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return out
}

const (
	writeNote = `CREATE TABLE note (text text)`
	fillNote  = `INSERT INTO note VALUES ('kept')`
	readNote  = `SELECT text FROM note`
)

// postmaster returns the pid in the directory's pid file.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func gone(pid int) func() bool {
	return func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
}

// asOwner starts a process as the account that owns the cluster in dir.
func asOwner(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		owner := info.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	return cmd
}

func TestDataOutlivesARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(directory(t), "made", "by", "start")
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }() // again below, where it counts
	got := query(t, s.DatabaseURL(), writeNote, fillNote, `
		SELECT concat_ws(' ', current_setting('fsync'), current_setting('server_encoding'), current_setting('lc_collate'), current_database(), current_user,
			'[' || current_setting('listen_addresses') || ']')`)
	if want := "on UTF8 C guidon guidon []"; got != want {
		t.Errorf("settings = %q, want %q", got, want)
	}
	for _, private := range []string{"data", "run"} {
		if info, err := os.Stat(filepath.Join(dir, private)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v, want mode 0700", private, info.Mode(), err)
		}
	}
	pid := postmaster(t, dir)
	stop(t, s)
	if !gone(pid)() {
		t.Errorf("postgres (pid %d) runs after Stop", pid)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	s = start(t, dir)
	if got := query(t, s.DatabaseURL(), readNote); got != "kept" {
		t.Errorf("after the restart the note says %q", got)
	}
}

func TestKilledProcessTakesPostgresAlongAndTheNextStartRecovers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(directory(t), "made", "by", "start")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "postgres://") {
		t.Fatalf("the child says %q", lines.Text())
	}
	query(t, lines.Text(), writeNote, fillNote, readNote)
	pid := postmaster(t, dir)
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed

	s := start(t, dir)
	if got := query(t, s.DatabaseURL(), readNote); got != "kept" {
		t.Errorf("after kill -9 the note says %q", got)
	}
	storetest.Eventually(t, "the killed process' postgres is gone", gone(pid))
}

// A process may be killed while it makes the cluster; then nothing of it is
// good, and the initdb that it started may still be at work.
func TestKilledWhileMakingTheCluster(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "initdb is at work", func() bool {
		began, _ := filepath.Glob(filepath.Join(dir, "data.new-*", "PG_VERSION"))
		return len(began) > 0
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	s := start(t, dir)
	if got := query(t, s.DatabaseURL(), writeNote, fillNote, readNote); got != "kept" {
		t.Errorf("the note says %q", got)
	}
}

func TestKilledPostmasterIsNoticedAndTheNextStartRecovers(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	stop(t, start(t, dir))
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir}) // this one syncs
	if err != nil {
		t.Fatal(err)
	}
	query(t, s.DatabaseURL(), writeNote, fillNote, readNote)
	held, err := pgx.Connect(t.Context(), s.DatabaseURL()) // its backend outlives the postmaster for a moment
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close(t.Context())
	if err := syscall.Kill(postmaster(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	stop(t, s)
	s = start(t, dir)
	if got := query(t, s.DatabaseURL(), readNote); got != "kept" {
		t.Errorf("after kill -9 of the postmaster the note says %q", got)
	}
}

func TestLeftoverPostmasterOfTheDirectoryIsStopped(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	stop(t, start(t, dir))
	data := filepath.Join(dir, "data")
	opts, err := os.ReadFile(filepath.Join(data, "postmaster.opts"))
	if err != nil {
		t.Fatal(err)
	}
	binary, _, _ := strings.Cut(string(opts), " ")
	left := asOwner(t, dir, binary, "-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories="+data)
	storetest.Eventually(t, "the leftover runs", func() bool {
		raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		return err == nil && strings.Contains(string(raw), "ready")
	})
	s := start(t, dir)
	query(t, s.DatabaseURL(), `SELECT 'ok'`)
	storetest.Eventually(t, "the leftover is gone", gone(left.Process.Pid))
}

func TestStalePidFile(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	stop(t, start(t, dir))
	data := filepath.Join(dir, "data")
	bystander := asOwner(t, dir, "sleep", "600")
	ended := asOwner(t, dir, "true")
	storetest.Eventually(t, "true ends", gone(ended.Process.Pid))
	for what, pid := range map[string]int{"a process that ended": ended.Process.Pid, "somebody else's process": bystander.Process.Pid} {
		stale := fmt.Sprintf("%d\n%s\n1700000000\n5432\n\n\n", pid, data)
		if err := os.WriteFile(filepath.Join(data, "postmaster.pid"), []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(data)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(filepath.Join(data, "postmaster.pid"), int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
		s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoSync: true})
		if err != nil {
			t.Fatalf("Start with the pid of %s in the pid file: %v", what, err)
		}
		stop(t, s)
	}
	if gone(bystander.Process.Pid)() {
		t.Error("Start ended a process that is not its own")
	}
}

func TestSecondStartInTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	s := start(t, dir)
	if _, err := embedded.Start(t.Context(), embedded.Config{Dir: dir}); !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Start: %v, want ErrInUse that names %s", err, dir)
	}
	query(t, s.DatabaseURL(), `SELECT 'still there'`)
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(directory(t), strings.Repeat("long/", 30))
	s := start(t, dir)
	query(t, s.DatabaseURL(), `SELECT 'ok'`)
}

func TestPathThatPostgresCannotEnterIsNamed(t *testing.T) {
	t.Parallel()
	private := filepath.Join(directory(t), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(private, "data"), NoSync: true})
	if os.Geteuid() != 0 { // Postgres runs as ourselves, who can
		if err != nil {
			t.Fatal(err)
		}
		stop(t, s)
		return
	}
	if err == nil || !strings.Contains(err.Error(), "cannot enter "+private+" ") {
		t.Errorf("Start: %v, want an error that names %s", err, private)
	}
}

func TestClusterOfAnotherMajorVersionIsRefused(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	stop(t, start(t, dir))
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9.6\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "made by PostgreSQL 9.6") {
		t.Errorf("Start: %v, want an error that names both versions", err)
	}
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: directory(t), Binaries: t.TempDir()})
	if !errors.Is(err, embedded.ErrNoBinaries) {
		t.Errorf("Start: %v, want ErrNoBinaries", err)
	}
}
