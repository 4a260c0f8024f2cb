package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonnats "github.com/guidon-flags/guidon/sdk/propagate/nats"
)

// An instance is one process of a service, as far as Guidon can tell: an SDK
// client and OpenFeature API of its own, behind a network of its own.
type instance struct {
	of     *service
	net    *network
	client *guidon.Client
	api    *openfeature.EvaluationAPI
	flags  *openfeature.Client
	lanes  map[mode]*lane

	inFlight sync.WaitGroup
}

// A lane is how requests of one mode get in and out.
type lane struct {
	p           *propagate.Propagator
	handler     http.Handler
	http1, http *http.Client // the other speaks h2c
	zone        *guidonnats.Zone
}

func (s *service) open(ctx context.Context) (_ *instance, err error) {
	trust := propagate.Internal
	if s.row == 0 {
		trust = propagate.Edge
	}
	i := &instance{of: s, net: newNetwork(s.mesh.lag(), s.mesh.recorder.Fetched), api: isolated.NewAPI()}
	options := []guidon.Option{
		guidon.WithKey(s.mesh.guidon.key), guidon.WithService(s.name), guidon.WithMode(trust), guidon.WithContext(subjectOf),
		guidon.WithSource(func(source feed.Source) feed.Source { i.net.Source = source; return i.net }),
	}
	if i.client, err = guidon.Open(ctx, s.mesh.guidon.url, append(options, s.mesh.config.sdk...)...); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			i.close(ctx)
		}
	}()
	changed := func(openfeature.EventDetails) { s.mesh.kills.Reached(i, i.client.Snapshot().Revision(), time.Now()) }
	i.api.AddHandler(openfeature.ProviderConfigChange, &changed)
	start, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := i.api.SetProviderAndWait(start, i.client.Provider()); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	i.flags = i.api.NewClient()
	// The controls share a lane: none has a pin.
	follow := i.client.Propagator()
	i.lanes = map[mode]*lane{}
	if i.lanes[pinned], err = i.lane(follow); err != nil {
		return nil, err
	}
	if i.lanes[off], err = i.lane(follow.WithMode(propagate.Off)); err != nil {
		return nil, err
	}
	i.lanes[once], i.lanes[decisions] = i.lanes[off], i.lanes[off]
	return i, nil
}

func (i *instance) lane(p *propagate.Propagator) (*lane, error) {
	zone, err := guidonnats.NewZone(p, "mesh.>")
	if err != nil {
		return nil, err
	}
	return &lane{
		p: p, handler: i.handler(p), zone: zone,
		http1: &http.Client{Transport: i.of.mesh.spoil(i.of.name, p.Transport(i.of.mesh.http1))},
		http:  &http.Client{Transport: i.of.mesh.spoil(i.of.name, p.Transport(i.of.mesh.http2))},
	}, nil
}

// subjectOf is the evaluation context of a request at web.
func subjectOf(r *http.Request) map[string]any {
	t, err := parseTrip(r.Header.Values(tripHeader))
	if err != nil || t.Subject == nil {
		return nil
	}
	attributes := t.Subject.attributes()
	attributes["targetingKey"] = t.Subject.Key
	return attributes
}

// close waits for what is in flight, and ends the instance.
func (i *instance) close(ctx context.Context) {
	i.inFlight.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = i.api.Shutdown(ctx) // the provider is at its end either way
	_ = i.client.Close()
	i.of.mesh.kills.Gone(i)
	i.of.mesh.tally(i.client.Propagator().Stats())
}

var errAsked = errors.New("failed as it was asked to")

// work is what every call of every kind comes to: evaluate, call on, and
// evaluate again, when the world has moved on.
func (i *instance) work(ctx context.Context, t trip) error {
	i.look(ctx, t)
	if t.Fail {
		return errAsked
	}
	if err := i.of.mesh.callAll(ctx, i, t); err != nil {
		return err
	}
	i.look(ctx, t)
	return nil
}

// partner is somebody else whom a request asks about.
const partner = "partner-7"

// look evaluates the flags of this service as any application would, through
// OpenFeature, and tells the recorder. It adds to t.Met, and to t.Decided
// where the mode keeps to decisions.
func (i *instance) look(ctx context.Context, t trip) {
	recorder, at := i.of.mesh.recorder, i.of.name+" "+t.Path
	log := i.client.Snapshot().Emergencies() // what this instance knows at least
	tell := func(f flag, subject string, detail resolved) {
		if detail.code != "" {
			recorder.Failed(detail.code)
			return
		}
		if t.Mode != pinned {
			detail.emergency = 0 // nothing is promised
		}
		g := group{f.key, subject, detail.emergency}
		recorder.Evaluated(t.Request, at, g, detail.answer)
		if t.Mode != pinned {
			return
		}
		if met := t.Met[f.key]; met > detail.emergency && met > detail.pin {
			recorder.Backward(t.Request, at, g, met)
		}
		if known, ok := log.After(f.key, detail.pin); ok && known.Revision > detail.emergency {
			recorder.Ignoring(t.Request, at, g, known.Revision)
		}
		t.Met[f.key] = max(t.Met[f.key], detail.emergency)
	}
	var who openfeature.EvaluationContext // empty: the pin knows for whom
	if t.Mode != pinned {
		who = openfeature.NewEvaluationContext(t.Subject.Key, t.Subject.attributes())
	}
	for _, f := range i.of.reads {
		if known, decided := t.Decided[f.key]; decided {
			tell(f, "", resolved{answer: known})
			continue
		}
		detail := evaluate(ctx, i.flags, f, who)
		tell(f, "", detail)
		if t.Mode.keeps() && detail.code == "" {
			t.Decided[f.key] = detail.answer
		}
	}
	other := openfeature.NewEvaluationContext(partner, map[string]any{"plan": "pro", "country": "NZ", "device": "desk"})
	for _, f := range i.of.reads[:2] {
		tell(f, partner, evaluate(ctx, i.flags, f, other))
	}
	state, ok := propagate.FromContext(ctx)
	if !ok || t.Mode != pinned {
		return
	}
	if pin, sealed := state.Pin(); sealed {
		recorder.Rooted(t.Request, pin.Root)
	}
	if header, ok := state.Header(); ok && i.of.row == 0 {
		recorder.Sent(len(header))
	}
}

// A resolved is an evaluation without its type.
type resolved struct {
	answer
	code      string // of an explicit ERROR; empty if all went well
	pin       int64
	emergency int64 // revision of the kill that decided; 0 for none
}

func evaluate(ctx context.Context, flags *openfeature.Client, f flag, who openfeature.EvaluationContext) resolved {
	// The errors say nothing that the details do not.
	switch f.kind {
	case eval.Boolean:
		d, _ := flags.BooleanValueDetails(ctx, f.key, false, who)
		return resolve(d)
	case eval.Integer:
		d, _ := flags.IntValueDetails(ctx, f.key, -1, who)
		return resolve(d)
	case eval.Object:
		d, _ := flags.ObjectValueDetails(ctx, f.key, nil, who)
		return resolve(d)
	default:
		d, _ := flags.StringValueDetails(ctx, f.key, "code default", who)
		return resolve(d)
	}
}

func resolve[T any](d openfeature.GenericEvaluationDetails[T]) resolved {
	r := resolved{answer: answer{d.Variant, fmt.Sprint(d.Value)}}
	r.pin, _ = d.FlagMetadata.GetInt("pinnedRevision") // 0 if there is none
	if origin, err := d.FlagMetadata.GetString("origin"); err == nil && origin == string(propagate.OriginEmergency) {
		r.emergency, _ = d.FlagMetadata.GetInt("revision")
	}
	if d.Reason != openfeature.ErrorReason {
		return r
	}
	r.code = string(d.ErrorCode)
	if missed, err := d.FlagMetadata.GetBool(pinUnavailable); err == nil && missed {
		r.code = pinUnavailable
	}
	return r
}
