package guidon

import (
	"context"
	"maps"
	"slices"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// provider is OpenFeature's view of a Client. Its life is in lifecycle.go.
type provider struct {
	client *Client
	lifecycle
}

var (
	_ openfeature.FeatureProvider          = (*provider)(nil)
	_ openfeature.ContextAwareStateHandler = (*provider)(nil)
	_ openfeature.EventHandler             = (*provider)(nil)
)

const providerName = "guidon"

func (p *provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: providerName} }

func (p *provider) Hooks() []openfeature.Hook { return nil }

func (p *provider) BooleanEvaluation(ctx context.Context, flag string, defaultValue bool, call openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	result, detail := p.resolve(ctx, flag, eval.Boolean, call)
	return settle(result.Boolean, defaultValue, detail)
}

func (p *provider) StringEvaluation(ctx context.Context, flag string, defaultValue string, call openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	result, detail := p.resolve(ctx, flag, eval.String, call)
	return settle(result.Text, defaultValue, detail)
}

func (p *provider) FloatEvaluation(ctx context.Context, flag string, defaultValue float64, call openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	result, detail := p.resolve(ctx, flag, eval.Float, call)
	return settle(result.Float, defaultValue, detail)
}

func (p *provider) IntEvaluation(ctx context.Context, flag string, defaultValue int64, call openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	result, detail := p.resolve(ctx, flag, eval.Integer, call)
	return settle(result.Integer, defaultValue, detail)
}

// ObjectEvaluation returns a copy: applications change what they are given.
func (p *provider) ObjectEvaluation(ctx context.Context, flag string, defaultValue any, call openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	result, detail := p.resolve(ctx, flag, eval.Object, call)
	value := func() (any, bool) {
		object, ok := result.Object()
		return clone(object), ok
	}
	return settle(value, defaultValue, detail)
}

// resolve evaluates a flag and tells how it went in OpenFeature's terms.
func (p *provider) resolve(ctx context.Context, flag string, t eval.Type, call openfeature.FlattenedContext) (propagate.Result, openfeature.ProviderResolutionDetail) {
	if !p.active.Load() || p.client.Snapshot() == nil {
		return propagate.Result{}, openfeature.ProviderResolutionDetail{
			ResolutionError: openfeature.NewProviderNotReadyResolutionError("no flags have arrived yet"),
			Reason:          openfeature.ErrorReason,
		}
	}
	result := p.client.propagator.Evaluate(ctx, flag, t, call)
	return result, openfeature.ProviderResolutionDetail{
		ResolutionError: resolutionError(result),
		Reason:          openfeature.Reason(result.Reason()),
		Variant:         result.Variant(),
		FlagMetadata:    result.Metadata(),
	}
}

// settle gives the resolved value, or the caller's where there is none.
func settle[T any](value func() (T, bool), defaultValue T, detail openfeature.ProviderResolutionDetail) openfeature.GenericResolutionDetail[T] {
	resolved, ok := value()
	if !ok {
		resolved = defaultValue
	}
	return openfeature.GenericResolutionDetail[T]{Value: resolved, ProviderResolutionDetail: detail}
}

// resolutionError is zero if the evaluation went well.
func resolutionError(result propagate.Result) openfeature.ResolutionError {
	switch result.ErrorCode() {
	case eval.CodeNone:
		return openfeature.ResolutionError{}
	case eval.CodeFlagNotFound:
		return openfeature.NewFlagNotFoundResolutionError(result.Message())
	case eval.CodeTypeMismatch:
		return openfeature.NewTypeMismatchResolutionError(result.Message())
	case eval.CodeParseError:
		return openfeature.NewParseErrorResolutionError(result.Message())
	default:
		return openfeature.NewGeneralResolutionError(result.Message())
	}
}

func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		copied := maps.Clone(v)
		for key, member := range copied {
			copied[key] = clone(member)
		}
		return copied
	case []any:
		copied := slices.Clone(v)
		for i, member := range copied {
			copied[i] = clone(member)
		}
		return copied
	default:
		return value
	}
}
