package flagd

import (
	"context"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// Document returns the document of a snapshot, and whether it is kept.
func (s *Service) Document(ctx context.Context, e *hub.Environment, snapshot *eval.Snapshot, selector view.Selector) (text string, kept bool) {
	text = s.document(ctx, e, snapshot, selector)
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.documents[documentKey{e, selector}]
	return text, d != nil && d.revision == snapshot.Revision()
}
