package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

// watchedEnvironment is the one that applications follow.
const watchedEnvironment = "staging"

// Applications are SDKs in a process of their own.
type Applications struct {
	// Before is what the process held before it had any.
	Before held

	cmd    *exec.Cmd
	lines  chan []byte
	stderr bytes.Buffer
	mu     sync.Mutex // one question at a time
	in     io.WriteCloser
}

// Follow starts n applications behind a balancer, and waits until all have
// flags.
func (c *Cluster) Follow(ctx context.Context, n int) (*Applications, error) {
	f, err := c.Balance(ctx)
	if err != nil {
		return nil, err
	}
	return c.Applications(ctx, crowd{Groups: []group{{Name: "balanced", URL: f.url(), N: n}}})
}

// Applications starts applications as described, with the cluster's key if they
// have none, and waits until all have flags.
func (c *Cluster) Applications(ctx context.Context, all crowd) (*Applications, error) {
	if err := c.publishAlways(ctx); err != nil {
		return nil, err
	}
	a, err := c.LaunchApplications(ctx, all)
	if err != nil {
		return nil, err
	}
	return a, a.Await(ctx, "all applications have flags", func(h heard, n int) bool { return h.Ready == n })
}

// publishAlways makes the flag that applications read, and waits until all
// servers have it.
func (c *Cluster) publishAlways(ctx context.Context) error {
	if c.published {
		return nil
	}
	c.published = true
	revisions, err := c.try(ctx, c.Pick(0), apply(setFlag(watchedEnvironment, always, 1), watchedEnvironment))
	if err != nil {
		return err
	}
	revision := revisions[watchedEnvironment]
	for _, s := range c.Alive() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		client := guidonv1connect.NewEnvironmentServiceClient(c.http, s.URL, c.keyed())
		for held := int64(0); held < revision; {
			res, err := client.Get(ctx, &guidonv1.EnvironmentServiceGetRequest{Name: watchedEnvironment})
			if err != nil {
				return err
			}
			if held = res.GetEnvironment().GetRevision(); held < revision {
				if err := pause(ctx, 10*time.Millisecond); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// LaunchApplications is Applications without the wait.
func (c *Cluster) LaunchApplications(ctx context.Context, all crowd, environment ...string) (*Applications, error) {
	key, err := c.serverKey(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all.Groups {
		all.Groups[i].Key = cmp.Or(all.Groups[i].Key, key)
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &Applications{lines: make(chan []byte)}
	a.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, applicationsCommand)
	a.cmd.Env = append(os.Environ(), environment...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for torture alone
	a.cmd.Stderr = &a.stderr
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	c.applications = append(c.applications, a)
	go a.hear(out)
	first, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	a.Before, err = a.ask(ctx, string(first))
	return a, err
}

// hear passes the answers on, and waits for the end.
func (a *Applications) hear(out io.Reader) {
	defer close(a.lines)
	answers := bufio.NewReader(out)
	for {
		line, err := answers.ReadBytes('\n')
		if err != nil {
			_ = a.cmd.Wait() // what it printed says why it ended
			return
		}
		a.lines <- line
	}
}

// ask sends a line and waits for the answer.
func (a *Applications) ask(ctx context.Context, line string) (h held, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := io.WriteString(a.in, line+"\n"); err != nil {
		return h, errors.Join(err, a.ended())
	}
	select {
	case answer, ok := <-a.lines:
		if !ok {
			return h, a.ended()
		}
		return h, json.Unmarshal(answer, &h)
	case <-ctx.Done():
		return h, ctx.Err()
	case <-time.After(patience):
		return h, fmt.Errorf("the applications' process does not answer within %v", patience)
	}
}

func (a *Applications) ended() error {
	<-a.lines // closed once what it printed is there
	return fmt.Errorf("the applications' process ended: %s", bytes.TrimSpace(a.stderr.Bytes()))
}

// Report says what the applications hold; Mark also begins to count anew.
func (a *Applications) Report(ctx context.Context) (held, error) { return a.ask(ctx, "report") }

// Mark ends a phase: see [Applications.Report].
func (a *Applications) Mark(ctx context.Context) (held, error) { return a.ask(ctx, "mark") }

// Await waits until a condition holds for each group, which has so many
// applications.
func (a *Applications) Await(ctx context.Context, what string, holds func(h heard, n int) bool) error {
	_, err := a.When(ctx, what, holds)
	return err
}

// When is Await, and says after which time the condition held for each group.
func (a *Applications) When(ctx context.Context, what string, holds func(h heard, n int) bool) (map[string]time.Duration, error) {
	began, took := time.Now(), map[string]time.Duration{}
	for {
		asked := time.Now()
		now, err := a.Report(ctx)
		if err != nil {
			return took, err
		}
		missing := ""
		for _, h := range now.Groups {
			n := 0
			for _, count := range h.Held {
				n += count
			}
			if _, ok := took[h.Name]; ok {
				continue
			}
			if holds(h, n) {
				took[h.Name] = time.Since(began)
			} else {
				missing = fmt.Sprintf("%s: %d of %d connected, %v, %v", h.Name, h.Connected, n, h.Held, h.Errors)
			}
		}
		if missing == "" {
			return took, nil
		}
		if time.Since(began) > patience {
			return took, fmt.Errorf("waited %v in vain until %s: %s", patience, what, missing)
		}
		// With many applications an answer is work.
		if err := pause(ctx, 10*time.Millisecond+4*time.Since(asked)); err != nil {
			return took, err
		}
	}
}

// at counts the applications that hold a revision.
func (h heard) at(revision int64) (n int) {
	for held, count := range h.Held {
		if strings.HasSuffix(held, fmt.Sprintf(" at %d", revision)) {
			n += count
		}
	}
	return n
}

// kill ends the process without a word.
func (a *Applications) kill() {
	_ = a.cmd.Process.Kill() // it may have ended
	for range a.lines {
		continue // until it has
	}
}

// StopApplications takes a process away for good.
func (c *Cluster) StopApplications(a *Applications) {
	a.kill()
	c.applications = slices.DeleteFunc(c.applications, func(other *Applications) bool { return other == a })
}

// serverKey is what applications connect with.
func (c *Cluster) serverKey(ctx context.Context) (string, error) {
	if c.sdkKey != "" {
		return c.sdkKey, nil
	}
	db, err := c.open(ctx)
	if err != nil {
		return "", err
	}
	defer db.Close()
	_, key, err := db.CreateKey(ctx, store.NewKey{Kind: store.KeyServer, Environment: watchedEnvironment, Name: "torture", Actor: "torture"})
	c.sdkKey = key.Reveal()
	return c.sdkKey, err
}
