package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

const (
	// maxGroup is how many change sets share a transaction at most, maxGroups how
	// many such transactions there are at once: the fewer, the more share one.
	maxGroup  = 32
	maxGroups = 2
	// maxWaiting is how many change sets are in line at most, twice as many if
	// those that are too many are kills.
	maxWaiting = 16 * maxGroup
	// maxGroupedSteps and maxGroupedBytes bound a change set that shares one, so
	// that none waits long for another.
	maxGroupedSteps = 16
	maxGroupedBytes = 32 << 10
)

// errAlone is the outcome of a change set that has to be tried by itself: its
// group failed, by whosever fault.
var errAlone = errors.New("the group failed")

// grouped reports whether a change set may share a transaction: it is small,
// and edits flags of one environment and nothing else.
func grouped(r request) bool {
	if r.DryRun || r.unplanned != nil || len(r.steps) == 0 || len(r.steps) > maxGroupedSteps {
		return false
	}
	environment, size := r.steps[0].environment, 0
	for _, s := range r.steps {
		size += s.size
		if s.environment == "" || s.environment != environment || s.key != nil || s.describes || flagOf(s.name).Kind != eval.KindFlag {
			return false
		}
	}
	for name := range r.Expect {
		if name != environment {
			return false
		}
	}
	return size <= maxGroupedBytes
}

// line is where small change sets wait while others are carried out: all that
// came meanwhile share the next transaction. One environment is in one of them
// at a time, so nobody in this process waits for its lock; one that somebody
// else holds is left out and waited for apart, so that it delays no other.
type line struct {
	mu      sync.Mutex
	waiting []*place
	busy    map[string]bool // the environments of groups under way
	free    int             // groups under way that do not wait for locks
	groups  sync.WaitGroup
}

// place is a change set in the line.
type place struct {
	request
	environment string
	kills       bool // and nothing else
	locked      bool // somebody else held its environment
	left        bool // its caller did, while it was in a group
	outcome     chan outcome
}

// inLine has a change set carried out, with others if there are any. When ctx ends
// while it is, it may still be: [ErrUnknownOutcome].
func (db *DB) inLine(ctx context.Context, r request) (Applied, error) {
	if err := ctx.Err(); err != nil {
		return Applied{}, dbError("apply", err)
	}
	p := &place{
		request: r, environment: r.steps[0].environment, outcome: make(chan outcome, 1),
		kills: !slices.ContainsFunc(r.steps, func(s step) bool { return s.action != audit.ActionKillFlag }),
	}
	first, ok := db.enter(p) //nolint:contextcheck // a group is not its first caller's
	if !ok {
		db.count.busy.Add(1)
		return Applied{}, driver(ErrBusy)
	}
	unknown := func() error { return fmt.Errorf("apply: %w: %w", ErrUnknownOutcome, ctx.Err()) }
	if first {
		db.carryOutFirst(ctx, p)
		select {
		case o := <-p.outcome:
			if _, failed := errors.AsType[*driverError](o.err); failed && ctx.Err() != nil { // it may be made all the same
				db.notify()
				return Applied{}, unknown()
			}
			return o.applied, o.err
		default: // somebody holds the environment
		}
	}
	select {
	case o := <-p.outcome:
		return o.applied, o.err
	case <-ctx.Done():
	}
	if db.line.leave(p) {
		return Applied{}, dbError("apply", ctx.Err()) // nobody will
	}
	select {
	case o := <-p.outcome:
		return o.applied, o.err
	default:
		return Applied{}, unknown()
	}
}

// enter puts a place into the line, kills before what is no kill, unless too
// many wait. Where nobody is in its way it is taken out again at once, first, and
// its caller is to carry it out.
func (db *DB) enter(p *place) (first, ok bool) {
	l := &db.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 && l.free < maxGroups && !l.busy[p.environment] {
		l.begin([]*place{p})
		l.free++
		l.groups.Add(1)
		return true, true
	}
	at, limit := len(l.waiting), maxWaiting
	if p.kills {
		limit *= 2
		if i := slices.IndexFunc(l.waiting, func(q *place) bool { return !q.kills }); i >= 0 {
			at = i
		}
	}
	if len(l.waiting) >= limit {
		return false, false
	}
	l.waiting = slices.Insert(l.waiting, at, p)
	db.startGroups()
	return false, true
}

func (l *line) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// leave takes a place out of the line and reports whether it was there. If not,
// it is or was in a group, which learns that nobody waits for its outcome.
func (l *line) leave(p *place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.left = true
	i := slices.Index(l.waiting, p)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	return i >= 0
}

// startGroups starts what can be. The line is locked.
func (db *DB) startGroups() {
	for {
		places, waits := db.line.next()
		if len(places) == 0 {
			return
		}
		db.line.groups.Go(func() { db.carryOut(context.Background(), places, waits) })
	}
}

// next takes the next group out of the line; waits says that it is for an
// environment that somebody else held.
func (l *line) next() (places []*place, waits bool) {
	for _, p := range l.waiting {
		if p.locked && !l.busy[p.environment] {
			return l.take(func(q *place) bool { return q.environment == p.environment }), true
		}
	}
	if l.free == maxGroups {
		return nil, false
	}
	if places = l.take(func(*place) bool { return true }); len(places) > 0 {
		l.free++
	}
	return places, false
}

// take takes those out of the line that fit and do not get in each other's way,
// as far as can be told from what they name.
func (l *line) take(fits func(*place) bool) []*place {
	var places, rest []*place
	named := map[[2]string]bool{}
	for _, p := range l.waiting {
		if len(places) == maxGroup || l.busy[p.environment] || !fits(p) || p.clashes(named) {
			rest = append(rest, p)
			continue
		}
		places = append(places, p)
		for _, s := range p.steps {
			named[[2]string{p.environment, s.name.Name}] = true
		}
		if p.IdempotencyKey != "" {
			named[p.retried()] = true
		}
	}
	l.begin(places)
	l.waiting = rest
	return places
}

func (l *line) begin(places []*place) {
	if l.busy == nil {
		l.busy = map[string]bool{}
	}
	for _, p := range places {
		l.busy[p.environment] = true
	}
}

// retried names what two change sets have in common of which one repeats the
// other.
func (p *place) retried() [2]string { return [2]string{"\x00" + p.Actor, p.IdempotencyKey} }

func (p *place) clashes(named map[[2]string]bool) bool {
	for _, s := range p.steps {
		if named[[2]string{p.environment, s.name.Name}] {
			return true
		}
	}
	return p.IdempotencyKey != "" && named[p.retried()]
}

// carryOutFirst carries out a change set where its caller is, without the way to
// another goroutine and back: the group is nobody else's, and so ends with ctx.
func (db *DB) carryOutFirst(ctx context.Context, p *place) {
	defer db.line.groups.Done()
	db.carryOut(ctx, []*place{p}, false)
}

// carryOut carries out a group, puts what is left of it back into the line,
// first, and starts what waited for it.
func (db *DB) carryOut(ctx context.Context, places []*place, waits bool) {
	outcomes := db.together(ctx, places, waits)
	db.count.groups.Add(1)
	var again []*place
	for i, p := range places {
		switch err := outcomes[i].err; {
		case errors.Is(err, errLocked):
			p.locked = true
			again = append(again, p)
		case errors.Is(err, errLater):
			again = append(again, p)
		default:
			db.count.grouped.Add(1)
			p.outcome <- outcomes[i]
		}
	}
	l := &db.line
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range places {
		delete(l.busy, p.environment)
	}
	if !waits {
		l.free--
	}
	gone := func(p *place) bool { return p.left }
	l.waiting = append(slices.DeleteFunc(again, gone), l.waiting...)
	db.startGroups() //nolint:contextcheck // those are others'
	for i, p := range places {
		if o := outcomes[i]; p.left && (o.err == nil && !o.applied.Unchanged || errors.Is(o.err, ErrUnknownDurability)) {
			db.notify() // its caller does not
		}
	}
}

// together tries a group once. Where that fails, each has to be tried alone.
func (db *DB) together(ctx context.Context, places []*place, waits bool) (outcomes []outcome) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	requests, lock := make([]request, len(places)), lockFree
	for i, p := range places {
		requests[i] = p.request
	}
	if waits {
		lock = lockNamed
	}
	outcomes = make([]outcome, len(places))
	defer func() {
		if panicked := recover(); panicked != nil { // alone, it panics where its caller is, or does not
			db.log.LogAttrs(ctx, slog.LevelError, "changes that were made together panicked: each is tried alone",
				slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
			for i := range outcomes {
				outcomes[i] = outcome{err: errAlone}
			}
		}
	}()
	decided, err := db.attempt(ctx, requests, lock)
	copy(outcomes, decided)
	failed, ofDriver := errors.AsType[*driverError](err)
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case err == nil, !ofDriver && o.err != nil:
		case ofDriver && len(places) > 1 && !contention(failed) && !unavailable(failed) && !errors.Is(err, ErrBusy):
			*o = outcome{err: errAlone}
		default:
			*o = outcome{err: err}
		}
	}
	return outcomes
}
