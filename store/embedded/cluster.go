package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// prepare makes the directory, checks that the account can get to it, and
// returns its absolute path without symbolic links.
func prepare(dir string, who account) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := makeDir(dir); err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if !who.change {
		return dir, nil
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", fmt.Errorf("%s is not a directory", at)
		}
		if !who.mayEnter(info) {
			return "", fmt.Errorf("account %s, which runs Postgres, cannot enter %s (mode %v): choose another directory, or chmod o+x %[2]s",
				who.name, at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return dir, nil
		}
	}
}

// makeDir makes a directory and those above it that are not there. What is
// kept inside is private; the account must get through to it, whatever the
// umask says.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // to get through is not to look
}

// initCluster makes the cluster if there is none. It is made beside its place
// and moved there when whole, so that a kill leaves no half of one.
func initCluster(ctx context.Context, bin, data string, who account, noSync bool) error {
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return sameVersion(ctx, bin, data)
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there but is no cluster: %w", data, err)
	}
	// Each try has a directory of its own, since an initdb whose parent was
	// killed may still write to the last one for a moment. What cannot be
	// removed yet is removed by a later start.
	left, _ := filepath.Glob(data + ".new-*")
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
	making, err := os.MkdirTemp(filepath.Dir(data), filepath.Base(data)+".new-")
	if err != nil {
		return err
	}
	if err := who.own(making); err != nil {
		return err
	}
	// trust: who can open the socket may do anything, and the directory of the
	// socket lets in nobody else.
	args := []string{"-D", making, "-U", role, "--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject", "--no-instructions"}
	if noSync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir = making
	cmd.SysProcAttr = who.attributes()
	dieWithParent(cmd.SysProcAttr)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(making, data)
}

// sameVersion refuses binaries of another major version than the cluster's.
func sameVersion(ctx context.Context, bin, data string) error {
	want, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return fmt.Errorf("postgres --version: %w", err)
	}
	major := strings.TrimSpace(string(want))
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.14 (Debian …)
	if len(fields) < 3 || fields[2] != major && !strings.HasPrefix(fields[2], major+".") {
		return fmt.Errorf("the cluster in %s was made by PostgreSQL %s and %s is %s: install PostgreSQL %[2]s or move the data with pg_dump",
			data, major, bin, strings.TrimSpace(string(out)))
	}
	return nil
}

// socketLimit is what a socket's path may have on every system, the name that
// Postgres gives it included: sun_path holds 104 bytes on macOS, 108 on Linux.
const socketLimit = 103

// socketDir makes a private directory for the socket: in dir, or, if that
// makes the path too long, under the system's directory for temporary files
// with a name that follows from dir.
func socketDir(dir string, who account) (string, error) {
	socket := filepath.Join(dir, "run")
	if len(socket)+len("/.s.PGSQL.5432.lock") > socketLimit {
		sum := sha256.Sum256([]byte(dir))
		socket = fmt.Sprintf("/tmp/guidon-%d-%x", os.Geteuid(), sum[:8])
	}
	// A directory of that name that somebody else made is removed or, if it
	// cannot be, refused.
	if err := os.RemoveAll(socket); err != nil {
		return "", err
	}
	if err := os.Mkdir(socket, 0o700); err != nil {
		return "", err
	}
	return socket, who.own(socket)
}
