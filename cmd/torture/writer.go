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
// environments in turn, and ask again under the same idempotency key until they
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
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-w.stop:
			return
		default:
		}
		environment := w.environments[(writer+i)%len(w.environments)]
		req := setFlag(environment, fmt.Sprintf("writer-%d", writer), int64(i))
		req.IdempotencyKey = fmt.Sprintf("%d-%d-%d", w.cluster.settings.seed, writer, i)
		if _, err := w.cluster.Settle(ctx, writer+i, req, environment, &w.retried); err == nil {
			w.acked.Add(1)
		}
		if w.pause > 0 {
			select {
			case <-w.stop:
			case <-time.After(w.pause):
			}
		}
	}
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
	return c.settle(ctx, pick, 0, req, watchedEnvironment, new(atomic.Int64))
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

// Settle applies a change until it is acknowledged or refused, and notes what
// happened. n says which server to ask first.
func (c *Cluster) Settle(ctx context.Context, n int, req *guidonv1.ChangeServiceApplyRequest, environment string, retried *atomic.Int64) (int64, error) {
	return c.settle(ctx, c.Pick, n, req, environment, retried)
}

// settle is Settle, with servers picked in another way.
func (c *Cluster) settle(
	ctx context.Context, pick func(int) *Server, n int, req *guidonv1.ChangeServiceApplyRequest, environment string, retried *atomic.Int64,
) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	e := event{Type: "invoke", Key: req.GetIdempotencyKey(), Environment: environment}
	c.History.add(e)
	for try := 0; ; try++ {
		revision, err := c.apply(ctx, pick(n+try), req, environment)
		if err == nil {
			e.Type, e.Revision = "ok", revision
		} else if e.Error = err.Error(); refused(err) {
			e.Type = "fail"
		} else if ctx.Err() != nil {
			e.Type = "unknown"
		}
		if e.Type != "invoke" {
			c.History.add(e)
			return revision, err
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

func (c *Cluster) apply(ctx context.Context, s *Server, req *guidonv1.ChangeServiceApplyRequest, environment string) (int64, error) {
	if s == nil {
		return 0, errNoServer
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.callTimeout, callTimeout))
	defer cancel()
	began := time.Now()
	res, err := guidonv1connect.NewChangeServiceClient(c.http, s.URL, c.keyed()).Apply(ctx, req)
	s.told(err, time.Since(began))
	return res.GetRevisions()[environment], err
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
