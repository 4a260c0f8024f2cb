package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
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
		{conflict, "conflict, nothing was changed: staging is at revision 6, expected 4\n  changed meanwhile: flag banner"},
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
