package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// headers answers HeaderService.
type headers struct{ *Server }

// read takes a header apart, and finds the environment that it is of.
func (s headers) read(ctx context.Context, value string) (propagate.Header, *hub.Environment, error) {
	if value == "" {
		return propagate.Header{}, nil, &store.FieldError{Field: "header", Message: "is required"}
	}
	h, err := propagate.Decode(value)
	if err != nil {
		return propagate.Header{}, nil, &store.FieldError{Field: "header", Message: err.Error()}
	}
	e, err := s.environment(ctx, h.Environment)
	return h, e, err
}

func (s headers) Verify(ctx context.Context, req *guidonv1.HeaderServiceVerifyRequest) (*guidonv1.HeaderServiceVerifyResponse, error) {
	h, e, err := s.read(ctx, req.GetHeader())
	if err != nil {
		return nil, err
	}
	out := &guidonv1.HeaderServiceVerifyResponse{
		Environment: e.Name(), Outcome: propagate.Verified.String(), KeyId: h.KeyID, Pinned: h.Revision, Revision: e.Head().Revision(),
	}
	switch refused, ok := errors.AsType[*propagate.HeaderError](e.Verify(req.GetHeader())); {
	case ok:
		out.Outcome, out.Detail = refused.Outcome.String(), refused.Error()
	case h.Revision > out.GetRevision():
		e.Claim(h.Revision) // whoever signed it had seen that revision
	}
	return out, nil
}

func (s headers) Explain(ctx context.Context, req *guidonv1.HeaderServiceExplainRequest) (*guidonv1.HeaderServiceExplainResponse, error) {
	h, e, err := s.read(ctx, req.GetHeader())
	if err != nil {
		return nil, err
	}
	if err := e.Verify(req.GetHeader()); err != nil {
		return nil, &store.FieldError{Field: "header", Message: err.Error()}
	}
	keys := s.keys(ctx, e, h)
	if req.GetFlag() != "" {
		keys = []string{req.GetFlag()}
	}
	page, next, err := pageOf(keys, func(key string) string { return key }, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	carrier := propagate.HTTPCarrier{}
	carrier.Set(propagate.HeaderName, req.GetHeader())
	p := e.Propagator()
	ctx = p.Extract(ctx, carrier)
	out := &guidonv1.HeaderServiceExplainResponse{Environment: e.Name(), Pinned: h.Revision, NextPageToken: next}
	for _, key := range page {
		shown, err := toHeaderEvaluation(key, p.Evaluate(ctx, key, eval.Any, nil))
		if err != nil {
			return nil, err
		}
		out.Evaluations = append(out.Evaluations, shown)
	}
	return out, nil
}

// keys are those of the flags there are, and of those there were at the pin as
// far as that can be told.
func (s headers) keys(ctx context.Context, e *hub.Environment, h propagate.Header) []string {
	var keys []string
	snapshots := []*eval.Snapshot{e.Snapshot()}
	if pinned, err := e.At(ctx, h.Revision); err == nil {
		snapshots = append(snapshots, pinned)
	}
	for _, snapshot := range snapshots {
		for f := range snapshot.Flags() {
			keys = append(keys, f.Key())
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// rules says of each origin why it counts.
var rules = map[propagate.Origin]string{
	propagate.OriginEmergency: "an emergency after the pin goes before everything else",
	propagate.OriginOverride:  "an override token came with the request",
	propagate.OriginRoot:      "the root of the request decided it",
	propagate.OriginPin:       "evaluated as of the pinned revision, with what travels",
	propagate.OriginNearest:   "the pinned revision is no longer kept, and the flag asks for the oldest that is",
	propagate.OriginNewest:    "scope local: the newest revision, never pinned",
	propagate.OriginNone:      "there is nothing to evaluate: each caller serves its own default",
}

func toHeaderEvaluation(key string, r propagate.Result) (*guidonv1.HeaderEvaluation, error) {
	out := &guidonv1.HeaderEvaluation{
		Flag: key, Variant: r.Variant(), Reason: string(r.Reason()), ErrorCode: string(r.ErrorCode()), Origin: string(r.Origin),
		Rule: rules[r.Origin], Revision: r.Revision,
	}
	switch {
	case r.PinUnavailable && r.Nearest == 0:
		out.Rule = "the definition at the pin cannot be had: an ERROR, never another revision's value"
	case r.CreatedAfterPin && r.Nearest == 0:
		out.Rule = "the flag was created after the pin: each caller serves its own default"
	}
	if v := r.Value(); v != nil {
		var err error
		if out.Value, err = structpb.NewValue(v); err != nil {
			return nil, fmt.Errorf("value of flag %q: %w", key, err)
		}
	}
	return out, nil
}

// rooted is the answer to a request for a State.
type rooted struct {
	Header        string `json:"header"`
	CorrelationID string `json:"correlationId"`
	Environment   string `json:"environment"`
	Revision      int64  `json:"revision"`
}

// state answers POST /guidon/v1/state: it roots a request for a caller that has
// no SDK, with the evaluation context in the body, and hands out the header that
// the caller is to send along.
func (s *Server) state(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	out, err := s.rootFor(ctx, w, r)
	if err != nil {
		writeError(w, answer(callOf(ctx), err))
		return
	}
	header.Set("Guidon", out.Header)
	header.Set(correlationHeader, out.CorrelationID)
	header.Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // a client that went away hears nothing
}

func (s *Server) rootFor(ctx context.Context, w http.ResponseWriter, r *http.Request) (out rooted, err error) {
	principal, err := s.admit(ctx, callOf(ctx), r.Header, auth.State)
	if err != nil {
		return out, err
	}
	e, err := s.environment(auth.WithPrincipal(ctx, principal), r.URL.Query().Get("environment"))
	if err != nil {
		return out, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return out, &store.FieldError{Field: "body", Message: fmt.Sprintf("is longer than %d bytes, or was cut short", maxBody)}
	}
	subject, err := eval.ContextFromJSON(body)
	if err != nil {
		return out, &store.FieldError{Field: "context", Message: err.Error()}
	}
	p := e.Propagator()
	state, _ := propagate.FromContext(p.Root(ctx, subject.Map()))
	value, ok := state.Header()
	if !ok {
		return out, fmt.Errorf("%w: there is no propagation key to sign with", hub.ErrNotReady)
	}
	return rooted{Header: value, CorrelationID: state.CorrelationID(), Environment: e.Name(), Revision: state.Revision()}, nil
}
