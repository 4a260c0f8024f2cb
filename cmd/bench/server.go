package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

// servers are the processes under measurement.
type servers struct {
	binary, data string
	dev          *exec.Cmd
	serve        *exec.Cmd
	address      string // of serve
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
}

const environment = "development"

// start starts both and waits until they are ready.
func start(ctx context.Context, binary, data string) (*servers, error) {
	if err := os.RemoveAll(data); err != nil { //nolint:gosec // of what this program starts
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
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *servers) begin(ctx context.Context) error {
	s.key = s.ready.Keys.Development.Server
	s.changes = guidonv1connect.NewChangeServiceClient(http.DefaultClient, s.ready.URL, connect.WithInterceptors(bearer(s.ready.Keys.Admin)))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	if _, err := s.change(ctx); err != nil {
		return err
	}
	return s.startServe(ctx)
}

// command is a process that ends with this one.
func (s *servers) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...) //nolint:gosec,noctx // it is ended by stop
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = os.Stderr
	return cmd
}

func (s *servers) startServe(ctx context.Context) error {
	s.serve = s.command("serve", "--listen", s.address, "--database-url", s.ready.DatabaseURL,
		"--master-key-file", filepath.Join(s.data, "master.key"), "--log-level", "error")
	if err := s.serve.Start(); err != nil {
		return err
	}
	return eventually(ctx, time.Minute, "guidon serve is ready", func() bool {
		response, err := http.Get("http://" + s.address + "/readyz") //nolint:noctx,gosec // a moment, on this machine
		if err != nil {
			return false
		}
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode == http.StatusOK
	})
}

// kill ends serve as a crash does.
func (s *servers) kill() {
	_ = s.serve.Process.Kill()
	_ = s.serve.Wait() // it was killed
}

func (s *servers) stop() error {
	if s.serve != nil {
		s.kill()
	}
	_ = s.dev.Process.Signal(syscall.SIGTERM)
	return errors.Join(s.dev.Wait(), os.RemoveAll(s.data)) //nolint:gosec // of what this program starts
}

// change flips a flag and returns the new revision.
func (s *servers) change(ctx context.Context) (int64, error) {
	s.on = !s.on
	variant := "off"
	if s.on {
		variant = "on"
	}
	operation := &guidonv1.Operation{Operation: &guidonv1.Operation_SetDefaultVariant{
		SetDefaultVariant: &guidonv1.SetDefaultVariant{Environment: environment, Key: "bench", Variant: variant},
	}}
	res, err := s.changes.Apply(ctx, &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{operation}})
	if connect.CodeOf(err) == connect.CodeNotFound || connect.CodeOf(err) == connect.CodeInvalidArgument {
		res, err = s.changes.Apply(ctx, &guidonv1.ChangeServiceApplyRequest{Operations: []*guidonv1.Operation{definition()}})
	}
	if err != nil {
		return 0, err
	}
	return res.GetRevisions()[environment], nil
}

// metric is the sum of a counter of serve.
func (s *servers) metric(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/metrics", nil) //nolint:gosec // of what this program starts
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

// usage is what serve holds, in bytes, and the time it has computed.
func (s *servers) usage() (rss int64, cpu time.Duration, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.serve.Process.Pid)) //nolint:gosec // of what this program starts
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0, 0, err
			}
			rss = kb << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.serve.Process.Pid)) //nolint:gosec // of what this program starts
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	for _, ticks := range fields[11:13] { // user and system time, in hundredths of a second
		n, err := strconv.ParseInt(ticks, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(n) * 10 * time.Millisecond
	}
	return rss, cpu, nil
}
