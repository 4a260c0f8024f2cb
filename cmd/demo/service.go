package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"golang.org/x/sync/errgroup"

	"github.com/guidon-flags/guidon/sdk/propagate"
)

const (
	callTimeout = 5 * time.Second
	// maxReport bounds what a service believes of another, in bytes.
	maxReport = 1 << 20
	// propagationParameter tells a called service that no header is coming.
	propagationParameter = "propagation"

	// What the SDK says of an evaluation in its flag metadata.
	metadataRevision       = "revision"
	metadataPinUnavailable = "PIN_UNAVAILABLE"
)

// A service is a role at work.
type service struct {
	role
	peers map[string]string // URL by name
	flags *openfeature.Client
	lanes map[mode]lane
}

// A lane is how requests get in and calls get out: with the guidon header, or
// without.
type lane struct {
	middleware func(http.Handler) http.Handler
	calls      *http.Client
}

// A trip is one request on its way through the services: in which mode it
// started, and for whom it is. With propagation on the header knows for whom,
// and only web fills in the person.
type trip struct {
	mode   mode
	person Person
}

// handler serves the calls of other services.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthy)
	announced := func(r *http.Request) mode {
		if r.URL.Query().Get(propagationParameter) == string(off) {
			return off
		}
		return on
	}
	mux.Handle("GET /hops", s.receive(announced, func(w http.ResponseWriter, r *http.Request, t trip) {
		hops, err := s.visit(r.Context(), t)
		if err != nil {
			refuse(w, http.StatusBadGateway, err)
			return
		}
		reply(w, hops)
	}))
	return mux
}

// receive has next work on each request in the mode that pick names.
func (s *service) receive(pick func(*http.Request) mode, next func(http.ResponseWriter, *http.Request, trip)) http.Handler {
	in := map[mode]http.Handler{}
	for m, l := range s.lanes {
		in[m] = l.middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p, err := personFrom(r.URL.Query())
			if err != nil {
				refuse(w, http.StatusBadRequest, err)
				return
			}
			next(w, r, trip{m, p})
		}))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { in[pick(r)].ServeHTTP(w, r) })
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
		reports := make([][]Hop, len(st.call))
		g, ctx := errgroup.WithContext(ctx)
		for i, name := range st.call {
			g.Go(func() (err error) {
				reports[i], err = s.call(ctx, name, t)
				return err
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
	hop := Hop{Service: s.name, Flags: map[string]string{}, Reasons: map[string]string{}}
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

// call asks another service for its hops.
func (s *service) call(ctx context.Context, name string, t trip) ([]Hop, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	to := s.peers[name] + "/hops"
	if t.mode == off {
		q := t.person.query()
		q.Set(propagationParameter, string(off))
		to += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	res, err := s.lanes[t.mode].calls.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which names the person
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReport))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", name, res.Status, body)
	}
	var hops []Hop
	if err := json.Unmarshal(body, &hops); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(hops) == 0 {
		return nil, fmt.Errorf("%s: reported no hop", name)
	}
	return hops, nil
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
