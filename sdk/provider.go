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
	return resolve(ctx, p, flag, eval.Boolean, propagate.Result.Boolean, defaultValue, call)
}

func (p *provider) StringEvaluation(ctx context.Context, flag, defaultValue string, call openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(ctx, p, flag, eval.String, propagate.Result.Text, defaultValue, call)
}

func (p *provider) FloatEvaluation(ctx context.Context, flag string, defaultValue float64, call openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(ctx, p, flag, eval.Float, propagate.Result.Float, defaultValue, call)
}

func (p *provider) IntEvaluation(ctx context.Context, flag string, defaultValue int64, call openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(ctx, p, flag, eval.Integer, propagate.Result.Integer, defaultValue, call)
}

// ObjectEvaluation returns a copy: applications change what they are given.
func (p *provider) ObjectEvaluation(ctx context.Context, flag string, defaultValue any, call openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	copied := func(r propagate.Result) (any, bool) {
		object, ok := r.Object()
		return clone(object), ok
	}
	return resolve(ctx, p, flag, eval.Object, copied, defaultValue, call)
}

// resolve evaluates a flag and says how it went in OpenFeature's terms. The
// value is the caller's where there is none.
func resolve[T any](ctx context.Context, p *provider, flag string, t eval.Type, value func(propagate.Result) (T, bool), defaultValue T, call openfeature.FlattenedContext) openfeature.GenericResolutionDetail[T] {
	detail := openfeature.GenericResolutionDetail[T]{Value: defaultValue}
	if !p.active.Load() {
		detail.ResolutionError = openfeature.NewProviderNotReadyResolutionError("the provider is not initialised")
		detail.Reason = openfeature.ErrorReason
		return detail
	}
	result := p.client.propagator.Evaluate(ctx, flag, t, call)
	if resolved, ok := value(result); ok {
		detail.Value = resolved
	}
	detail.ResolutionError = resolutionError(result)
	detail.Reason = openfeature.Reason(result.Reason())
	detail.Variant = result.Variant()
	detail.FlagMetadata = result.Metadata() // a map of its own: openfeature/multi writes into it
	return detail
}

// resolutionError is zero if the evaluation went well.
func resolutionError(result propagate.Result) openfeature.ResolutionError {
	switch openfeature.ErrorCode(result.ErrorCode()) {
	case "":
		return openfeature.ResolutionError{}
	case openfeature.ProviderNotReadyCode:
		return openfeature.NewProviderNotReadyResolutionError(result.Message())
	case openfeature.FlagNotFoundCode:
		return openfeature.NewFlagNotFoundResolutionError(result.Message())
	case openfeature.TypeMismatchCode:
		return openfeature.NewTypeMismatchResolutionError(result.Message())
	case openfeature.ParseErrorCode:
		return openfeature.NewParseErrorResolutionError(result.Message())
	case openfeature.InvalidContextCode:
		return openfeature.NewInvalidContextResolutionError(result.Message())
	case openfeature.TargetingKeyMissingCode:
		return openfeature.NewTargetingKeyMissingResolutionError(result.Message())
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
