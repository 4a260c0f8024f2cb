package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

// callTimeout bounds one try of a writer, unless a scenario says otherwise.
const callTimeout = 10 * time.Second

// Writers write until they are told to stop, each its own flag in the
// environments in turn (see next), and ask again under the same idempotency key until they
// know what became of a change.
type Writers struct {
	cluster        *Cluster
	stop           chan struct{}
	running        sync.WaitGroup
	environments   []string
	pause          time.Duration // after each change
	acked, retried atomic.Int64
}

// Write starts writers, numbered from first on: no two of a cluster may have
// the same number. Quiesce ends them.
func (c *Cluster) Write(ctx context.Context, n, first int) *Writers {
	return c.WriteSlowly(ctx, n, first, 0)
}

// WriteSlowly is Write with a pause after each change, and to some environments
// only if they are named.
func (c *Cluster) WriteSlowly(ctx context.Context, n, first int, pause time.Duration, only ...string) *Writers {
	w := &Writers{cluster: c, stop: make(chan struct{}), environments: only, pause: pause}
	if len(only) == 0 {
		w.environments = c.environments
	}
	for i := range n {
		w.running.Go(func() { w.write(ctx, first+i) })
	}
	return w
}

// Quiesce lets each writer find out what became of its last change.
func (w *Writers) Quiesce() {
	close(w.stop)
	w.running.Wait()
}

// Await waits until more changes are acknowledged.
func (w *Writers) Await(ctx context.Context, more int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for want := w.acked.Load() + more; w.acked.Load() < want; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %d acknowledged changes: %w", patience, more, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (w *Writers) write(ctx context.Context, writer int) {
	var last asked
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-w.stop:
			return
		default:
		}
		a := w.next(writer, i, last)
		a.key = fmt.Sprintf("%d-%d-%d", w.cluster.settings.seed, writer, i)
		var err error
		if a.revisions, err = w.cluster.settle(ctx, w.cluster.Pick, writer+i, a, &w.retried); err == nil {
			w.acked.Add(1)
		}
		last = a
		if w.pause > 0 {
			select {
			case <-w.stop:
			case <-time.After(w.pause):
			}
		}
	}
}

// next is the i-th change of a writer. Most set its flag in one environment; the
// others are of all shapes that a change can have, so that each is broken off at
// each of its points sooner or later. The first writer's flag is the probe, the
// value of which is known at each revision.
func (w *Writers) next(writer, i int, last asked) asked {
	key := fmt.Sprintf("writer-%d", writer)
	n := len(w.environments)
	env, other := w.environments[(writer+i)%n], w.environments[(writer+i+1)%n]
	set := setFlag(env, key, int64(i))
	const shapes = 11
	shape := i % shapes
	if writer == 0 && shape != 3 || len(w.environments) < 2 {
		return apply(set, env)
	}
	switch shape {
	case 2:
		from := w.environments[(writer+i-1)%n]
		return asked{chains: []string{env}, call: func(ctx context.Context, key string, client guidonv1connect.ChangeServiceClient) (map[string]int64, error) {
			res, err := client.Promote(ctx, &guidonv1.ChangeServicePromoteRequest{
				Environment: from, To: env, Flags: []string{fmt.Sprintf("writer-%d", writer)}, Reason: "torture", IdempotencyKey: key,
			})
			return res.GetResult().GetRevisions(), err
		}}
	case 3:
		description := fmt.Sprintf("set %d times", i)
		set.Operations = append(set.Operations, setFlag(other, key, int64(i)).GetOperations()...)
		set.Operations = append(set.Operations, &guidonv1.Operation{Operation: &guidonv1.Operation_DescribeFlag{
			DescribeFlag: &guidonv1.DescribeFlag{Key: key, Description: &description},
		}})
		return apply(set, env, other, "")
	case 5:
		set.Operations = []*guidonv1.Operation{{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{
			Environment: env, Name: key, Condition: structpb.NewBoolValue(i/shapes%2 == 0),
		}}}}
		return apply(set, env)
	case 7:
		set.Operations = append(set.Operations, &guidonv1.Operation{Operation: &guidonv1.Operation_KillFlag{
			KillFlag: &guidonv1.KillFlag{Environment: env, Key: key, Variant: "v"},
		}})
		return apply(set, env)
	case 8:
		env = last.chains[0]
		set.Operations = []*guidonv1.Operation{{Operation: &guidonv1.Operation_UnkillFlag{
			UnkillFlag: &guidonv1.UnkillFlag{Environment: env, Key: key},
		}}}
		return apply(set, env)
	case 10:
		env = last.chains[0]
		revision := last.revisions[env]
		return asked{chains: []string{env}, call: func(ctx context.Context, key string, client guidonv1connect.ChangeServiceClient) (map[string]int64, error) {
			res, err := client.Revert(ctx, &guidonv1.ChangeServiceRevertRequest{
				Environment: env, Revision: revision, Reason: "torture", IdempotencyKey: key,
			})
			return res.GetResult().GetRevisions(), err
		}}
	default:
		return apply(set, env)
	}
}

// asked is a change that a writer wants.
type asked struct {
	key       string // idempotency key
	chains    []string
	call      func(ctx context.Context, key string, client guidonv1connect.ChangeServiceClient) (map[string]int64, error)
	revisions map[string]int64 // that it made
}

// apply asks for a change set, which changes these chains.
func apply(req *guidonv1.ChangeServiceApplyRequest, chains ...string) asked {
	return asked{key: req.GetIdempotencyKey(), chains: chains, call: func(ctx context.Context, key string, client guidonv1connect.ChangeServiceClient) (map[string]int64, error) {
		req.IdempotencyKey = key
		res, err := client.Apply(ctx, req)
		return res.GetRevisions(), err
	}}
}

// pause waits, if there is something to wait for.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Tick publishes the moment at which it was asked for, and is noted in the
// history like any other change.
func (c *Cluster) Tick(ctx context.Context, more ...*guidonv1.Operation) (int64, error) {
	return c.tickBy(ctx, nil, more...)
}

// tickBy is Tick by a server, or by any if it is nil.
func (c *Cluster) tickBy(ctx context.Context, s *Server, more ...*guidonv1.Operation) (int64, error) {
	c.ticks++
	req := setFlag(watchedEnvironment, clock, time.Now().UnixMicro())
	req.Operations = append(req.Operations, more...)
	req.IdempotencyKey = fmt.Sprintf("%d-clock-%d", c.settings.seed, c.ticks)
	pick := c.Pick
	if s != nil {
		pick = func(int) *Server { return s }
	}
	revisions, err := c.settle(ctx, pick, 0, apply(req, watchedEnvironment), new(atomic.Int64))
	return revisions[watchedEnvironment], err
}

// setFlag is a change set that gives a flag a value that it never had.
func setFlag(environment, key string, value int64) *guidonv1.ChangeServiceApplyRequest {
	definition, err := structpb.NewStruct(map[string]any{
		"state": "ENABLED", "variants": map[string]any{"v": float64(value)}, "defaultVariant": "v",
	})
	if err != nil {
		panic(err) // it holds nothing else
	}
	return &guidonv1.ChangeServiceApplyRequest{
		Reason: "torture",
		Operations: []*guidonv1.Operation{{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
			Environment: environment, Key: key, Definition: definition,
		}}}},
	}
}

// Settle applies a change to one environment until it is acknowledged or
// refused, and notes what happened. n says which server to ask first.
func (c *Cluster) Settle(ctx context.Context, n int, req *guidonv1.ChangeServiceApplyRequest, environment string, retried *atomic.Int64) (int64, error) {
	revisions, err := c.settle(ctx, c.Pick, n, apply(req, environment), retried)
	return revisions[environment], err
}

// settle is Settle for any change, with servers picked in any way.
func (c *Cluster) settle(ctx context.Context, pick func(int) *Server, n int, a asked, retried *atomic.Int64) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	e := event{Type: "invoke", Key: a.key, Chains: a.chains}
	c.History.add(e)
	for try := 0; ; try++ {
		revisions, err := c.try(ctx, pick(n+try), a)
		if err == nil {
			e.Type, e.Revisions = "ok", revisions
		} else if e.Error = err.Error(); refused(err) {
			e.Type = "fail"
		} else if ctx.Err() != nil {
			e.Type = "unknown"
		}
		if e.Type != "invoke" {
			c.History.add(e)
			return revisions, err
		}
		retried.Add(1)
		e.Error = ""
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

var errNoServer = errors.New("no server runs")

// try asks a server once.
func (c *Cluster) try(ctx context.Context, s *Server, a asked) (map[string]int64, error) {
	if s == nil {
		return nil, errNoServer
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.callTimeout, callTimeout))
	defer cancel()
	began := time.Now()
	revisions, err := a.call(ctx, a.key, guidonv1connect.NewChangeServiceClient(c.http, s.URL, c.keyed()))
	s.told(err, time.Since(began))
	return revisions, err
}

// unanswered is the code of a call whose caller gave up.
const unanswered = "unanswered"

// told notes what a writer was told.
func (s *Server) told(err error, took time.Duration) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	if err != nil && code == connect.CodeDeadlineExceeded.String() && !connect.IsWireError(err) {
		code = unanswered
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[code]++
	s.slowest = max(s.slowest, took)
}

// answered is what writers were told, by code, and how long they waited at most.
func (s *Server) answered() (answers map[string]int, slowest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.answers), s.slowest
}

// forget begins to note anew.
func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers, s.slowest = map[string]int{}, 0
}

// understood reports whether an answer says what a writer can do: a change was
// made, cannot be made, took too long, or is to be asked for again. A server that
// says nothing, or that does not know what is wrong, does not.
func understood(code string) bool {
	switch code {
	case "ok", connect.CodeUnavailable.String(), connect.CodeAborted.String(), connect.CodeResourceExhausted.String(),
		connect.CodeDeadlineExceeded.String():
		return true
	default:
		return false
	}
}

// keyed gives each call the cluster's API key.
func (c *Cluster) keyed() connect.ClientOption {
	return connect.WithInterceptors(auth.Bearer(c.key))
}

// refused reports whether an answer says that nothing was changed. All others
// leave that open.
func refused(err error) bool {
	call, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return false
	}
	switch call.Code() {
	case connect.CodeAborted, connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodePermissionDenied, connect.CodeAlreadyExists:
		return true
	default:
		return false
	}
}
