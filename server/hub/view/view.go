package view

import (
	"context"
	"net/http"
	"time"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server/hub"
)

// Request is what a view is settled from.
type Request struct {
	Environment *hub.Environment
	// Header is that of the HTTP request: the guidon header and those that
	// the operator maps to attributes are read.
	Header http.Header
	// Context is what the caller evaluates for.
	Context  *eval.Context
	Selector Selector
	// ClientOnly hides flags that are not client-visible.
	ClientOnly bool
	// Propagates says that any request of this caller may have a pin: what is not
	// pinned now must not be kept for one that is.
	Propagates bool
	Now        time.Time
}

// View is the state that one request sees. It is a value for one request; all
// answers of a view are of one snapshot.
type View struct {
	request Request
	// snapshot is the newest.
	snapshot *eval.Snapshot
	// context is the merged one; of a pinned request the caller's own.
	context *eval.Context
	// pinned carries the State of a pinned request, else it is nil.
	pinned context.Context //nolint:containedctx // the request's own, which the view does not outlive
	pin    int64
	call   map[string]any
}

// Open settles what a request sees.
func (c Contexts) Open(ctx context.Context, r Request) View {
	v := View{request: r, snapshot: r.Environment.Snapshot(), context: r.Context}
	if len(r.Header["Guidon"]) > 0 {
		ctx = r.Environment.Propagator().Extract(ctx, propagate.HTTPCarrier(r.Header))
		// Only a header that is followed comes sealed; any other is as good as none.
		if s, ok := propagate.FromContext(ctx); ok && s.Sealed() {
			v.pinned, v.pin, v.call = ctx, s.Revision(), r.Context.Map()
			return v
		}
	}
	v.context = c.over(r.Context, r.Header)
	return v
}

// Pinned reports whether a guidon header is followed.
func (v *View) Pinned() bool { return v.pinned != nil }

// Revision is the revision that the view is of: the newest, or the pin.
func (v *View) Revision() int64 {
	if v.pinned != nil {
		return v.pin
	}
	return v.snapshot.Revision()
}

// Snapshot returns the newest snapshot, from which a view that is not pinned
// answers.
func (v *View) Snapshot() *eval.Snapshot { return v.snapshot }

// Context returns what flags are evaluated for where no pin settles it.
func (v *View) Context() *eval.Context { return v.context }

// Selector returns the request's selector.
func (v *View) Selector() Selector { return v.request.Selector }

// Sees reports whether a flag is part of the view.
func (v *View) Sees(f *eval.Flag) bool {
	return v.request.Selector.Selects(f) && (!v.request.ClientOnly || f.ClientVisible())
}

// Answer is what a flag comes to in a view. Its Reason, ErrorCode and Message
// stand before those of the Resolution inside.
type Answer struct {
	eval.Resolution
	// Pinned is the revision a pin named; 0 if the answer did not use one.
	Pinned int64

	pinnable bool // the same caller may ask for it at a pin next
	result   *propagate.Result
}

// Reason says why the answer is what it is.
func (a Answer) Reason() eval.Reason {
	if a.result != nil {
		return a.result.Reason()
	}
	return a.Resolution.Reason()
}

// ErrorCode says what went wrong; empty unless the reason is ERROR.
func (a Answer) ErrorCode() eval.ErrorCode {
	if a.result != nil {
		return a.result.ErrorCode()
	}
	return a.Resolution.ErrorCode()
}

// Message describes an error for a person.
func (a Answer) Message() string {
	if a.result != nil {
		return a.result.Message()
	}
	return a.Resolution.Message()
}

// PinUnavailable reports whether the flag could not be had as of the pin, and
// nearest the revision as of which it was taken instead; 0 if it was not.
func (a Answer) PinUnavailable() (unavailable bool, nearest int64) {
	if a.result == nil {
		return false, 0
	}
	return a.result.PinUnavailable, a.result.Nearest
}

// Cacheable reports whether a client may go on using the answer for whatever
// it asks next: it depends on nothing but the newest revision.
func (a Answer) Cacheable() bool {
	return a.Pinned == 0 && !a.pinnable && a.Reason() == eval.ReasonStatic
}

// Evaluate answers for the flag of that key; t is the wanted type. What the
// view does not hold is FLAG_NOT_FOUND.
func (v *View) Evaluate(key string, t eval.Type) Answer {
	f := v.snapshot.Flag(key)
	if f != nil && !v.Sees(f) {
		return absent
	}
	if v.pinned == nil {
		if f == nil {
			return absent
		}
		return v.unpinned(f, t)
	}
	a := v.atPin(key, t)
	if f := a.Flag(); f != nil && f.Key() == key && !v.visibleAtPin(f) {
		return absent
	}
	return a
}

// EvaluateFlag answers for a flag of the newest snapshot that the view, which
// is not pinned, sees.
func (v *View) EvaluateFlag(f *eval.Flag) Answer { return v.unpinned(f, eval.Any) }

func (v *View) unpinned(f *eval.Flag, t eval.Type) Answer {
	return Answer{
		Resolution: f.Evaluate(v.context, v.request.Now.Unix()).As(t),
		pinnable:   v.request.Propagates && f.Scope() == "request",
	}
}

// Renew takes the newest snapshot there is now.
func (v *View) Renew() { v.snapshot = v.request.Environment.Snapshot() }

// visibleAtPin is Sees for a flag as of the pin. One that is in the newest
// snapshot was looked at there: what is hidden now is hidden from old pins too.
// An emergency's flag stands for the value alone and knows no project.
func (v *View) visibleAtPin(f *eval.Flag) bool {
	return v.snapshot.Flag(f.Key()) != nil || v.Sees(f)
}

var absent = func() Answer {
	nowhere, _ := eval.Compile(0, nil) // no rows are always right
	return Answer{Resolution: nowhere.Evaluate("", nil, 0)}
}()

func (v *View) atPin(key string, t eval.Type) Answer {
	result := v.request.Environment.Propagator().Evaluate(v.pinned, key, t, v.call)
	return Answer{Resolution: result.Resolution, Pinned: result.Pinned, result: &result}
}

// Flags lists the flags of the view: those there were at the pin, or are now.
func (v *View) Flags(ctx context.Context) []*eval.Flag {
	snapshot := v.snapshot
	if v.pinned != nil {
		if pinned, err := v.request.Environment.At(ctx, v.pin); err == nil {
			snapshot = pinned // else each flag says that its pin is unavailable
		}
	}
	var flags []*eval.Flag
	for f := range snapshot.Flags() {
		if now := v.snapshot.Flag(f.Key()); v.Sees(f) && (now == nil || v.Sees(now)) {
			flags = append(flags, f)
		}
	}
	return flags
}
