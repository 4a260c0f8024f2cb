package flagd

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/server/hub/view"
)

// The types of events.
const (
	providerReady    = "provider_ready"
	configChange     = "configuration_change"
	keepAlive        = "keep_alive"
	providerShutdown = "provider_shutdown"
)

// watch calls update with the newest revision, and then with each newer one or
// when it is time to look up, until ctx ends, update fails, the key is no good
// any more, or the server stops. It subscribes before the first call.
func (s *Service) watch(ctx context.Context, e *hub.Environment, update func(*hub.Head) error) error {
	leave, err := s.cfg.Enter(ctx, e.Name())
	if err != nil {
		return err
	}
	defer leave()
	control := s.cfg.Control(ctx)
	// The request has been read; from here on the connection may be silent, and
	// each message has its own time to be taken.
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Time{})
	key := s.cfg.Hold(ctx)
	defer key.Release()
	watching, stop := key.Context(ctx)
	defer stop()
	defer context.AfterFunc(s.cfg.Draining, stop)() //nolint:contextcheck // the server's end, besides the call's
	for head := range e.Watch(watching, s.beat()) {
		if err := update(head); err != nil {
			return err
		}
	}
	return cmp.Or(ctx.Err(), key.Err())
}

// beat is how often a stream without news looks whether it was silent for long.
func (s *Service) beat() time.Duration { return s.cfg.KeepAlive / 10 }

// timely sends within Config.Progress.
func (s *Service) timely(ctx context.Context, send func() error) error {
	control := s.cfg.Control(ctx)
	_ = control.SetWriteDeadline(time.Now().Add(s.cfg.Progress))
	if err := send(); err != nil {
		return fmt.Errorf("%w: %w", context.Canceled, err) // the client does not read
	}
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

// eventStream tells a provider that it is connected, and then of each change to
// what it sees.
func (s *Service) eventStream(ctx context.Context, header http.Header, send func(string, *structpb.Struct) error) error {
	caller, err := s.cfg.Caller(ctx)
	if err != nil {
		return err
	}
	selector, err := view.ParseSelector(header.Get(view.SelectorHeader))
	if err != nil {
		return err
	}
	selector = selector.Within(caller.Projects)
	sees := func(f *eval.Flag) bool {
		return selector.Selects(f) && (!caller.ClientOnly || f.ClientVisible())
	}
	var told *eval.Snapshot
	var sentAt time.Time
	tell := func(kind string, data *structpb.Struct) error {
		sentAt = time.Now()
		return s.timely(ctx, func() error { return send(kind, data) })
	}
	err = s.watch(ctx, caller.Environment, func(head *hub.Head) error {
		before, now := told, head.Snapshot()
		told = now
		if before == nil {
			return tell(providerReady, nil)
		}
		if changed := changes(before, now, sees); len(changed) > 0 {
			data, err := structpb.NewStruct(map[string]any{"flags": changed})
			if err != nil {
				return err
			}
			return tell(configChange, data)
		}
		if time.Since(sentAt) >= s.cfg.KeepAlive-s.beat()/2 {
			return tell(keepAlive, nil)
		}
		return nil
	})
	if err == nil {
		err = s.cfg.Leave(ctx)
		_ = tell(providerShutdown, nil) // it may be gone
	}
	return err
}

// changes says how the flags that a caller sees differ between two snapshots.
func changes(before, now *eval.Snapshot, sees func(*eval.Flag) bool) map[string]any {
	if before == now {
		return nil
	}
	changed := map[string]any{}
	for f := range now.Flags() {
		old := before.Flag(f.Key())
		switch {
		case !sees(f):
		case old == nil || !sees(old):
			changed[f.Key()] = map[string]any{"type": "write"}
		case old != f && old.EffectiveFrom() != f.EffectiveFrom():
			changed[f.Key()] = map[string]any{"type": "update"}
		}
	}
	for f := range before.Flags() {
		if new := now.Flag(f.Key()); sees(f) && (new == nil || !sees(new)) {
			changed[f.Key()] = map[string]any{"type": "delete"}
		}
	}
	return changed
}
