package hub

import (
	"context"
	"time"

	"github.com/guidon-flags/guidon/store"
)

// patience is for how long the database may take to say which environments
// there are before it counts as away.
const patience = 500 * time.Millisecond

// Away reports that the database did not answer when the hub asked it last, or
// that it is being asked and takes long. Whoever can do without it then should:
// one that hangs answers nobody, and keeps each who asks until a timeout.
func (h *Hub) Away() bool {
	if h.unanswered.Load() {
		return true
	}
	since := h.askedAt.Load()
	return since != nil && h.cfg.Now().Sub(*since) > patience
}

// listed asks which environments there are, and notes whether there is an answer.
func (h *Hub) listed(ctx context.Context) ([]store.Environment, error) {
	now := h.cfg.Now()
	h.askedAt.Store(&now)
	listed, err := h.source.Environments(ctx)
	h.unanswered.Store(err != nil)
	h.askedAt.Store(nil)
	return listed, err
}
