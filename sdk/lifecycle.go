package guidon

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/guidon-flags/guidon/sdk/feed"
)

// initWithin bounds how long OpenFeature's initialisation waits for flags if its
// caller names no time.
const initWithin = 5 * time.Second

// lifecycle is the part of the provider that OpenFeature starts, stops and
// listens to. Between Init and Shutdown it says each change of status once, and
// which flags changed; what it could not deliver yet is joined together.
type lifecycle struct {
	active atomic.Bool // from the start of Init to Shutdown
	events chan openfeature.Event
	wake   chan struct{} // capacity 1: that there is something, not what

	mu      sync.Mutex
	session chan struct{} // nil until Init has an outcome; closed by Shutdown
	told    openfeature.EventType
	status  openfeature.EventType // to be delivered; empty for none
	flags   map[string]struct{}   // to be delivered
}

func newProvider(c *Client) *provider {
	return &provider{client: c, lifecycle: lifecycle{
		events: make(chan openfeature.Event),
		wake:   make(chan struct{}, 1),
		flags:  map[string]struct{}{},
	}}
}

// EventChannel is read by OpenFeature from before Init until after Shutdown.
func (p *provider) EventChannel() <-chan openfeature.Event { return p.events }

// Init waits for flags as InitWithContext does.
func (p *provider) Init(evaluation openfeature.EvaluationContext) error {
	return p.InitWithContext(context.Background(), evaluation)
}

// InitWithContext returns nil once there are flags, at once if there are, and an
// error if ctx ends before (5 s if it has no end). The client goes on trying, and
// READY follows when it succeeds.
//
// Requirement 2.8.2 of the specification makes the provider the sole source of
// the event that tells the outcome. go-sdk 1.20 tells it itself from what is
// returned here, and handlers would run twice: so nothing is emitted. When
// go-sdk leaves it to providers, this is the place to do so.
func (p *provider) InitWithContext(ctx context.Context, _ openfeature.EvaluationContext) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, initWithin)
		defer cancel()
	}
	p.active.Store(true)
	err := p.client.WaitReady(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		p.session = make(chan struct{})
	}
	// Looked at again under the lock, since the status that came with the first
	// flags may have passed by observe just before.
	if err == nil || p.client.Snapshot() != nil {
		p.told = openfeature.ProviderReady
		return nil
	}
	p.told = openfeature.ProviderError
	return &openfeature.ProviderInitError{ErrorCode: openfeature.ProviderNotReadyCode, Message: err.Error()}
}

// Shutdown ends the provider's events and returns it to where it was before
// Init, which may be called again. Shutting down again does nothing.
func (p *provider) Shutdown() {
	p.active.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return
	}
	close(p.session)
	p.session, p.told, p.status = nil, "", ""
	clear(p.flags)
}

// ShutdownWithContext is Shutdown, which does not wait for anything.
func (p *provider) ShutdownWithContext(context.Context) error {
	p.Shutdown()
	return nil
}

// observe takes note of the feed's status. It compares with what was told, not
// with the status before, so that a change which OpenFeature could not be told
// is told with the next step of the stream.
func (p *provider) observe(s feed.Status) {
	var status openfeature.EventType
	switch s.State {
	case feed.StateReady:
		status = openfeature.ProviderReady
	case feed.StateStale:
		status = openfeature.ProviderStale
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil || p.told == status {
		return
	}
	p.told, p.status = status, status
	p.nudge()
}

func (p *provider) changed(keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session == nil {
		return
	}
	for _, key := range keys {
		p.flags[key] = struct{}{}
	}
	p.nudge()
}

func (p *provider) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// deliver hands events to OpenFeature until ctx ends.
func (p *provider) deliver(ctx context.Context) {
	for {
		event, session := p.next()
		if session == nil {
			select {
			case <-p.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case p.events <- event:
		case <-session: // nobody is listening any more
		case <-ctx.Done():
			return
		}
	}
}

// next takes what is to be delivered; its session is nil if that is nothing.
func (p *provider) next() (openfeature.Event, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	event := openfeature.Event{ProviderName: providerName}
	switch {
	case p.status != "":
		event.EventType = p.status
		event.Message = messages[p.status]
		p.status = ""
	case len(p.flags) > 0:
		event.EventType = openfeature.ProviderConfigChange
		event.FlagChanges = slices.Sorted(maps.Keys(p.flags))
		clear(p.flags)
	default:
		return event, nil
	}
	if snapshot := p.client.Snapshot(); snapshot != nil {
		event.EventMetadata = map[string]any{"revision": snapshot.Revision()}
	}
	return event, p.session
}

var messages = map[openfeature.EventType]string{
	openfeature.ProviderReady: "flags are current",
	openfeature.ProviderStale: "the connection is lost; flags keep their last values",
}
