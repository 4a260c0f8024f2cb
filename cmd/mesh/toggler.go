package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

// A toggler changes flags through Guidon's API, as an admin would.
type toggler struct {
	changes      guidonv1connect.ChangeServiceClient
	environments guidonv1connect.EnvironmentServiceClient
	mu           sync.Mutex
	chance       *rand.Rand
}

func newToggler(client *http.Client, g *guidonServer, seed uint64) *toggler {
	as := connect.WithInterceptors(auth.Bearer(g.admin))
	return &toggler{
		changes:      guidonv1connect.NewChangeServiceClient(client, g.url, as),
		environments: guidonv1connect.NewEnvironmentServiceClient(client, g.url, as),
		chance:       rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // repeatable, not secret
	}
}

// Start makes everything that is not late.
func (t *toggler) Start(ctx context.Context) error {
	operations := []*guidonv1.Operation{putSegment(t.chance), putSettings(t.chance)}
	for _, f := range flags {
		if !f.late {
			operations = append(operations, f.put(t.chance))
		}
	}
	return t.apply(ctx, operations...)
}

// togglers is how many changes may be on their way at the same time: the rate is
// held even where one takes longer than the time between two.
const togglers = 8

// warmUp is how many changes come before the first request.
const warmUp = 20

// Run makes rate changes a second until ctx ends, and returns how many. It closes
// warm after the first few.
func (t *toggler) Run(ctx context.Context, rate int, warm chan<- struct{}) (int, error) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var g errgroup.Group
	g.SetLimit(togglers)
	for n := 0; ; n++ {
		if n == warmUp {
			close(warm)
		}
		select {
		case <-ctx.Done():
			return n, g.Wait()
		case <-tick.C:
		}
		operation := t.next()
		// One that has begun is finished.
		g.Go(func() error { return t.apply(context.WithoutCancel(ctx), operation) })
	}
}

func (t *toggler) next() *guidonv1.Operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch luck := t.chance.IntN(100); {
	case luck < 1:
		return putSettings(t.chance)
	case luck < 9:
		return putSegment(t.chance)
	default:
		f := pick(t.chance, flags)
		for f.late && t.chance.IntN(10) > 0 {
			f = pick(t.chance, flags)
		}
		return f.put(t.chance)
	}
}

func (t *toggler) apply(ctx context.Context, operations ...*guidonv1.Operation) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := t.changes.Apply(ctx, &guidonv1.ChangeServiceApplyRequest{Reason: "mesh", Operations: operations}); err != nil {
		return fmt.Errorf("toggler: %w", err)
	}
	return nil
}
