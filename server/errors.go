package server

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/fleet"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/relay"
	"github.com/guidon-flags/guidon/store"
)

var (
	// errDraining ends the streams of a server that stops.
	errDraining = errors.New("this server is stopping; connect again")
	// errFull refuses a stream that is one too many.
	errFull = errors.New("this server has as many streams as it holds; connect again, to another if there is one")
	// errStalled ends a stream whose client does not read.
	errStalled = errors.New("the client did not read in time")
)

// codes says how each error leaves the server; the first match counts. With a
// text, that is all the caller learns: the error itself holds what is for the
// operator. What is not in the table is Internal, with a fixed text.
var codes = []struct {
	err  error
	code connect.Code
	text string
}{
	{auth.ErrNoPrincipal, connect.CodeUnauthenticated, ""},
	{auth.ErrDenied, connect.CodePermissionDenied, ""},
	{store.ErrConflict, connect.CodeAborted, ""},
	{store.ErrBusy, connect.CodeUnavailable, store.ErrBusy.Error() + "; try again"},
	{store.ErrUnknownDurability, connect.CodeUnavailable, store.ErrUnknownDurability.Error()},
	{store.ErrUnknownOutcome, connect.CodeUnavailable, store.ErrUnknownOutcome.Error()},
	{store.ErrNotReplicated, connect.CodeUnavailable, ""},
	{store.ErrSlow, connect.CodeDeadlineExceeded, store.ErrSlow.Error()},
	{relay.ErrLost, connect.CodeUnavailable, relay.ErrLost.Error()},
	{store.ErrUnavailable, connect.CodeUnavailable, "the database cannot be reached now"},
	{store.ErrContended, connect.CodeUnavailable, ""},
	{hub.ErrNotReady, connect.CodeUnavailable, "this server has not read its flags yet"},
	{hub.ErrBehind, connect.CodeUnavailable, ""},
	{hub.ErrUnknownEnvironment, connect.CodeNotFound, ""},
	{store.ErrRevisionAhead, connect.CodeNotFound, ""},
	{store.ErrRevisionLost, connect.CodeNotFound, ""},
	{store.ErrRevisionCollected, connect.CodeNotFound, ""},
	{store.ErrNotRecovered, connect.CodeUnavailable, ""},
	{store.ErrRecovered, connect.CodeFailedPrecondition, ""},
	{errUnknownService, connect.CodeNotFound, ""},
	{store.ErrNotFound, connect.CodeNotFound, ""},
	{store.ErrExists, connect.CodeAlreadyExists, ""},
	{store.ErrKeyReused, connect.CodeAlreadyExists, ""},
	{store.ErrArchived, connect.CodeFailedPrecondition, ""},
	{store.ErrPierceNever, connect.CodeFailedPrecondition, ""},
	{store.ErrArchivedEnvironment, connect.CodeFailedPrecondition, ""},
	{store.ErrArchivedProject, connect.CodeFailedPrecondition, ""},
	{store.ErrNotArchived, connect.CodeFailedPrecondition, ""},
	{store.ErrInUse, connect.CodeFailedPrecondition, ""},
	{store.ErrNotOverridable, connect.CodeFailedPrecondition, ""},
	{eval.ErrInvalid, connect.CodeInvalidArgument, ""},
	{errTooMany, connect.CodeResourceExhausted, ""},
	{errVerifying, connect.CodeResourceExhausted, ""},
	{errDraining, connect.CodeUnavailable, ""},
	{errFull, connect.CodeUnavailable, ""},
	{fleet.ErrBehind, connect.CodeInvalidArgument, ""},
	{errStalled, connect.CodeResourceExhausted, ""},
	{context.Canceled, connect.CodeCanceled, "the call was canceled"},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "the call took too long"},
}

// answer turns err into what the caller of c sees. It notes on the call what
// the operator should see.
func answer(c *call, err error) *connect.Error {
	if err == nil {
		return nil
	}
	if connect.IsNotModifiedError(err) {
		known, _ := errors.AsType[*connect.Error](err)
		return known // which is an answer, and a good one
	}
	c.err = err
	if known, ok := errors.AsType[*connect.Error](err); ok {
		c.code = known.Code() // what Connect itself found wrong with a request
		return known
	}
	for _, row := range codes {
		if !errors.Is(err, row.err) {
			continue
		}
		if row.text != "" {
			err = errors.New(row.text)
		}
		if row.err == store.ErrUnavailable && auth.Writes(c.procedure) { //nolint:errorlint // which row it is
			err = fmt.Errorf("%w; a change that was under way may have been made: repeat it with the same idempotency key", err)
		}
		c.code = row.code
		out := connect.NewError(row.code, err)
		if refused, ok := errors.AsType[*refusedError](c.err); ok {
			out.Meta().Set("Retry-After", refused.retryAfter())
		}
		if errors.Is(c.err, store.ErrBusy) {
			out.Meta().Set("Retry-After", "1")
		}
		for _, message := range details(c.err) {
			if detail, err := connect.NewErrorDetail(message); err == nil {
				out.AddDetail(detail)
			}
		}
		return out
	}
	c.code = connect.CodeInternal
	return connect.NewError(connect.CodeInternal, fmt.Errorf("internal error; request %s", c.requestID))
}

// details returns what a program can read of an error.
func details(err error) []proto.Message {
	if conflict, ok := errors.AsType[*store.ConflictError](err); ok {
		message := &guidonv1.Conflict{
			Environment: conflict.Environment, ExpectedRevision: conflict.Expected, Revision: conflict.Actual,
		}
		for _, row := range conflict.Changed {
			message.Changed = append(message.Changed, &guidonv1.Change{
				Environment: conflict.Environment, Kind: row.Kind.String(), Name: row.Name.Name, Action: string(row.Action),
			})
		}
		return []proto.Message{message}
	}
	if problems := problems(err); len(problems) > 0 {
		return []proto.Message{&guidonv1.Invalid{Problems: problems, More: moreProblems(err)}}
	}
	return nil
}

// moreProblems counts those that problems leaves out.
func moreProblems(err error) int32 {
	if refused, ok := errors.AsType[*store.RefusedError](err); ok {
		return int32(refused.More)
	}
	return 0
}

// problems lists what is wrong with a request.
func problems(err error) []*guidonv1.Problem {
	if refused, ok := errors.AsType[*store.RefusedError](err); ok {
		var out []*guidonv1.Problem
		for _, o := range refused.Operations {
			out = append(out, operationProblems(o)...)
		}
		return out
	}
	if o, ok := errors.AsType[*store.OperationError](err); ok {
		return operationProblems(o)
	}
	if invalid, ok := errors.AsType[*eval.InvalidError](err); ok {
		var out []*guidonv1.Problem
		for _, p := range invalid.Problems {
			out = append(out, &guidonv1.Problem{Operation: -1, Name: p.Name.Name, Path: p.Path, Message: p.Message})
		}
		return out
	}
	if field, ok := errors.AsType[*store.FieldError](err); ok {
		return []*guidonv1.Problem{{Operation: -1, Path: field.Field, Message: field.Message}}
	}
	return nil
}

// operationProblems lists what is wrong with one operation: each problem of
// its definition, or the one cause.
func operationProblems(o *store.OperationError) []*guidonv1.Problem {
	inner := problems(o.Err)
	if len(inner) == 0 {
		inner = []*guidonv1.Problem{{Message: o.Err.Error()}}
	}
	for _, p := range inner {
		p.Operation, p.Environment = int32(o.Index), o.Environment
		if p.Name == "" {
			p.Name = o.Name.Name
		}
		if p.Path == "" {
			p.Path = o.Path
		}
	}
	return inner
}
