package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
)

// securityFlags are the flags about the log of refused and failed calls.
type securityFlags struct{ path string }

func (f *securityFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.path, "security-log", "",
		`file to append a line of JSON to for each call that is refused or fails to change something, or "-" for standard output (default $GUIDON_SECURITY_LOG, then the server's own log, with "log":"security")`)
}

// open returns the log that was asked for; nil for the server's own.
func (f *securityFlags) open(stdout io.Writer) (*slog.Logger, error) {
	path := cmp.Or(f.path, os.Getenv("GUIDON_SECURITY_LOG"))
	to := stdout
	switch path {
	case "":
		return nil, nil //nolint:nilnil // the server's own
	case "-":
	default:
		to = appended(path)
		if _, err := to.Write(nil); err != nil {
			return nil, fmt.Errorf("--security-log: %w", err)
		}
	}
	return slog.New(slog.NewJSONHandler(to, nil)), nil
}

// appended is the path of a file that is opened for each line, so that it may be
// moved away at any time.
type appended string

// Write implements [io.Writer].
func (path appended) Write(line []byte) (int, error) {
	file, err := os.OpenFile(string(path), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := file.Write(line)
	return n, errors.Join(err, file.Close())
}
