package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

func TestPages(t *testing.T) {
	t.Parallel()
	// A server that cuts pages shorter than asked for, as one may.
	const total = 1234
	list := func(size int32, token string) ([]int, string, error) {
		start := 0
		for range token {
			start += 400
		}
		end := min(start+min(int(size), 400), total)
		var items []int
		for i := start; i < end; i++ {
			items = append(items, i)
		}
		if end == total {
			return items, "", nil
		}
		return items, token + "x", nil
	}
	for _, test := range []struct {
		limit, want int
		more        bool
	}{
		{limit: 0, want: total},
		{limit: 1, want: 1, more: true},
		{limit: 400, want: 400, more: true},
		{limit: 900, want: 900, more: true},
		{limit: total, want: total},
		{limit: total + 1, want: total},
	} {
		items, more, err := pages(test.limit, list)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) != test.want || more != test.more || !slices.IsSorted(items) {
			t.Errorf("pages(%d) = %d items, more %v; want %d, %v", test.limit, len(items), more, test.want, test.more)
		}
	}

	broken := errors.New("broken")
	_, _, err := pages(0, func(_ int32, token string) ([]int, string, error) {
		if token != "" {
			return nil, "", broken
		}
		return []int{1}, "next", nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("pages with a broken second page: %v, want %v", err, broken)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	invalid := connect.NewError(connect.CodeInvalidArgument, errors.New("raw"))
	addDetail(t, invalid, &guidonv1.Invalid{Problems: []*guidonv1.Problem{
		{Operation: 2, Environment: "staging", Name: "banner", Path: "$.flag.targeting", Message: "unknown operator\n"},
		{Operation: -1, Path: "reason", Message: "is required"},
	}})
	conflict := connect.NewError(connect.CodeAborted, errors.New("raw"))
	addDetail(t, conflict, &guidonv1.Conflict{
		Environment: "staging", ExpectedRevision: 4, Revision: 6,
		Changed: []*guidonv1.Change{{Kind: "flag", Name: "banner"}},
	})
	for _, test := range []struct {
		err  error
		want string
	}{
		{invalid, "refused, nothing was changed\n" +
			"  operation 2 staging banner $.flag.targeting: unknown operator \n" +
			"  reason: is required"},
		{conflict, "conflict, nothing was changed: staging is at revision 6, expected 4\n  changed meanwhile: flag banner\n" +
			"see how, while that revision is kept: guidon compare staging@4 staging"},
		{
			connect.NewError(connect.CodeUnauthenticated, errors.New("not authenticated")),
			"not authenticated (give an API key with --key or GUIDON_KEY)",
		},
		{
			connect.NewError(connect.CodeUnavailable, errors.New("connection refused")),
			"the server does not answer: connection refused",
		},
		{fmt.Errorf("shop.json: %w", connect.NewError(connect.CodeInternal, errors.New("request 1"))), "shop.json: request 1"},
		{errors.New("plain"), "plain"},
	} {
		if got := explain(test.err); got != test.want {
			t.Errorf("explain(%v) = %q, want %q", test.err, got, test.want)
		}
	}
}

func addDetail(t *testing.T, err *connect.Error, m proto.Message) {
	t.Helper()
	detail, detailErr := connect.NewErrorDetail(m)
	if detailErr != nil {
		t.Fatal(detailErr)
	}
	err.AddDetail(detail)
}

// changes answers Apply as its function says.
type changes struct {
	guidonv1connect.UnimplementedChangeServiceHandler
	apply func(context.Context, *guidonv1.ChangeServiceApplyRequest) (*guidonv1.ChangeServiceApplyResponse, error)
}

func (c changes) Apply(ctx context.Context, req *guidonv1.ChangeServiceApplyRequest) (*guidonv1.ChangeServiceApplyResponse, error) {
	return c.apply(ctx, req)
}

// A lost answer must not make a change twice: whoever asks again does so under
// the same idempotency key.
func TestApplyAsksAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		code     connect.Code
		failures int
		want     connect.Code
		calls    int
	}{
		{name: "answered", calls: 1},
		{name: "lost once", code: connect.CodeUnavailable, failures: 1, calls: 2},
		{name: "lost for good", code: connect.CodeUnavailable, failures: 9, want: connect.CodeUnavailable, calls: 3},
		{name: "refused", code: connect.CodeInvalidArgument, failures: 9, want: connect.CodeInvalidArgument, calls: 1},
		{name: "conflict", code: connect.CodeAborted, failures: 9, want: connect.CodeAborted, calls: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var keys []string
			mux := http.NewServeMux()
			mux.Handle(guidonv1connect.NewChangeServiceHandler(changes{apply: func(ctx context.Context, req *guidonv1.ChangeServiceApplyRequest) (*guidonv1.ChangeServiceApplyResponse, error) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a call without a deadline")
				}
				if call, _ := connect.CallInfoForHandlerContext(ctx); call.RequestHeader().Get("Authorization") != "Bearer secret" {
					t.Error("a call without the key")
				}
				keys = append(keys, req.GetIdempotencyKey())
				if len(keys) <= test.failures {
					return nil, connect.NewError(test.code, errors.New("no"))
				}
				return &guidonv1.ChangeServiceApplyResponse{}, nil
			}}))
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)

			_, err := newAPI(server.URL, "secret", time.Minute).apply(t.Context(), &guidonv1.ChangeServiceApplyRequest{})
			if test.want == 0 && err != nil || test.want != 0 && connect.CodeOf(err) != test.want {
				t.Errorf("apply: %v, want code %v", err, test.want)
			}
			if len(keys) != test.calls {
				t.Errorf("the server was asked %d times, want %d", len(keys), test.calls)
			}
			if distinct := slices.Compact(keys); len(distinct) != 1 || distinct[0] == "" {
				t.Errorf("idempotency keys %q, want one", distinct)
			}
		})
	}
}
