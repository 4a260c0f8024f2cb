package flagd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub/view"
	"github.com/guidon-flags/guidon/store"
)

// ErrFlag is what an evaluation came to, where that is an error: the flag's
// fault or the caller's, never the server's.
var ErrFlag = errors.New("the flag has no value for this context")

// flagError is an ErrFlag that says why.
type flagError struct{ text string }

func (e *flagError) Error() string { return e.text }

func (e *flagError) Is(target error) bool { return target == ErrFlag }

// codes are what the errors of evaluations are to flagd's providers, which
// make the same of them again. See the package's comment for INTERNAL.
var codes = map[eval.ErrorCode]connect.Code{
	eval.CodeFlagNotFound: connect.CodeNotFound,
	eval.CodeTypeMismatch: connect.CodeInvalidArgument,
	eval.CodeParseError:   connect.CodeDataLoss,
	eval.CodeGeneral:      connect.CodeInternal,
	"INVALID_CONTEXT":     connect.CodeInvalidArgument,
	"PROVIDER_NOT_READY":  connect.CodeUnavailable,
}

// reasonPinned is the reason of what would be STATIC without its pin, or without
// the pin that the next request may have.
const reasonPinned eval.Reason = "PINNED"

// open settles what a request sees.
func (s *Service) open(ctx context.Context, header http.Header, asked *structpb.Struct) (view.View, error) {
	caller, err := s.cfg.Caller(ctx)
	if err != nil {
		return view.View{}, err
	}
	selector, err := view.ParseSelector(header.Get(view.SelectorHeader))
	if err != nil {
		return view.View{}, err
	}
	c, err := eval.ContextFromStruct(asked)
	if err != nil {
		return view.View{}, &store.FieldError{Field: "context", Message: err.Error()}
	}
	return s.cfg.Contexts.Open(ctx, view.Request{
		Environment: caller.Environment, Header: header, Context: c, Selector: selector.Within(caller.Projects), ClientOnly: caller.ClientOnly,
		Propagates: caller.Propagates, Now: s.cfg.Now(),
	}), nil
}

// resolved is one answer in flagd's words.
type resolved struct {
	eval.Resolution
	reason   string
	variant  string // empty where the caller's default is meant
	metadata *structpb.Struct
}

// isDefault reports whether the caller's own default is meant, and why: the
// flag is disabled, or it has none of its own.
func (r *resolved) isDefault() bool { return r.variant == "" }

// resolve evaluates one flag for a request.
func (s *Service) resolve(ctx context.Context, header http.Header, key string, asked *structpb.Struct, t eval.Type) (resolved, error) {
	v, err := s.open(ctx, header, asked)
	if err != nil {
		return resolved{}, err
	}
	return say(&v, key, t)
}

// say evaluates one flag of a view.
func say(v *view.View, key string, t eval.Type) (resolved, error) {
	a := v.Evaluate(key, t)
	if code := a.ErrorCode(); code != eval.CodeNone {
		text := fmt.Sprintf("flag %.128q: %s", key, a.Message())
		known, ok := codes[code]
		if !ok {
			known = connect.CodeInternal
		}
		return resolved{}, connect.NewError(known, &flagError{text})
	}
	r := resolved{Resolution: a.Resolution, variant: a.Variant()}
	reason := a.Reason()
	if reason == eval.ReasonStatic && !a.Cacheable() {
		reason = reasonPinned
	}
	r.reason = string(reason)
	metadata := a.Flag().Metadata()
	selector := v.Selector()
	if a.Pinned != 0 || selector.Key == view.Source {
		metadata = maps.Clone(metadata)
		if a.Pinned != 0 {
			metadata["pinnedRevision"] = a.Pinned
		}
		if unavailable, nearest := a.PinUnavailable(); unavailable { // and yet no error
			metadata["PIN_UNAVAILABLE"], metadata["nearestRevision"] = true, nearest
		}
		if selector.Key == view.Source {
			metadata["source"] = selector.Project
		}
	}
	var err error
	r.metadata, err = structpb.NewStruct(metadata)
	return r, err
}

// setMetadata is what a bulk answer says of itself.
func setMetadata(v *view.View) (*structpb.Struct, error) {
	m := map[string]any{"revision": v.Revision()}
	if s := v.Selector(); s.Key != "" {
		m[s.Key] = s.Project
	}
	return structpb.NewStruct(m)
}
