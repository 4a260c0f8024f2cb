package flagd

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// documentKey is a part of an environment.
type documentKey struct {
	environment *hub.Environment
	selector    view.Selector
}

// document is what providers evaluate of one revision. Whoever wants it first
// makes it; it does not hold on to the snapshot that it is made of.
type document struct {
	revision int64
	text     func() string
	bytes    atomic.Int64 // 0 while it is not made
}

// maxDocuments bounds the documents that are kept: callers name selectors.
const maxDocuments = 100

// warnFrom is the document of which the operator is warned: clients of gRPC take
// messages of at most 4 MiB, and most providers do not say otherwise.
const warnFrom = 3 << 20

// document returns a flagd document of the flags that a selector means, made
// once for all who want the same.
func (s *Service) document(ctx context.Context, e *hub.Environment, snapshot *eval.Snapshot, selector view.Selector) string {
	return s.find(ctx, documentKey{e, selector}, snapshot).text()
}

// find returns the document that is kept, or one that is yet to be made.
func (s *Service) find(ctx context.Context, key documentKey, snapshot *eval.Snapshot) *document {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.documents[key]
	if known != nil && known.revision == snapshot.Revision() {
		return known
	}
	d := &document{revision: snapshot.Revision()}
	warned := known != nil && known.bytes.Load() > warnFrom
	d.text = sync.OnceValue(func() string {
		text := documentOf(snapshot, key.selector)
		d.bytes.Store(int64(len(text)))
		if len(text) > warnFrom && !warned {
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "flagd's providers take no document above 4 MiB: let them ask for a part of it by flagSetId",
				slog.String("environment", key.environment.Name()), slog.String("selector", key.selector.String()), slog.Int("bytes", len(text)))
		}
		return text
	})
	if known == nil && len(s.documents) >= maxDocuments {
		maps.DeleteFunc(s.documents, func(other documentKey, d *document) bool {
			return d.revision != other.environment.Snapshot().Revision() // those who want it have gone
		})
	}
	// One that is older than what is kept is for a stream that lags.
	if known == nil && len(s.documents) < maxDocuments || known != nil && known.revision < d.revision {
		s.documents[key] = d
	}
	return d
}

// documentOf makes a document. Segments and prerequisites are inlined. A flag
// that does not compile is left out, for one bad flag makes providers refuse all.
func documentOf(snapshot *eval.Snapshot, selector view.Selector) string {
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
		definition := f.Definition()                                  // an object, and no empty one
		text = append(append(text, definition[:len(definition)-1]...), `,"source":`...)
		text = append(strconv.AppendQuote(text, f.Project()), '}') // names need no escapes either
	}
	text = append(text, `},"metadata":{`...)
	if selector.Key != "" {
		project, err := json.Marshal(selector.Project)
		if err == nil {
			text = append(append(append(append(text, '"'), selector.Key...), `":`...), project...)
		}
	}
	return string(append(text, "}}"...))
}
