package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says where the cluster lives and how it runs.
type Config struct {
	// Dir holds the cluster and everything else this package writes. It is
	// made if it is not there. Required.
	Dir string
	// Binaries is the directory of initdb and postgres. Defaults to the first
	// found on PATH, by pg_config, and in the places where Debian, Red Hat and
	// Homebrew put them.
	Binaries string
	// Account is the user that runs Postgres when this process is root.
	// Defaults to postgres, else nobody.
	Account string
	// NoSync turns fsync off: faster, and a crash of the machine may corrupt
	// the cluster. For tests.
	NoSync bool
	// StartTimeout bounds the start, recovery after a crash included.
	// Defaults to 60s.
	StartTimeout time.Duration
	// Log receives what Postgres says, at Debug. Defaults to discarding.
	Log *slog.Logger
}

const (
	role     = "guidon"
	database = "guidon"
	port     = "5432" // names the socket; nothing listens on a network port
)

// Server is a running Postgres. It is safe for concurrent use.
type Server struct {
	process *process
	socket  string
	lock    *os.File
	stop    sync.Once
	stopErr error
}

// ErrInUse says that another process runs a server in the directory.
var ErrInUse = errors.New("directory is in use by another process")

// Start makes the cluster if there is none and starts it. It returns when the
// server accepts connections. ctx bounds the start only; the server runs until
// Stop or the end of this process.
func Start(ctx context.Context, c Config) (_ *Server, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("embedded postgres: %w", err)
		}
	}()
	if c.Dir == "" {
		return nil, errors.New("no directory given")
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.StartTimeout, time.Minute))
	defer cancel()

	bin, err := findBinaries(ctx, c.Binaries)
	if err != nil {
		return nil, err
	}
	who, err := chooseAccount(c.Account)
	if err != nil {
		return nil, err
	}
	dir, err := prepare(c.Dir, who)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	data := filepath.Join(dir, "data")
	if err := endLeftover(ctx, data); err != nil {
		return nil, err
	}
	if err := initCluster(ctx, bin, data, who, c.NoSync); err != nil {
		return nil, err
	}
	socket, err := socketDir(dir, who)
	if err != nil {
		return nil, err
	}
	args := []string{
		"-D", data,
		"-c", "listen_addresses=",
		"-c", "port=" + port,
		"-c", "unix_socket_directories=" + socket,
		"-c", "unix_socket_permissions=0700",
		"-c", "logging_collector=off",
		"-c", "log_destination=stderr",
		"-c", "timezone=UTC",
		"-c", "max_connections=300",
	}
	if c.NoSync {
		args = append(args, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	} else {
		args = append(args, "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on")
	}
	s := &Server{socket: socket, lock: lock}
	for {
		if s.process, err = startProcess(filepath.Join(bin, "postgres"), args, data, who, c.Log); err != nil {
			return nil, err
		}
		if err = s.ready(ctx); err == nil {
			return s, nil
		}
		words := s.process.lastWords()
		if endErr := s.process.end(); endErr != nil {
			return nil, endErr
		}
		// After a kill -9 of the postmaster alone its backends need a moment
		// to notice and end.
		if ctx.Err() != nil || !strings.Contains(words, "is still in use") {
			return nil, err
		}
	}
}

// DatabaseURL is where clients of this machine reach the database: a unix
// socket that only root and the account of the server can open.
func (s *Server) DatabaseURL() string { return s.url(database) }

func (s *Server) url(name string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + name}
	u.RawQuery = url.Values{"host": {s.socket}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Stop ends the server: open transactions are rolled back, everything
// committed is on disk. Calls after the first return what the first one did.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		s.stopErr = s.process.end()
		if err := os.RemoveAll(s.socket); s.stopErr == nil && err != nil {
			s.stopErr = err
		}
		s.lock.Close()
	})
	return s.stopErr
}

// ready waits until the server answers and makes the database if there is none.
func (s *Server) ready(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.url("postgres"))
		if err == nil {
			defer conn.Close(context.WithoutCancel(ctx))
			return createDatabase(ctx, conn)
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("postgres ended while starting: %s", s.process.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w: %s", err, s.process.lastWords())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// createDatabase makes the database if there is none. A standby has it already,
// and takes no such command.
func createDatabase(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there)
	if err == nil && !there {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	}
	return err
}

// lockFile keeps a second process off the directory. The kernel lets go of the
// lock when this process ends, however it ends; Postgres does not inherit it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), ErrInUse)
	}
	return f, nil
}
