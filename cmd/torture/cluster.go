package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/migrations"
	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/embedded"
)

// firstEnvironments are made by a migration.
var firstEnvironments = []string{"development", "production", "staging"}

// patience bounds the wait for something to come back after it was broken.
const patience = 90 * time.Second

// Cluster is one Postgres that syncs to disk, servers over it as processes of
// their own, and writers. One goroutine, the scenario's, breaks it.
type Cluster struct {
	settings settings
	// Random is drawn from the seed and the scenario's name.
	Random *rand.Rand
	// History is what writers asked for and were told.
	History *History

	// environments that writers write to.
	environments []string

	dir      string
	volumes  []string // that are mounted below dir
	postgres *embedded.Server
	home     string // of postgres, below dir
	standby  *standby
	url      string
	key      string // of the API
	master   store.MasterKey

	// http asks servers; it believes any certificate, since they are of this
	// machine.
	http *http.Client

	// What is there besides servers, in the order in which it was started.
	applications []*Applications
	fronts       []*front
	networks     []*network
	groups       []string // control groups that were made
	files        []io.Closer
	published    bool   // the flag that applications read
	mayLose      bool   // what was acknowledged, since Postgres may
	sdkKey       string // of applications
	rest         *atRest
	streams      int // of applications that are gone
	ticks        int
	callTimeout  time.Duration // of writers, where it is not the usual one
	heartbeat    time.Duration // of streams

	mu      sync.Mutex
	servers []*Server
	started int
}

// newCluster returns a cluster of nothing, which must be closed even if there
// is an error.
func newCluster(s settings, name string) (*Cluster, error) {
	seed := s.seed
	for _, r := range name {
		seed = seed*31 + uint64(r)
	}
	c := &Cluster{settings: s, environments: firstEnvironments, home: "postgres", heartbeat: 15 * time.Second, Random: rand.New(rand.NewPCG(seed, seed))} //nolint:gosec // draws a test, guards nothing
	var secret [32]byte
	for i := range secret {
		secret[i] = byte(c.Random.Uint32())
	}
	c.master = store.NewMasterKey(secret)
	c.http = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see http
	}}
	var err error
	if c.History, err = newHistory(filepath.Join(s.out, "history-"+name+".jsonl")); err != nil {
		return c, err
	}
	if c.dir, err = os.MkdirTemp("", "guidon-torture-"); err != nil {
		return c, err
	}
	return c, os.Chmod(c.dir, 0o711) //nolint:gosec // Postgres runs as another user and must get through
}

// Begin is Prepare, and starts servers.
func (c *Cluster) Begin(ctx context.Context, servers int) error {
	if err := c.Prepare(ctx); err != nil {
		return err
	}
	for range servers {
		if _, err := c.StartServer(ctx, serving{}); err != nil {
			return err
		}
	}
	return c.noteRest(ctx)
}

// Prepare starts Postgres, and makes the schema and a key.
func (c *Cluster) Prepare(ctx context.Context) error {
	if err := c.StartPostgres(ctx); err != nil {
		return err
	}
	if err := migrations.Up(ctx, c.url); err != nil {
		return err
	}
	db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	_, text, err := db.CreateKey(ctx, store.NewKey{Kind: store.KeyAdmin, Name: "torture", Actor: "torture"})
	c.key = text.Reveal()
	return err
}

// Spread makes environments until there are n, all of which are written to.
func (c *Cluster) Spread(ctx context.Context, n int) error {
	client := guidonv1connect.NewEnvironmentServiceClient(c.http, c.Pick(0).URL, c.keyed())
	for i := len(c.environments); i < n; i++ {
		name := fmt.Sprintf("spread-%d", i)
		if _, err := client.Create(ctx, &guidonv1.EnvironmentServiceCreateRequest{Name: name, Reason: "torture"}); err != nil {
			return err
		}
		c.environments = append(slices.Clone(c.environments), name)
	}
	return nil
}

func (c *Cluster) open(ctx context.Context) (*store.DB, error) {
	return store.Open(ctx, store.Config{DatabaseURL: c.url, MasterKey: c.master})
}

// StartPostgres starts Postgres, again if it was stopped or killed, and waits
// until it takes connections.
func (c *Cluster) StartPostgres(ctx context.Context) (err error) {
	if c.postgres != nil {
		_ = c.postgres.Stop() // gives the directory free
	}
	c.postgres, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(c.dir, c.home), StartTimeout: patience})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.url = c.postgres.DatabaseURL()
	return nil
}

// EndPostgres sends the postmaster a signal that ends it, and waits.
func (c *Cluster) EndPostgres(ctx context.Context, signal syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(c.dir, c.home, "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("postmaster %d: %w", pid, err)
	}
	select {
	case <-c.postgres.Done():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("postmaster %d does not end", pid)
	}
}

// Exec runs SQL as the superuser.
func (c *Cluster) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// DatabaseOverTCP is a front before Postgres, whichever it is, which itself has
// no port.
func (c *Cluster) DatabaseOverTCP(ctx context.Context) (*front, error) {
	return c.Front(ctx, func(ctx context.Context) (net.Conn, error) {
		c.mu.Lock()
		config, err := pgx.ParseConfig(c.url)
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		socket := filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	})
}

// databaseAt is the URL of the database where an address leads to it.
func (c *Cluster) databaseAt(address string) (string, error) {
	config, err := pgx.ParseConfig(c.url)
	if err != nil {
		return "", err
	}
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: address, Path: config.Database,
		RawQuery: "sslmode=disable",
	}).String(), nil
}

// Server is one process of guidon serve.
type Server struct {
	URL string
	// Hit is closed when the server came to its failpoint.
	Hit     chan struct{}
	serving serving
	name    string // to Postgres
	address string
	cmd     *exec.Cmd
	done    chan struct{}
	http    *http.Client
	leaving atomic.Bool // it is asked to stop, and nobody is sent there

	mu      sync.Mutex
	answers map[string]int // to writers, by code
	slowest time.Duration
}

// serving is how a server is started, where that is not as usual.
type serving struct {
	// failpoint is one such as "after-lock=exit@3".
	failpoint string
	// address to listen on; empty for a free one.
	address string
	// database is where Postgres is reached.
	database string
	// apart says that writers do not use it.
	apart bool
	// tls is a directory with cert.pem and key.pem; empty for none.
	tls string
	// arguments and environment are further ones; wrap is a program that runs it.
	arguments, environment, wrap []string
}

// StartServer starts a server and waits until it is ready.
func (c *Cluster) StartServer(ctx context.Context, how serving) (*Server, error) {
	s, err := c.LaunchServer(ctx, how)
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// LaunchServer is StartServer without the wait.
func (c *Cluster) LaunchServer(ctx context.Context, how serving) (*Server, error) {
	if how.address == "" {
		var err error
		if how.address, err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	scheme := "http"
	arguments := []string{
		"serve", "--listen", how.address, "--database-url", cmp.Or(how.database, c.url), "--heartbeat", c.heartbeat.String(),
	}
	if how.tls != "" {
		scheme = "https"
		arguments = append(arguments, "--tls-cert", filepath.Join(how.tls, "cert.pem"), "--tls-key", filepath.Join(how.tls, "key.pem"))
	}
	s := &Server{
		URL: scheme + "://" + how.address, Hit: make(chan struct{}), serving: how, address: how.address, http: c.http,
		done: make(chan struct{}), answers: map[string]int{},
	}
	command := append(append(slices.Clone(how.wrap), c.settings.guidon), append(arguments, how.arguments...)...)
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...)
	c.mu.Lock()
	c.started++
	s.name = fmt.Sprintf("guidon-%d", c.started)
	c.servers = append(c.servers, s)
	c.mu.Unlock()
	s.cmd.Env = append(os.Environ(), append([]string{
		"GUIDON_MASTER_KEY=" + c.master.Text(), "GUIDON_FAILPOINT=" + how.failpoint, "PGAPPNAME=" + s.name,
	}, how.environment...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for torture alone
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go s.watch(stderr)
	return s, nil
}

func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// watch waits for the failpoint's line, and for the end.
func (s *Server) watch(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	hit := false
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "failpoint ") && !hit {
			hit = true
			close(s.Hit)
		}
	}
	_, _ = io.Copy(io.Discard, stderr)
	_ = s.cmd.Wait() // how it ended does not matter
	close(s.done)
}

func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
		if err != nil {
			return err
		}
		if response, err := s.http.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.done:
			return errors.New("a server ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("a server is not ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hit reports whether a server came to its failpoint.
func (s *Server) hit() bool {
	select {
	case <-s.Hit:
		return true
	default:
		return false
	}
}

// Kill ends a server with kill -9 and waits.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}

// Alive reports whether a server runs.
func (s *Server) Alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// StopServer takes a server away for good.
func (c *Cluster) StopServer(s *Server) {
	s.Kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.servers {
		if other == s {
			c.servers = append(c.servers[:i:i], c.servers[i+1:]...)
			return
		}
	}
}

// Pick returns a server that runs, stays and is for everybody, by number; nil if
// none does.
func (c *Cluster) Pick(n int) *Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.servers {
		if s := c.servers[(n+i)%len(c.servers)]; s.Alive() && !s.serving.apart && !s.leaving.Load() {
			return s
		}
	}
	return nil
}

// Alive are the servers that run.
func (c *Cluster) Alive() (alive []*Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.Alive() {
			alive = append(alive, s)
		}
	}
	return alive
}

func (c *Cluster) close() {
	for _, a := range c.applications {
		a.kill()
	}
	for _, s := range c.servers {
		if s.cmd.Process != nil {
			s.Kill()
		}
	}
	for _, f := range c.files {
		_ = f.Close() // whatever it was
	}
	for _, dir := range c.groups {
		_ = os.Remove(dir) // empty, now that its server is gone
	}
	for _, n := range c.networks {
		n.close()
	}
	for _, f := range c.fronts {
		f.close()
	}
	c.http.CloseIdleConnections()
	if c.postgres != nil {
		_ = c.postgres.Stop() // it may have ended
	}
	if c.standby != nil {
		_ = c.standby.server.Stop()
	}
	if c.History != nil {
		_ = c.History.close()
	}
	for _, path := range c.volumes {
		_ = unmount(path)
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}
