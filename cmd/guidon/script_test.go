package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// raceOptions keep the race detector from letting each guidon that a test runs
// sleep for a second before it ends.
const raceOptions = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if err := os.Setenv("GORACE", raceOptions); err != nil {
		panic(err)
	}
	if err := os.Setenv("GUIDON_FLAGD_PORTS", "none"); err != nil { // they are there once on a machine
		panic(err)
	}
	testscript.Main(m, map[string]func(){"guidon": main})
}

// TestScript runs testdata/script against the real binary. DATA is a directory
// that Postgres can get to when the tests run as root. Beside the usual
// commands a script has
//
//	ready FILE         wait for the ready file of a guidon dev in the background,
//	                   and set GUIDON_URL, GUIDON_KEY (admin), SERVER_KEY
//	                   (development) and DATABASE_URL from it
//	exits CODE [ARG…]  run guidon ARG… and want that exit code
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			data, err := traversableDir()
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(data) })
			env.Setenv("DATA", data)
			env.Setenv("GORACE", raceOptions)
			env.Setenv("GUIDON_FLAGD_PORTS", "none")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": scriptReady, "exits": scriptExits,
		},
	})
}

// traversableDir makes a directory that others may pass through, as the
// account that runs Postgres for root must; the ones that testing makes are
// private.
func traversableDir() (string, error) {
	dir, err := os.MkdirTemp("", "guidon-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

func scriptReady(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: ready FILE")
	}
	r, err := awaitReadyFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("GUIDON_URL", r.URL)
	ts.Setenv("GUIDON_KEY", r.Keys.admin)
	ts.Setenv("SERVER_KEY", r.Keys.servers["development"])
	ts.Setenv("DATABASE_URL", r.DatabaseURL)
}

// awaitReadyFile waits until the file is there. It is written whole, so what
// it holds the first time it can be opened must be all.
func awaitReadyFile(path string) (ready, error) {
	r := ready{Keys: apiKeys{servers: map[string]string{}}}
	for deadline := time.Now().Add(time.Minute); ; {
		data, err := os.ReadFile(path)
		if err == nil {
			return r, json.Unmarshal(data, &r)
		}
		if time.Now().After(deadline) {
			return r, err
		}
		<-time.After(10 * time.Millisecond)
	}
}

func scriptExits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: exits CODE [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("guidon", args[1:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("guidon %q: exit code %d, want %d", args[1:], code, want)
	}
}
