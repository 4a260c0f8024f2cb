package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

// replica is a `guidon serve`.
type replica struct {
	cmd     *exec.Cmd
	address string
}

// servers are the processes under measurement.
type servers struct {
	binary, data string
	dev          *exec.Cmd
	serves       []*replica
	ready        struct {
		URL         string `json:"url"`
		DatabaseURL string `json:"databaseUrl"`
		Keys        struct {
			Admin       string `json:"admin"`
			Development struct {
				Server string `json:"server"`
			} `json:"development"`
		} `json:"keys"`
	}
	key     string // of the environment
	changes guidonv1connect.ChangeServiceClient
	on      bool
	newest  int64 // revision
}

const environment = "development"

// start starts them and waits until they are ready, with so many flags.
func start(ctx context.Context, binary, data string, replicas, flags int) (*servers, error) {
	if err := makeAnew(data); err != nil {
		return nil, err
	}
	s := &servers{binary: binary, data: data}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("guidon-bench-%d.json", os.Getpid()))
	defer func() { _ = os.Remove(file) }()
	s.dev = s.command("dev", "--data", data, "--listen", "127.0.0.1:0", "--ready-file", file)
	if err := s.dev.Start(); err != nil {
		return nil, err
	}
	err := eventually(ctx, time.Minute, "guidon dev is ready", func() bool {
		content, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(content, &s.ready) == nil && s.ready.URL != ""
	})
	if err == nil {
		err = s.begin(ctx, replicas, flags)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// madeHere is the file by which makeAnew knows a directory that it made.
const madeHere = "made-by-bench"

// makeAnew makes an empty directory where there is none, or one of an earlier
// run. It removes nothing else.
func makeAnew(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == madeHere }):
		return fmt.Errorf("%s holds what this program did not make: name another directory", path)
	}
	//nolint:gosec // it is the operator's, and holds nothing or what we made
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	const passable = 0o711                              // for PostgreSQL's account, whatever the umask says
	if err := os.MkdirAll(path, passable); err != nil { //nolint:gosec // see above
		return err
	}
	//nolint:gosec // see above
	return errors.Join(os.Chmod(path, passable), os.WriteFile(filepath.Join(path, madeHere), nil, 0o600))
}

func (s *servers) begin(ctx context.Context, replicas, flags int) error {
	s.key = s.ready.Keys.Development.Server
	s.changes = guidonv1connect.NewChangeServiceClient(http.DefaultClient, s.ready.URL, connect.WithInterceptors(auth.Bearer(s.ready.Keys.Admin)))
	operations := []*guidonv1.Operation{put("bench", 0)}
	for i := range flags - 1 {
		operations = append(operations, put(fmt.Sprintf("bench-%05d", i), i))
	}
	if err := s.apply(ctx, operations...); err != nil {
		return err
	}
	for range replicas {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		r := &replica{address: l.Addr().String()}
		s.serves = append(s.serves, r)
		if err := l.Close(); err != nil {
			return err
		}
		if err := s.startServe(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// command is a process that ends with this one.
func (s *servers) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...) //nolint:gosec,noctx // it is ended by stop
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	return cmd
}

func (s *servers) startServe(ctx context.Context, r *replica) error {
	r.cmd = s.command("serve", "--listen", r.address, "--database-url", s.ready.DatabaseURL,
		"--master-key-file", filepath.Join(s.data, "master.key"), "--log-level", "error")
	if err := r.cmd.Start(); err != nil {
		return err
	}
	return eventually(ctx, time.Minute, "guidon serve is ready", func() bool {
		response, err := http.Get("http://" + r.address + "/readyz") //nolint:noctx,gosec // a moment, on this machine
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
}

// kill ends a replica as a crash does.
func (r *replica) kill() {
	if r.cmd == nil || r.cmd.Process == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // it was killed
}

func (s *servers) stop() error {
	for _, r := range s.serves {
		r.kill()
	}
	_ = s.dev.Process.Signal(syscall.SIGTERM)
	return errors.Join(s.dev.Wait(), os.RemoveAll(s.data)) //nolint:gosec // of what this program starts
}

func (s *servers) addresses() (all []string) {
	for _, r := range s.serves {
		all = append(all, r.address)
	}
	return all
}

func (s *servers) pids() (all []int) {
	for _, r := range s.serves {
		all = append(all, r.cmd.Process.Pid)
	}
	return all
}

// memory is what all replicas hold, in bytes.
func (s *servers) memory() (total int64, err error) {
	for _, pid := range s.pids() {
		h, err := memory(pid)
		if err != nil {
			return 0, err
		}
		total += h.rss
	}
	return total, nil
}

// put makes a flag with a rule, like many.
func put(key string, i int) *guidonv1.Operation {
	flag, err := structpb.NewStruct(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
		"targeting": map[string]any{"if": []any{
			map[string]any{"in": []any{map[string]any{"var": "targetingKey"}, []any{"somebody", fmt.Sprintf("customer-%d", i)}}}, "on",
		}},
	})
	if err != nil {
		panic(err) // it is made of what a Struct can hold
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{
		PutFlag: &guidonv1.PutFlag{Environment: environment, Key: key, Definition: flag},
	}}
}

// change flips the default of one flag.
func (s *servers) change(ctx context.Context) error {
	s.on = !s.on
	variant := "off"
	if s.on {
		variant = "on"
	}
	return s.apply(ctx, &guidonv1.Operation{Operation: &guidonv1.Operation_SetDefaultVariant{
		SetDefaultVariant: &guidonv1.SetDefaultVariant{Environment: environment, Key: "bench", Variant: variant},
	}})
}

func (s *servers) apply(ctx context.Context, operations ...*guidonv1.Operation) error {
	res, err := s.changes.Apply(ctx, &guidonv1.ChangeServiceApplyRequest{Operations: operations})
	if err != nil {
		return err
	}
	s.newest = res.GetRevisions()[environment]
	return nil
}

// metric is the sum of a counter of a replica.
func (r *replica) metric(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+"/metrics", http.NoBody) //nolint:gosec // of what this program starts
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // of what this program starts
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			fields := strings.Fields(line)
			n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, err
}
