package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

const (
	callTimeout = 5 * time.Second
	// maxReport bounds what a service believes of another, in bytes.
	maxReport = 1 << 20

	// What the SDK says of an evaluation in its flag metadata.
	metadataRevision       = "revision"
	metadataPinUnavailable = "PIN_UNAVAILABLE"
)

// A service is a role at work.
type service struct {
	role
	flags *openfeature.Client
	// lanes are how requests get in and calls get out: with the guidon header,
	// or without.
	lanes map[mode]*propagate.Propagator
	// call reaches the services below, by name.
	call map[string]caller
}

// lanesOf is what a service goes by in either mode.
func lanesOf(p *propagate.Propagator) map[mode]*propagate.Propagator {
	return map[mode]*propagate.Propagator{on: p, off: p.WithMode(propagate.Off)}
}

// A caller has another service work on the request of ctx, and returns the hops
// of its subtree.
type caller func(ctx context.Context, t trip) ([]Hop, error)

// handler serves the calls of other services.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthy)
	mux.Handle("GET /hops", s.receive(func(r *http.Request) (trip, error) {
		via := overHTTP
		if slices.Contains(r.Header.Values("Via"), proxyName) {
			via = overProxy
		}
		return tripFrom(r.Header.Values(tripHeader), via)
	}, func(w http.ResponseWriter, r *http.Request, t trip) {
		hops, err := s.visit(r.Context(), t)
		if err != nil {
			refuse(w, http.StatusBadGateway, err)
			return
		}
		reply(w, hops)
	}))
	if arrives(s.name, overConnect) {
		mux.Handle(s.connectHandler())
	}
	return mux
}

// receive has next work on each request, on the trip that begin makes of it.
func (s *service) receive(begin func(*http.Request) (trip, error), next func(http.ResponseWriter, *http.Request, trip)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := begin(r)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		s.lanes[t.mode].Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next(w, r, t) })).ServeHTTP(w, r)
	})
}

// visit evaluates the flags of this service and then calls the services below
// it. It returns the hops of the whole subtree, its own first.
func (s *service) visit(ctx context.Context, t trip) ([]Hop, error) {
	begin := time.Now()
	hops := []Hop{s.look(ctx, t)}
	for _, st := range s.steps {
		if err := pause(ctx, st.after); err != nil {
			return nil, err
		}
		reports := make([][]Hop, len(st.calls))
		g, ctx := errgroup.WithContext(ctx)
		for i, c := range st.calls {
			g.Go(func() (err error) {
				ctx, cancel := context.WithTimeout(ctx, callTimeout)
				defer cancel()
				if reports[i], err = s.call[c.name](ctx, t); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for _, report := range reports {
			hops = append(hops, below(s.name, report)...)
		}
	}
	hops[0].Milliseconds = milliseconds(time.Since(begin))
	return hops, nil
}

// look evaluates the flags of this service as any application would: through
// OpenFeature.
func (s *service) look(ctx context.Context, t trip) Hop {
	var who openfeature.EvaluationContext // empty: the pin knows for whom
	if t.mode == off {
		who = openfeature.NewEvaluationContext(t.person.User, t.person.attributes())
	}
	hop := Hop{Service: s.name, Via: t.via, Flags: map[string]string{}, Reasons: map[string]string{}}
	for _, key := range s.reads {
		d := detail(ctx, s.flags, key, who)
		hop.Flags[key], hop.Reasons[key] = d.Variant, string(d.Reason)
		if missed, err := d.FlagMetadata.GetBool(metadataPinUnavailable); err == nil && missed {
			hop.PinUnavailable = append(hop.PinUnavailable, key)
		}
		if revision, err := d.FlagMetadata.GetInt(metadataRevision); err == nil && key == flipped {
			hop.Revision = revision
		}
	}
	if state, ok := propagate.FromContext(ctx); ok && t.mode == on {
		hop.Revision = state.Revision()
	}
	return hop
}

// detail asks for a flag in the type that its default has here.
func detail(ctx context.Context, flags *openfeature.Client, key string, who openfeature.EvaluationContext) openfeature.ResolutionDetail {
	// The errors say nothing that the details do not.
	switch fallback := fallbacks[key].(type) {
	case string:
		d, _ := flags.StringValueDetails(ctx, key, fallback, who)
		return d.ResolutionDetail
	case int64:
		d, _ := flags.IntValueDetails(ctx, key, fallback, who)
		return d.ResolutionDetail
	case map[string]any:
		d, _ := flags.ObjectValueDetails(ctx, key, fallback, who)
		return d.ResolutionDetail
	default:
		d, _ := flags.BooleanValueDetails(ctx, key, false, who)
		return d.ResolutionDetail
	}
}

// overHTTP asks the service at url, or a proxy before it, for its hops.
func (b *booth) overHTTP(url string) caller {
	clients := map[mode]*http.Client{}
	for m, p := range b.lanes {
		clients[m] = &http.Client{Transport: p.Transport(b.wire)}
	}
	return func(ctx context.Context, t trip) ([]Hop, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/hops", nil)
		if err != nil {
			return nil, err
		}
		if value := t.header(); value != nil {
			req.Header[http.CanonicalHeaderKey(tripHeader)] = value
		}
		res, err := clients[t.mode].Do(req)
		if err != nil {
			return nil, plainly(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, maxReport))
		if err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", res.Status, body)
		}
		return hopsFrom(body)
	}
}

// plainly is what is wrong, without the URL.
func plainly(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
