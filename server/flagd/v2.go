package flagd

import (
	"context"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// v2 answers flagd.evaluation.v2: where the caller's default is meant, there is
// neither value nor variant.
type v2 struct{ *Service }

// named is the variant as v2 has it.
func (r *resolved) named() *string {
	if r.isDefault() {
		return nil
	}
	return &r.variant
}

// given is a value as v2 has it: absent where the caller's default is meant.
func given[T any](value T, ok bool) *T {
	if !ok {
		return nil
	}
	return &value
}

func (s v2) ResolveBoolean(ctx context.Context, req *connect.Request[evaluationv2.ResolveBooleanRequest]) (*connect.Response[evaluationv2.ResolveBooleanResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Boolean)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&evaluationv2.ResolveBooleanResponse{
		Value: given(r.Boolean()), Reason: r.reason, Variant: r.named(), Metadata: r.metadata,
	}), nil
}

func (s v2) ResolveString(ctx context.Context, req *connect.Request[evaluationv2.ResolveStringRequest]) (*connect.Response[evaluationv2.ResolveStringResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.String)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&evaluationv2.ResolveStringResponse{
		Value: given(r.Text()), Reason: r.reason, Variant: r.named(), Metadata: r.metadata,
	}), nil
}

func (s v2) ResolveFloat(ctx context.Context, req *connect.Request[evaluationv2.ResolveFloatRequest]) (*connect.Response[evaluationv2.ResolveFloatResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Float)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&evaluationv2.ResolveFloatResponse{
		Value: given(r.Float()), Reason: r.reason, Variant: r.named(), Metadata: r.metadata,
	}), nil
}

func (s v2) ResolveInt(ctx context.Context, req *connect.Request[evaluationv2.ResolveIntRequest]) (*connect.Response[evaluationv2.ResolveIntResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Integer)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&evaluationv2.ResolveIntResponse{
		Value: given(r.Integer()), Reason: r.reason, Variant: r.named(), Metadata: r.metadata,
	}), nil
}

func (s v2) ResolveObject(ctx context.Context, req *connect.Request[evaluationv2.ResolveObjectRequest]) (*connect.Response[evaluationv2.ResolveObjectResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Object)
	if err != nil {
		return nil, err
	}
	out := &evaluationv2.ResolveObjectResponse{Reason: r.reason, Variant: r.named(), Metadata: r.metadata}
	if out.Value, err = r.structure(); err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// structure is the value of an object flag; nil where the caller's default is
// meant.
func (r *resolved) structure() (*structpb.Struct, error) {
	m, ok := r.Object()
	if !ok {
		return nil, nil
	}
	return structpb.NewStruct(m)
}

func (s v2) EventStream(ctx context.Context, req *connect.Request[evaluationv2.EventStreamRequest], out *connect.ServerStream[evaluationv2.EventStreamResponse]) error {
	return s.eventStream(ctx, req.Header(), func(kind string, data *structpb.Struct) error {
		return out.Send(&evaluationv2.EventStreamResponse{Type: kind, Data: data})
	})
}
