package guidon_test

import (
	"context"
	"maps"
	"testing"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// BenchmarkOpenFeatureBoolean is an evaluation as applications write it, beside
// its floors: the OpenFeature client with a provider that does nothing, and with
// one that says as much of where the answer came from, which the client copies.
func BenchmarkOpenFeatureBoolean(b *testing.B) {
	client := ready(b, startServer(b, boolean("checkout", true)))
	guidonFlags := connected(b, client).NewClient()
	state := client.Propagator().Root(b.Context(), nil)
	idle := func(provider openfeature.FeatureProvider) *openfeature.Client {
		api := isolated.NewAPI()
		b.Cleanup(func() { _ = api.Shutdown(context.Background()) })
		if err := api.SetProviderAndWait(b.Context(), provider); err != nil {
			b.Fatal(err)
		}
		return api.NewClient()
	}
	told, err := guidonFlags.BooleanValueDetails(state, "checkout", true, openfeature.EvaluationContext{})
	if err != nil || len(told.FlagMetadata) == 0 {
		b.Fatal(told, err)
	}
	run := func(ctx context.Context, name string, flags *openfeature.Client) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if on, err := flags.BooleanValue(ctx, "checkout", true, openfeature.EvaluationContext{}); err != nil || !on {
					b.Fatal(on, err)
				}
			}
		})
	}
	run(b.Context(), "floor", idle(nothing{}))
	run(b.Context(), "floor-with-metadata", idle(saying{metadata: told.FlagMetadata}))
	run(state, "state", guidonFlags)
	run(b.Context(), "no-state", guidonFlags)
	b.Run("state-without-openfeature", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if on, ok := client.Propagator().Evaluate(state, "checkout", eval.Boolean, nil).Boolean(); !on || !ok {
				b.Fatal(on, ok)
			}
		}
	})
}

// nothing is a provider that gives everybody their default.
type nothing struct{}

// saying is nothing with metadata, of which everybody gets a map of his own.
type saying struct {
	nothing
	metadata openfeature.FlagMetadata
}

func (s saying) BooleanEvaluation(_ context.Context, _ string, value bool, _ openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return openfeature.BoolResolutionDetail{Value: value, ProviderResolutionDetail: openfeature.ProviderResolutionDetail{FlagMetadata: maps.Clone(s.metadata)}}
}

func (nothing) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "nothing"} }
func (nothing) Hooks() []openfeature.Hook      { return nil }

func (nothing) BooleanEvaluation(_ context.Context, _ string, value bool, _ openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return openfeature.BoolResolutionDetail{Value: value}
}

func (nothing) StringEvaluation(_ context.Context, _, value string, _ openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return openfeature.StringResolutionDetail{Value: value}
}

func (nothing) FloatEvaluation(_ context.Context, _ string, value float64, _ openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return openfeature.FloatResolutionDetail{Value: value}
}

func (nothing) IntEvaluation(_ context.Context, _ string, value int64, _ openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return openfeature.IntResolutionDetail{Value: value}
}

func (nothing) ObjectEvaluation(_ context.Context, _ string, value any, _ openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	return openfeature.InterfaceResolutionDetail{Value: value}
}
