// Package guidonmetrics shows what a Guidon client counts as metrics of
// OpenTelemetry.
//
// # The idea
//
// The client counts all the time, at the price of an atomic addition; [Register]
// lets a meter read the counters when its reader collects. Nothing is pushed and
// no goroutine started.
//
// Attributes have few values: outcomes, kinds of events, flag keys. Correlation
// IDs, subjects and values never appear.
package guidonmetrics

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Register makes a meter's instruments and feeds them from a client's
// Propagator and the statistics of its feed, which may be nil, until the
// registration is ended:
//
//	guidon.extracts{result}           inbound requests, by what became of their header
//	guidon.events{kind}               see propagate.EventKind
//	guidon.flag.events{kind,flag}     those of them that are per flag
//	guidon.overrides{result}          override tokens at this edge
//	guidon.header.bytes{le}           headers that went out, by size: how many had at most so many
//	guidon.header.bytes.sum           and all their bytes
//	guidon.pin.fetch.seconds{le}      definitions that were waited for, by how long
//	guidon.pin.fetch.seconds.sum      and all that time
//	guidon.feed{kind}                 see feed.Stats
func Register(meter metric.Meter, p *propagate.Propagator, f *feed.Stats) (metric.Registration, error) {
	r := reader{propagator: p, feed: f}
	var made []metric.Observable
	counter := func(into *metric.Int64ObservableCounter, name, unit, description string) error {
		instrument, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		if err != nil {
			return fmt.Errorf("guidon metrics: %s: %w", name, err)
		}
		*into = instrument
		made = append(made, instrument)
		return nil
	}
	for _, i := range []struct {
		into                    *metric.Int64ObservableCounter
		name, unit, description string
	}{
		{&r.extracts, "guidon.extracts", "{request}", "Inbound requests by what became of their guidon header."},
		{&r.events, "guidon.events", "{event}", "What propagation met, by kind."},
		{&r.flags, "guidon.flag.events", "{event}", "What propagation met that is of one flag."},
		{&r.overrides, "guidon.overrides", "{token}", "Override tokens by what became of them."},
		{&r.headers, "guidon.header.bytes", "{header}", "Guidon headers sent that had at most le bytes."},
		{&r.headerSum, "guidon.header.bytes.sum", "By", "Bytes of all guidon headers sent."},
		{&r.fetches, "guidon.pin.fetch.seconds", "{fetch}", "Definitions at a pin that took at most le seconds to get."},
		{&r.fed, "guidon.feed", "{event}", "What the stream of flags met, by kind."},
	} {
		if err := counter(i.into, i.name, i.unit, i.description); err != nil {
			return nil, err
		}
	}
	sum, err := meter.Float64ObservableCounter("guidon.pin.fetch.seconds.sum", metric.WithUnit("s"),
		metric.WithDescription("Time waited for definitions at a pin."))
	if err != nil {
		return nil, fmt.Errorf("guidon metrics: guidon.pin.fetch.seconds.sum: %w", err)
	}
	r.fetchSum = sum
	return meter.RegisterCallback(r.observe, append(made, sum)...)
}

type reader struct {
	propagator *propagate.Propagator
	feed       *feed.Stats

	extracts, events, flags, overrides, headers, headerSum, fetches, fed metric.Int64ObservableCounter
	fetchSum                                                             metric.Float64ObservableCounter
}

func (r *reader) observe(_ context.Context, o metric.Observer) error {
	s := r.propagator.Stats()
	for outcome, n := range s.Headers {
		o.ObserveInt64(r.extracts, count(n), with("result", outcome.String()))
	}
	for kind, n := range s.Events {
		o.ObserveInt64(r.events, count(n), with("kind", kind.String()))
	}
	for kind, flags := range s.Flags {
		for key, n := range flags {
			o.ObserveInt64(r.flags, count(n), metric.WithAttributes(attribute.String("kind", kind.String()), attribute.String("flag", key)))
		}
	}
	for outcome, n := range s.Overrides {
		o.ObserveInt64(r.overrides, count(n), with("result", outcome.String()))
	}
	distribute(o, r.headers, s.HeaderBytes)
	o.ObserveInt64(r.headerSum, int64(s.HeaderBytes.Sum))
	distribute(o, r.fetches, s.PinFetchSeconds)
	o.ObserveFloat64(r.fetchSum, s.PinFetchSeconds.Sum)
	if r.feed != nil {
		for kind, n := range fed(r.feed) {
			o.ObserveInt64(r.fed, n, with("kind", kind))
		}
	}
	return nil
}

// distribute observes how many values are at most each bound.
func distribute(o metric.Observer, instrument metric.Int64ObservableCounter, h propagate.Histogram) {
	all := uint64(0)
	for i, n := range h.Counts {
		all += n
		le := "+Inf"
		if i < len(h.Bounds) {
			le = fmt.Sprintf("%g", h.Bounds[i])
		}
		o.ObserveInt64(instrument, count(all), with("le", le))
	}
}

func with(key, value string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String(key, value))
}

func count(n uint64) int64 { return int64(n) }

// fed reads the counters of a feed, by name in snake case. All its fields are
// counters: a new one is a new kind.
func fed(s *feed.Stats) map[string]int64 {
	v := reflect.ValueOf(s).Elem()
	all := make(map[string]int64, v.NumField())
	for i := range v.NumField() {
		if n, ok := reflect.TypeAssert[*atomic.Int64](v.Field(i).Addr()); ok {
			all[snake(v.Type().Field(i).Name)] = n.Load()
		}
	}
	return all
}

func snake(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}
