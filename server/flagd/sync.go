package flagd

import (
	"cmp"
	"context"
	"net/http"

	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// syncs answers flagd.sync.v1.
type syncs struct{ *Service }

func (s syncs) SyncFlags(ctx context.Context, req *connect.Request[syncv1.SyncFlagsRequest], out *connect.ServerStream[syncv1.SyncFlagsResponse]) error {
	caller, selector, err := s.asked(ctx, req.Header(), req.Msg.GetSelector()) //nolint:staticcheck // older providers send it
	if err != nil {
		return err
	}
	static, err := s.static()
	if err != nil {
		return err
	}
	sent := ""
	err = s.watch(ctx, caller.Environment, func(head *hub.Head) error {
		text := s.document(ctx, caller.Environment, head.Snapshot(), selector)
		if text == sent {
			return nil // what changed is not in it
		}
		sent = text
		return s.timely(ctx, func() error {
			return out.Send(&syncv1.SyncFlagsResponse{FlagConfiguration: text, SyncContext: static})
		})
	})
	if err == nil {
		err = s.cfg.Leave(ctx)
	}
	return err
}

func (s syncs) FetchAllFlags(ctx context.Context, req *connect.Request[syncv1.FetchAllFlagsRequest]) (*connect.Response[syncv1.FetchAllFlagsResponse], error) {
	caller, selector, err := s.asked(ctx, req.Header(), req.Msg.GetSelector()) //nolint:staticcheck // see SyncFlags
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&syncv1.FetchAllFlagsResponse{
		FlagConfiguration: s.document(ctx, caller.Environment, caller.Environment.Snapshot(), selector),
	}), nil
}

// GetMetadata is how older providers ask for what SyncFlags sends along.
//
//nolint:staticcheck // that they still do is why it is here
func (s syncs) GetMetadata(context.Context, *connect.Request[syncv1.GetMetadataRequest]) (*connect.Response[syncv1.GetMetadataResponse], error) {
	static, err := s.static()
	if err != nil {
		return nil, err
	}
	if static == nil {
		static = &structpb.Struct{}
	}
	return connect.NewResponse(&syncv1.GetMetadataResponse{Metadata: static}), nil
}

// asked is who asks for which flags. The header stands above the field.
func (s syncs) asked(ctx context.Context, header http.Header, field string) (Caller, view.Selector, error) {
	caller, err := s.cfg.Caller(ctx)
	if err != nil {
		return caller, view.Selector{}, err
	}
	selector, err := view.ParseSelector(cmp.Or(header.Get(view.SelectorHeader), field))
	return caller, selector.Within(caller.Projects), err
}

// static is the operator's context, for providers to lay over theirs.
func (s syncs) static() (*structpb.Struct, error) {
	c := s.cfg.Contexts.Static()
	if c == nil {
		return nil, nil
	}
	return structpb.NewStruct(c.Map())
}
