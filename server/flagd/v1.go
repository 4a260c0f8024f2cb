package flagd

import (
	"context"
	"fmt"

	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// v1 answers flagd.evaluation.v1, which cannot say that the caller's default is
// meant: a flag without a default variant is not found, and a disabled one has
// a zero value and no variant.
type v1 struct{ *Service }

func (s v1) ResolveBoolean(ctx context.Context, req *connect.Request[evaluationv1.ResolveBooleanRequest]) (*connect.Response[evaluationv1.ResolveBooleanResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Boolean)
	if err = r.v1(req.Msg.GetFlagKey(), err); err != nil {
		return nil, err
	}
	value, _ := r.Boolean()
	return connect.NewResponse(&evaluationv1.ResolveBooleanResponse{Value: value, Reason: r.reason, Variant: r.variant, Metadata: r.metadata}), nil
}

func (s v1) ResolveString(ctx context.Context, req *connect.Request[evaluationv1.ResolveStringRequest]) (*connect.Response[evaluationv1.ResolveStringResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.String)
	if err = r.v1(req.Msg.GetFlagKey(), err); err != nil {
		return nil, err
	}
	value, _ := r.Text()
	return connect.NewResponse(&evaluationv1.ResolveStringResponse{Value: value, Reason: r.reason, Variant: r.variant, Metadata: r.metadata}), nil
}

func (s v1) ResolveFloat(ctx context.Context, req *connect.Request[evaluationv1.ResolveFloatRequest]) (*connect.Response[evaluationv1.ResolveFloatResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Float)
	if err = r.v1(req.Msg.GetFlagKey(), err); err != nil {
		return nil, err
	}
	value, _ := r.Float()
	return connect.NewResponse(&evaluationv1.ResolveFloatResponse{Value: value, Reason: r.reason, Variant: r.variant, Metadata: r.metadata}), nil
}

func (s v1) ResolveInt(ctx context.Context, req *connect.Request[evaluationv1.ResolveIntRequest]) (*connect.Response[evaluationv1.ResolveIntResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Integer)
	if err = r.v1(req.Msg.GetFlagKey(), err); err != nil {
		return nil, err
	}
	value, _ := r.Integer()
	return connect.NewResponse(&evaluationv1.ResolveIntResponse{Value: value, Reason: r.reason, Variant: r.variant, Metadata: r.metadata}), nil
}

func (s v1) ResolveObject(ctx context.Context, req *connect.Request[evaluationv1.ResolveObjectRequest]) (*connect.Response[evaluationv1.ResolveObjectResponse], error) {
	r, err := s.resolve(ctx, req.Header(), req.Msg.GetFlagKey(), req.Msg.GetContext(), eval.Object)
	if err = r.v1(req.Msg.GetFlagKey(), err); err != nil {
		return nil, err
	}
	value, err := r.structure()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&evaluationv1.ResolveObjectResponse{Value: value, Reason: r.reason, Variant: r.variant, Metadata: r.metadata}), nil
}

// v1 is the error that v1 has for an answer, besides the one it has already.
func (r *resolved) v1(key string, err error) error {
	if err == nil && r.isDefault() && r.reason != string(eval.ReasonDisabled) {
		return connect.NewError(connect.CodeNotFound, &flagError{fmt.Sprintf("flag %.128q has no default variant: flagd.evaluation.v2 can say so", key)})
	}
	return err
}

// ResolveAll evaluates all flags that the caller sees. Those that fail, and
// those without a default variant, are left out.
func (s v1) ResolveAll(ctx context.Context, req *connect.Request[evaluationv1.ResolveAllRequest]) (*connect.Response[evaluationv1.ResolveAllResponse], error) {
	v, err := s.open(ctx, req.Header(), req.Msg.GetContext())
	if err != nil {
		return nil, err
	}
	out := &evaluationv1.ResolveAllResponse{Flags: map[string]*evaluationv1.AnyFlag{}}
	if out.Metadata, err = setMetadata(&v); err != nil {
		return nil, err
	}
	for _, f := range v.Flags(ctx) {
		r, err := say(&v, f.Key(), eval.Any)
		if r.v1(f.Key(), err) != nil {
			continue
		}
		if out.Flags[f.Key()], err = r.any(); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(out), nil
}

func (r *resolved) any() (*evaluationv1.AnyFlag, error) {
	out := &evaluationv1.AnyFlag{Reason: r.reason, Variant: r.variant, Metadata: r.metadata}
	switch value := r.Value().(type) {
	case bool:
		out.Value = &evaluationv1.AnyFlag_BoolValue{BoolValue: value}
	case string:
		out.Value = &evaluationv1.AnyFlag_StringValue{StringValue: value}
	case float64:
		out.Value = &evaluationv1.AnyFlag_DoubleValue{DoubleValue: value}
	case map[string]any:
		object, err := structpb.NewStruct(value)
		if err != nil {
			return nil, err
		}
		out.Value = &evaluationv1.AnyFlag_ObjectValue{ObjectValue: object}
	}
	return out, nil
}

func (s v1) EventStream(ctx context.Context, req *connect.Request[evaluationv1.EventStreamRequest], out *connect.ServerStream[evaluationv1.EventStreamResponse]) error {
	return s.eventStream(ctx, req.Header(), func(kind string, data *structpb.Struct) error {
		return out.Send(&evaluationv1.EventStreamResponse{Type: kind, Data: data})
	})
}
