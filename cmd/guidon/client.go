package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/spf13/pflag"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/server/auth"
)

const (
	defaultURL = "http://127.0.0.1:8080"
	// maxResponse bounds what a server can make this process hold: a snapshot
	// is the largest answer.
	maxResponse = 256 << 20
	// pageSize is what list commands ask for at a time.
	pageSize = 500
)

// remote holds the flags that say how to reach a server.
type remote struct {
	url     string
	key     string
	timeout time.Duration
}

func (r *remote) register(flags *pflag.FlagSet) {
	flags.StringVar(&r.url, "url", "", "the server (default $GUIDON_URL, then "+defaultURL+")")
	flags.StringVar(&r.key, "key", "", "API key (default $GUIDON_KEY)")
	flags.DurationVar(&r.timeout, "timeout", 30*time.Second, "how long one call to the server may take")
}

// api is the public API as seen by one command.
type api struct {
	changes      guidonv1connect.ChangeServiceClient
	flags        guidonv1connect.FlagServiceClient
	environments guidonv1connect.EnvironmentServiceClient
	evaluation   guidonv1connect.EvaluationServiceClient
	sync         guidonv1connect.SyncServiceClient
	audit        guidonv1connect.AuditServiceClient
	keys         guidonv1connect.KeyServiceClient
	overrides    guidonv1connect.OverrideServiceClient
	headers      guidonv1connect.HeaderServiceClient
	fleet        guidonv1connect.FleetServiceClient
	revisions    guidonv1connect.RevisionServiceClient
	segments     guidonv1connect.SegmentServiceClient
	projects     guidonv1connect.ProjectServiceClient
}

// open returns clients for the server that the flags and the environment name.
// It does not connect: the first call does.
func (r *remote) open() (*api, error) {
	base := cmp.Or(r.url, os.Getenv("GUIDON_URL"), defaultURL)
	if !isURL(base) {
		return nil, usagef("--url %q: want http://HOST:PORT or https://HOST", base)
	}
	if r.timeout <= 0 {
		return nil, usagef("--timeout %v: want more than 0", r.timeout)
	}
	return newAPI(base, cmp.Or(r.key, os.Getenv("GUIDON_KEY")), r.timeout), nil
}

// isURL reports whether a text names a server.
func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func newAPI(base, key string, timeout time.Duration) *api {
	calls := connect.WithInterceptors(auth.Bearer(key), connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return next(ctx, req)
		}
	}))
	limit := connect.WithReadMaxBytes(maxResponse)
	return &api{
		changes:      guidonv1connect.NewChangeServiceClient(http.DefaultClient, base, calls, limit),
		flags:        guidonv1connect.NewFlagServiceClient(http.DefaultClient, base, calls, limit),
		environments: guidonv1connect.NewEnvironmentServiceClient(http.DefaultClient, base, calls, limit),
		evaluation:   guidonv1connect.NewEvaluationServiceClient(http.DefaultClient, base, calls, limit),
		sync:         guidonv1connect.NewSyncServiceClient(http.DefaultClient, base, calls, limit),
		audit:        guidonv1connect.NewAuditServiceClient(http.DefaultClient, base, calls, limit),
		revisions:    guidonv1connect.NewRevisionServiceClient(http.DefaultClient, base, calls, limit),
		segments:     guidonv1connect.NewSegmentServiceClient(http.DefaultClient, base, calls, limit),
		projects:     guidonv1connect.NewProjectServiceClient(http.DefaultClient, base, calls, limit),
		keys:         guidonv1connect.NewKeyServiceClient(http.DefaultClient, base, calls, limit),
		overrides:    guidonv1connect.NewOverrideServiceClient(http.DefaultClient, base, calls, limit),
		headers:      guidonv1connect.NewHeaderServiceClient(http.DefaultClient, base, calls, limit),
		fleet:        guidonv1connect.NewFleetServiceClient(http.DefaultClient, base, calls, limit),
	}
}

// apply sends a change set. Where the answer was lost, it asks again under the
// same idempotency key, so that the change is made once.
func (a *api) apply(ctx context.Context, req *guidonv1.ChangeServiceApplyRequest) (*guidonv1.ChangeServiceApplyResponse, error) {
	if !req.GetDryRun() && req.GetIdempotencyKey() == "" {
		req.IdempotencyKey = uuid.NewString()
	}
	return again(ctx, req, a.changes.Apply)
}

// pages collects the items of all pages, at most limit of them (0: all). more
// says that there are others.
func pages[T any](limit int, page func(size int32, token string) ([]T, string, error)) (items []T, more bool, err error) {
	if limit < 0 {
		return nil, false, usagef("--limit %d: want 0 or more", limit)
	}
	token := ""
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		next, nextToken, err := page(int32(size), token)
		if err != nil {
			return nil, false, err
		}
		items = append(items, next...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nextToken != "" || len(items) > limit, nil
		}
		if nextToken == "" {
			return items, false, nil
		}
		token = nextToken
	}
}

// explain says what went wrong and where, one problem a line.
func explain(err error) string {
	call, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err.Error()
	}
	doing := strings.TrimSuffix(err.Error(), call.Error())
	for _, detail := range call.Details() {
		value, err := detail.Value()
		if err != nil {
			continue // of a newer server; its message says the main thing
		}
		switch d := value.(type) {
		case *guidonv1.Conflict:
			return doing + explainConflict(d)
		case *guidonv1.Invalid:
			return doing + explainInvalid(d)
		}
	}
	switch call.Code() {
	case connect.CodeUnauthenticated:
		return doing + call.Message() + " (give an API key with --key or GUIDON_KEY)"
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
		return doing + "the server does not answer: " + call.Message()
	default:
		return doing + call.Message()
	}
}

func explainConflict(c *guidonv1.Conflict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "conflict, nothing was changed: %s is at revision %d", c.GetEnvironment(), c.GetRevision())
	if c.GetExpectedRevision() != c.GetRevision() { // else rows are in the way, as of a revert
		fmt.Fprintf(&b, ", expected %d", c.GetExpectedRevision())
	}
	for _, change := range c.GetChanged() {
		fmt.Fprintf(&b, "\n  %s meanwhile: %s %s", cmp.Or(change.GetAction(), "changed"), change.GetKind(), cell(change.GetName()))
	}
	if e := c.GetEnvironment(); c.GetExpectedRevision() > 0 && c.GetExpectedRevision() < c.GetRevision() {
		fmt.Fprintf(&b, "\nsee how, while that revision is kept: guidon compare %s@%d %s", e, c.GetExpectedRevision(), e)
	}
	return b.String()
}

func explainInvalid(i *guidonv1.Invalid) string {
	var b strings.Builder
	b.WriteString("refused, nothing was changed")
	for _, p := range i.GetProblems() {
		b.WriteString("\n  " + describe(p))
	}
	if i.GetMore() > 0 {
		fmt.Fprintf(&b, "\n  and %d more", i.GetMore())
	}
	return b.String()
}

// describe puts one problem of a request on one line.
func describe(p *guidonv1.Problem) string {
	var where []string
	if p.GetOperation() >= 0 {
		where = append(where, fmt.Sprintf("operation %d", p.GetOperation()))
	}
	for _, s := range []string{p.GetEnvironment(), p.GetName(), p.GetPath()} {
		if s != "" {
			where = append(where, cell(s))
		}
	}
	return strings.Join(where, " ") + ": " + cell(p.GetMessage())
}
