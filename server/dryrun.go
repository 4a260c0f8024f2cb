package server

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

const (
	// maxContexts bounds the contexts that a dry run tries.
	maxContexts = 100
	// maxExamples bounds how many of them are shown for one flag.
	maxExamples = 10
	// maxEvaluations bounds contexts times flags: about a second.
	maxEvaluations = 1_000_000
)

func (s changes) DryRun(ctx context.Context, req *guidonv1.ChangeServiceDryRunRequest) (*guidonv1.ChangeServiceDryRunResponse, error) {
	contexts, err := fromContexts(req.GetContexts())
	if err != nil {
		return nil, err
	}
	operations, err := fromOperations(req.GetOperations())
	if err != nil {
		return refusedRun(err)
	}
	applied, err := s.store.Apply(ctx, store.ChangeSet{
		Actor: auth.FromContext(ctx).String(), Reason: req.GetReason(), Expect: req.GetExpectedRevisions(), Operations: operations,
		DryRun: true, IsolateInvalid: req.GetIsolateInvalid(),
	})
	if err != nil {
		return refusedRun(err)
	}
	return s.dryRun(ctx, applied, contexts)
}

// refusedRun answers with what is wrong with the operations, if that is what
// err says.
func refusedRun(err error) (*guidonv1.ChangeServiceDryRunResponse, error) {
	problems := problems(err)
	if len(problems) == 0 {
		return nil, err
	}
	return &guidonv1.ChangeServiceDryRunResponse{Problems: problems, More: moreProblems(err)}, nil
}

func fromContexts(contexts []*structpb.Struct) ([]*eval.Context, error) {
	if len(contexts) > maxContexts {
		return nil, &store.FieldError{Field: "contexts", Message: fmt.Sprintf("%d are more than %d", len(contexts), maxContexts)}
	}
	out := make([]*eval.Context, len(contexts))
	for i, c := range contexts {
		var err error
		if out[i], err = eval.ContextFromStruct(c); err != nil {
			return nil, &store.FieldError{Field: fmt.Sprintf("contexts[%d]", i), Message: err.Error()}
		}
	}
	return out, nil
}

// dryRun converts what a dry run found, and evaluates before and after.
func (s *Server) dryRun(ctx context.Context, applied store.Applied, contexts []*eval.Context) (*guidonv1.ChangeServiceDryRunResponse, error) {
	out := &guidonv1.ChangeServiceDryRunResponse{Revisions: applied.Revisions, Warnings: applied.Warnings}
	var err error
	if out.Changes, err = toRowChanges(applied.Changes); err != nil {
		return nil, err
	}
	left := maxEvaluations
	for _, environment := range slices.Sorted(maps.Keys(applied.Drafts)) {
		draft := applied.Drafts[environment]
		for _, key := range draft.Affected {
			if left -= len(contexts); left < 0 {
				return nil, &store.FieldError{Field: "contexts", Message: "are too many for as many flags as the change concerns"}
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			impact, err := s.impact(environment, key, draft, contexts)
			if err != nil {
				return nil, err
			}
			if impact.GetContexts() > 0 {
				out.Impacts = append(out.Impacts, impact)
			}
		}
	}
	return out, nil
}

// impact says for which contexts a flag would resolve differently.
func (s *Server) impact(environment, key string, draft store.Draft, contexts []*eval.Context) (*guidonv1.Impact, error) {
	out := &guidonv1.Impact{Environment: environment, Flag: key}
	was, is, t := draft.Before.Flag(key), draft.After.Flag(key), s.now().Unix()
	for i, c := range contexts {
		var before, after eval.Resolution
		if was != nil {
			before = was.Evaluate(c, t)
		}
		if is != nil {
			after = is.Evaluate(c, t)
		}
		if (was == nil) == (is == nil) && before.Variant() == after.Variant() && before.ErrorCode() == after.ErrorCode() &&
			reflect.DeepEqual(before.Value(), after.Value()) {
			continue
		}
		if out.Contexts++; out.GetContexts() > maxExamples {
			continue
		}
		example := &guidonv1.ImpactExample{Context: int32(i)}
		var err error
		if was != nil {
			if example.Before, err = toResolution(key, draft.Before.Revision(), before); err != nil {
				return nil, err
			}
		}
		if is != nil {
			if example.After, err = toResolution(key, draft.After.Revision(), after); err != nil {
				return nil, err
			}
		}
		out.Examples = append(out.Examples, example)
	}
	return out, nil
}
