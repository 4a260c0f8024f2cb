package server

import (
	"context"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// evaluations answers EvaluationService.
type evaluations struct{ *Server }

func (s evaluations) Evaluate(ctx context.Context, req *guidonv1.EvaluationServiceEvaluateRequest) (*guidonv1.EvaluationServiceEvaluateResponse, error) {
	snapshot, context, err := s.subject(ctx, req)
	if err != nil {
		return nil, err
	}
	asked, err := askedType(req.GetType())
	if err != nil {
		return nil, err
	}
	resolution, err := toResolution(req.GetKey(), snapshot.Revision(), evaluated(ctx, snapshot, req.GetKey(), context, s.now().Unix()).As(asked))
	if err != nil {
		return nil, err
	}
	return &guidonv1.EvaluationServiceEvaluateResponse{Resolution: resolution}, nil
}

func (s evaluations) EvaluateAll(ctx context.Context, req *guidonv1.EvaluationServiceEvaluateAllRequest) (*guidonv1.EvaluationServiceEvaluateAllResponse, error) {
	snapshot, context, err := s.subject(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &guidonv1.EvaluationServiceEvaluateAllResponse{
		Revision: snapshot.Revision(), Resolutions: make([]*guidonv1.Resolution, 0, snapshot.Len()),
	}
	t, projects := s.now().Unix(), projectsOf(ctx)
	for f := range snapshot.Flags() {
		if !projects.Has(f.Project()) {
			continue
		}
		resolution, err := toResolution(f.Key(), snapshot.Revision(), f.Evaluate(context, t))
		if err != nil {
			return nil, err
		}
		out.Resolutions = append(out.Resolutions, resolution)
	}
	return out, nil
}

func (s evaluations) Explain(ctx context.Context, req *guidonv1.EvaluationServiceExplainRequest) (*guidonv1.EvaluationServiceExplainResponse, error) {
	snapshot, context, err := s.subject(ctx, req)
	if err != nil {
		return nil, err
	}
	asked, err := askedType(req.GetType())
	if err != nil {
		return nil, err
	}
	var explanation eval.Explanation
	if f := projectsOf(ctx).Flag(snapshot, req.GetKey()); f != nil {
		explanation = f.Explain(context, s.now().Unix())
	} else {
		explanation.Resolution = evaluated(ctx, snapshot, req.GetKey(), context, s.now().Unix())
	}
	out := &guidonv1.EvaluationServiceExplainResponse{}
	if out.Resolution, err = toResolution(req.GetKey(), snapshot.Revision(), explanation.Resolution.As(asked)); err != nil {
		return nil, err
	}
	out.Steps, err = toSteps(explanation.Trace)
	return out, err
}

// evaluated is what the flag of that key comes to, as far as the caller sees it.
func evaluated(ctx context.Context, s *eval.Snapshot, key string, c *eval.Context, t int64) eval.Resolution {
	if f := projectsOf(ctx).Flag(s, key); f != nil {
		return f.Evaluate(c, t)
	}
	return s.Evaluate("", c, t) // which no flag is called
}

// subject is what the three calls have in common: the snapshot to evaluate,
// and for whom.
func (s evaluations) subject(ctx context.Context, req interface {
	GetEnvironment() string
	GetContext() *structpb.Struct
	moment
},
) (*eval.Snapshot, *eval.Context, error) {
	e, err := s.environment(ctx, req.GetEnvironment())
	if err != nil {
		return nil, nil, err
	}
	revision, err := s.revisionOf(ctx, e, req.GetRevision(), req.GetTime())
	if err != nil {
		return nil, nil, err
	}
	snapshot, err := e.AtFor(ctx, projectsOf(ctx), revision)
	if err != nil {
		return nil, nil, err
	}
	context, err := eval.ContextFromStruct(req.GetContext())
	if err != nil {
		return nil, nil, &store.FieldError{Field: "context", Message: err.Error()}
	}
	return snapshot, context, nil
}

// askedType is the type that a caller wants; none means the flag's own.
func askedType(name string) (eval.Type, error) {
	if name == "" {
		return eval.Any, nil
	}
	t, err := eval.ParseType(name)
	if err != nil {
		return eval.Any, &store.FieldError{Field: "type", Message: err.Error()}
	}
	return t, nil
}
