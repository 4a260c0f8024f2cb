package flagd

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	syncv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/sync/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
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

// documentKey is a part of an environment.
type documentKey struct {
	environment string
	selector    view.Selector
}

// document is what providers evaluate of one snapshot.
type document struct {
	snapshot *eval.Snapshot
	text     string
}

// maxDocuments bounds the documents that are kept: callers name selectors.
const maxDocuments = 100

// warnFrom is the document of which the operator is warned: clients of gRPC take
// messages of at most 4 MiB, and most providers do not say otherwise.
const warnFrom = 3 << 20

// document returns a flagd document of the flags that a selector means, made
// once for all who want the same. Segments and prerequisites are inlined. A flag that does
// not compile is left out, for one bad flag makes providers refuse all.
func (s *Service) document(ctx context.Context, e *hub.Environment, snapshot *eval.Snapshot, selector view.Selector) string {
	key := documentKey{e.Name(), selector}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.documents[key]; ok && known.snapshot == snapshot {
		return known.text
	}
	text := []byte(`{"flags":{`)
	first := len(text)
	for f := range snapshot.Flags() {
		if _, killed := f.Killed(); !selector.Selects(f) || f.Err() != nil && !killed {
			continue
		}
		if len(text) > first {
			text = append(text, ',')
		}
		text = append(append(append(text, '"'), f.Key()...), `":`...) // keys need no escapes
		text = append(text, f.Definition()...)
	}
	text = append(text, `},"metadata":{`...)
	if selector.Key != "" {
		project, err := json.Marshal(selector.Project)
		if err == nil {
			text = append(append(append(append(text, '"'), selector.Key...), `":`...), project...)
		}
	}
	made := document{snapshot, string(append(text, "}}"...))}
	if len(made.text) > warnFrom && len(s.documents[key].text) <= warnFrom {
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "flagd's providers take no document above 4 MiB: let them ask for a part of it by flagSetId",
			slog.String("environment", e.Name()), slog.String("selector", selector.String()), slog.Int("bytes", len(made.text)))
	}
	if _, known := s.documents[key]; known || len(s.documents) < maxDocuments {
		s.documents[key] = made
	}
	return made.text
}
