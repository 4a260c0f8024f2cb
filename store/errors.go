package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// Errors that callers match with errors.Is. Input that cannot be accepted is
// [eval.ErrInvalid], by way of [RefusedError] or [FieldError].
var (
	// ErrNotFound says that a named environment, flag, segment or key does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a flag key belongs to another project, was deleted
	// and is not to be reused, or that a name is taken.
	ErrExists = errors.New("already exists")
	// ErrArchived says that the flag is archived and cannot be edited.
	ErrArchived = errors.New("flag is archived")
	// ErrArchivedEnvironment says that the environment is archived and cannot be
	// written.
	ErrArchivedEnvironment = errors.New("environment is archived")
	// ErrArchivedProject says that the project is archived and takes no flags.
	ErrArchivedProject = errors.New("project is archived")
	// ErrNotArchived says that only an archived flag can be deleted.
	ErrNotArchived = errors.New("flag is not archived")
	// ErrInUse says that others read what was to be archived or deleted. The
	// error is an [*InUseError].
	ErrInUse = errors.New("is in use")
	// ErrNotOverridable says that no override may force the flag.
	ErrNotOverridable = errors.New("flag is not overridable")
	// ErrPierceNever says that no kill may change the flag for requests under way.
	ErrPierceNever = errors.New("the flag's pierce is never: let requests under way drain, and disable it, or change its default, for new roots only")
	// ErrConflict says that an environment is not at the expected revision.
	// The error is a [*ConflictError].
	ErrConflict = errors.New("conflict")
	// ErrKeyReused says that an idempotency key was used for another request.
	ErrKeyReused = errors.New("idempotency key was used for a different change set")
	// ErrRevisionAhead says that a revision above the newest was asked for. A
	// pin can be ahead of what this replica read; nobody may cache the answer.
	ErrRevisionAhead = errors.New("revision is ahead of the newest")
	// ErrRevisionLost says that a revision was published, and then lost with the
	// database's newest commits. Nobody can tell what it held.
	ErrRevisionLost = errors.New("revision was lost in a restore or failover")
	// ErrRevisionCollected says that a revision was superseded for longer than its
	// environment keeps them. What it held may be gone.
	ErrRevisionCollected = errors.New("revision is older than its environment keeps them")
	// ErrNotRecovered says that the database is not where it was left: it was
	// restored, or another server took over, and commits may be missing. Until
	// somebody runs guidon recover nothing is written.
	ErrNotRecovered = errors.New("the database was restored or failed over and may lack commits: run guidon recover")
	// ErrRecovered says that there is nothing to recover from.
	ErrRecovered = errors.New("the database is where it was left: nothing says that commits were lost; use force if they were")
	// ErrUnavailable says that Postgres cannot be reached or cannot answer
	// now. The same request may succeed later.
	ErrUnavailable = errors.New("database unavailable")
	// ErrSlow says that Postgres gave up on a read that took too long. Nothing was
	// changed.
	ErrSlow = errors.New("the database took too long to read this: ask for less, such as a shorter range of time")
	// ErrBusy says that all connections of this process to the database were in
	// use for too long, or that too many changes wait for them. It was not asked,
	// and the same request may succeed later.
	ErrBusy = errors.New("all of this server's connections to the database are in use")
	// ErrNotReplicated says that changes must reach a standby, and the database
	// does not see to that.
	ErrNotReplicated = errors.New("the database does not replicate synchronously, which this server requires")
	// ErrUnknownDurability says that a change was committed, and Postgres could
	// not wait until a standby had it: a failover may lose it.
	ErrUnknownDurability = errors.New("the change is made, but it is not known to have reached a standby, and may be lost in a failover: repeat it with the same idempotency key")
	// ErrUnknownOutcome says that the caller left while its change was carried out,
	// which may go on.
	ErrUnknownOutcome = errors.New("the call ended while the change was being made, which may go on: repeat it with the same idempotency key to learn what became of it")
	// ErrContended says that the locks of the environments could not be had
	// in five tries. Nothing was changed.
	ErrContended = errors.New("too many changes at once")
)

// ConflictError says what happened to an environment since the revision the
// actor saw. It matches [ErrConflict].
type ConflictError struct {
	Environment      string
	Expected, Actual int64
	// Changed names what was written after Expected, at most 100 names,
	// sorted. Empty if Expected is ahead of Actual.
	Changed []ConflictingRow
}

// ConflictingRow is a row that was written meanwhile, and what became of it:
// created, changed or deleted.
type ConflictingRow struct {
	eval.Name
	Action ChangeAction
}

// rowAction says what became of a row that was there before, is there after, or
// both.
func rowAction(before, after bool) ChangeAction {
	switch {
	case !after:
		return ActionDeleted
	case !before:
		return ActionCreated
	}
	return ActionChanged
}

func (e *ConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "environment %.128q is at revision %d, expected %d", e.Environment, e.Actual, e.Expected)
	for i, n := range e.Changed {
		if i == 0 {
			b.WriteString("; changed meanwhile: ")
		} else {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s", n.Kind, n.Name.Name)
	}
	return b.String()
}

// Is reports whether target is ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// OperationError says what is wrong with one operation of a change set.
type OperationError struct {
	// Index counts from 0.
	Index int
	// Environment is empty for an operation on all of them.
	Environment string
	Name        eval.Name
	// Path is a JSON path into the document, "$.flag.targeting.if[0]", or the
	// name of the operation's field. May be empty.
	Path string
	// Err is the cause: one of the sentinels of this package or eval.ErrInvalid.
	Err error
}

func (e *OperationError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "operation %d", e.Index)
	if e.Name.Name != "" {
		fmt.Fprintf(&b, ": %s %.128q", e.Name.Kind, e.Name.Name)
	}
	if e.Environment != "" {
		fmt.Fprintf(&b, " in %.128s", e.Environment)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, ": %s", e.Path)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the cause.
func (e *OperationError) Unwrap() error { return e.Err }

// RefusedError lists what is wrong with a change set, operation by operation,
// at most 100 of them. Nothing was changed.
type RefusedError struct {
	Operations []*OperationError
	// More is how many further problems were left out.
	More int
}

// maxProblems bounds how many problems one refusal lists.
const maxProblems = 100

// refusals gathers what is wrong with a change set. Of more than it may list it
// lists some of each environment.
type refusals struct {
	all   []*OperationError // at most maxProblems of each environment, as they came
	found map[string]int    // by environment
	count int
}

func (r *refusals) add(o *OperationError) {
	if r.found == nil {
		r.found = map[string]int{}
	}
	r.count++
	if r.found[o.Environment]++; r.found[o.Environment] <= maxProblems {
		r.all = append(r.all, o)
	}
}

// err is nil if nothing is wrong.
func (r *refusals) err() error {
	if r.count == 0 {
		return nil
	}
	shares := map[string]int{}
	environments := slices.Sorted(maps.Keys(r.found))
	for given, before := 0, -1; given < maxProblems && given != before; {
		before = given
		for _, name := range environments {
			if given < maxProblems && shares[name] < r.found[name] {
				shares[name]++
				given++
			}
		}
	}
	e := &RefusedError{}
	for _, o := range r.all {
		if shares[o.Environment]--; shares[o.Environment] >= 0 {
			e.Operations = append(e.Operations, o)
		}
	}
	e.More = r.count - len(e.Operations)
	return e
}

func (e *RefusedError) Error() string {
	lines := make([]string, 0, len(e.Operations)+1)
	for _, o := range e.Operations {
		lines = append(lines, o.Error())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each operation's error.
func (e *RefusedError) Unwrap() []error {
	errs := make([]error, len(e.Operations))
	for i, o := range e.Operations {
		errs[i] = o
	}
	return errs
}

// FieldError says what is wrong with one field of a request. It matches
// [eval.ErrInvalid].
type FieldError struct {
	Field   string
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// Is reports whether target is eval.ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == eval.ErrInvalid }

// invalidError is a message of this package that matches eval.ErrInvalid.
type invalidError string

func (e invalidError) Error() string        { return string(e) }
func (e invalidError) Is(target error) bool { return target == eval.ErrInvalid }

// dbError translates what the driver says into the errors of this package.
// Callers never match on a driver's error, so it is not wrapped.
func dbError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	case errors.Is(err, ErrBusy):
		return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, ErrBusy)
	case contention(err):
		return fmt.Errorf("%s: %w: %s", doing, ErrContended, err.Error())
	case unavailable(err):
		return fmt.Errorf("%s: %w: %s", doing, ErrUnavailable, err.Error())
	}
	return fmt.Errorf("%s: %s", doing, err.Error())
}

// slow reports whether Postgres gave up on a statement that took too long.
func slow(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == pgerrcode.QueryCanceled
}

// unavailable reports whether err comes from Postgres being away, starting,
// stopping, full or slow, rather than from what was asked of it.
func unavailable(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgerrcode.IsConnectionException(pg.Code) ||
			pgerrcode.IsInsufficientResources(pg.Code) ||
			pgerrcode.IsOperatorIntervention(pg.Code) ||
			pg.Code == pgerrcode.ReadOnlySQLTransaction ||
			pg.Code == pgerrcode.IdleInTransactionSessionTimeout
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	_, dial := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return dial || network || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}

// lost reports whether a connection that was good broke, so that another one
// may do better.
func lost(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == pgerrcode.AdminShutdown || pg.Code == pgerrcode.CrashShutdown
	}
	if _, dial := errors.AsType[*pgconn.ConnectError](err); err == nil || dial || pgconn.Timeout(err) {
		return false
	}
	return unavailable(err)
}

// driverError marks what the driver said inside a transaction, apart from
// what this package decided.
type driverError struct {
	error
	healed atomic.Bool // a group's is that of all its change sets: one resets the pool
}

func (e *driverError) Unwrap() error { return e.error }

func driver(err error) error {
	if err == nil {
		return nil
	}
	return &driverError{error: err}
}

// contention reports whether a write failed only because of other writes: a
// deadlock, a lock that was not had in time, or a key that another
// transaction wrote between our look and our write.
func contention(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{
		pgerrcode.SerializationFailure, pgerrcode.DeadlockDetected, pgerrcode.LockNotAvailable, pgerrcode.UniqueViolation,
	}, pg.Code)
}
