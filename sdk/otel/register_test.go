package guidonmetrics_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	guidonmetrics "github.com/guidon-flags/guidon/sdk/otel"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// meter keeps what is registered with it, and refuses one name.
type meter struct {
	noop.Meter
	refuses  string
	names    map[metric.Observable]string
	callback metric.Callback
}

// instrument is told apart by its address.
type (
	intCounter struct {
		noop.Int64ObservableCounter
		_ byte
	}
	floatCounter struct {
		noop.Float64ObservableCounter
		_ byte
	}
)

func (m *meter) Int64ObservableCounter(name string, _ ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	if name == m.refuses {
		return nil, errors.New("no")
	}
	c := new(intCounter)
	m.names[c] = name
	return c, nil
}

func (m *meter) Float64ObservableCounter(name string, _ ...metric.Float64ObservableCounterOption) (metric.Float64ObservableCounter, error) {
	if name == m.refuses {
		return nil, errors.New("no")
	}
	c := new(floatCounter)
	m.names[c] = name
	return c, nil
}

func (m *meter) RegisterCallback(f metric.Callback, all ...metric.Observable) (metric.Registration, error) {
	if len(all) != len(m.names) {
		return nil, errors.New("not all instruments are registered")
	}
	m.callback = f
	return noop.Registration{}, nil
}

// collected is an Observer that keeps values by name and attributes.
type collected struct {
	noop.Observer
	m      *meter
	values map[string]float64
}

// encoder writes attributes as key=value with commas between.
type encoder struct{}

func (encoder) Encode(all attribute.Iterator) string {
	var pairs []string
	for all.Next() {
		pairs = append(pairs, string(all.Attribute().Key)+"="+all.Attribute().Value.String())
	}
	return strings.Join(pairs, ",")
}

func (encoder) ID() attribute.EncoderID { return attribute.EncoderID{} }

func (c *collected) ObserveInt64(i metric.Int64Observable, n int64, options ...metric.ObserveOption) {
	set := metric.NewObserveConfig(options).Attributes()
	c.values[c.m.names[i]+" "+set.Encoded(encoder{})] = float64(n)
}

func (c *collected) ObserveFloat64(i metric.Float64Observable, n float64, _ ...metric.ObserveOption) {
	c.values[c.m.names[i]+" "] = n
}

// revision is a Snapshots of one flag that never changes.
type revision struct{ newest *eval.Snapshot }

func (r revision) Snapshot() *eval.Snapshot { return r.newest }

func (r revision) FlagAt(_ context.Context, key string, _ int64) (*eval.Flag, error) {
	return r.newest.Flag(key), nil
}

func (r revision) Nearest(_ context.Context, key string, at int64) (*eval.Flag, int64, error) {
	return r.newest.Flag(key), at, nil
}

func (r revision) Emergencies() eval.Emergencies { return r.newest.Emergencies() }

func (r revision) EmergenciesAt(context.Context, int64) (eval.Emergencies, error) {
	return r.Emergencies(), nil
}

func service(t *testing.T) *propagate.Propagator {
	t.Helper()
	newest, err := eval.Compile(1, []eval.Row{{Kind: eval.KindFlag, Name: "greeting", From: 1, Document: []byte(
		`{"flag":{"state":"ENABLED","variants":{"formal":"Good day"},"defaultVariant":"formal"},"guidon":{"project":"shop"}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	keys := new(propagate.Keyring)
	if err := keys.Set("k1", []propagate.Key{{ID: "k1", Secret: [32]byte{1}}}); err != nil {
		t.Fatal(err)
	}
	p, err := propagate.New(propagate.Config{
		Snapshots: revision{newest}, Keys: keys, Environment: func() string { return "production" }, Mode: propagate.Internal,
		Context: func(*http.Request) map[string]any { return map[string]any{"targetingKey": "user-77"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRegister(t *testing.T) {
	t.Parallel()
	p := service(t)
	var sent string
	for _, values := range [][]string{nil, {"root"}, {strings.Repeat("x", 5000)}} {
		if len(sent) > 0 && len(values) > 0 && values[0] == "root" {
			values = []string{sent}
		}
		out := make(http.Header)
		ctx := p.Extract(t.Context(), propagate.HTTPCarrier{"Guidon": values})
		_ = p.Evaluate(ctx, "greeting", eval.String, nil)
		p.Inject(ctx, propagate.HTTPCarrier(out))
		sent = out.Get("guidon")
	}
	_ = p.Evaluate(context.Background(), "greeting", eval.String, nil)
	stats := new(feed.Stats)
	stats.DigestMismatches.Add(7)
	m := &meter{names: map[metric.Observable]string{}}
	if _, err := guidonmetrics.Register(m, p, stats); err != nil {
		t.Fatal(err)
	}
	got := &collected{m: m, values: map[string]float64{}}
	if err := m.callback(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"guidon.extracts result=verified":                1,
		"guidon.extracts result=oversize":                1,
		"guidon.events kind=orphan_rooted":               1,
		"guidon.flag.events flag=greeting,kind=no_state": 1,
		"guidon.overrides result=taken":                  0,
		"guidon.header.bytes le=+Inf":                    3,
		"guidon.header.bytes le=128":                     3,
		"guidon.pin.fetch.seconds le=+Inf":               0,
		"guidon.pin.fetch.seconds.sum ":                  0,
		"guidon.feed kind=digest_mismatches":             7,
		"guidon.feed kind=superseded_hits":               0,
	} {
		if n, ok := got.values[name]; !ok || n != want {
			t.Errorf("%s = %v, there: %v, want %v", name, n, ok, want)
		}
	}
	if got.values["guidon.header.bytes.sum "] < 200 {
		t.Errorf("all headers have %v bytes", got.values["guidon.header.bytes.sum "])
	}
	for name := range got.values {
		if strings.Contains(name, "user-77") {
			t.Errorf("%s names a subject or a request", name)
		}
	}
}

func TestRegisterRefused(t *testing.T) {
	t.Parallel()
	p := service(t)
	for _, name := range []string{"guidon.extracts", "guidon.feed", "guidon.pin.fetch.seconds.sum"} {
		m := &meter{names: map[metric.Observable]string{}, refuses: name}
		if _, err := guidonmetrics.Register(m, p, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Register: %v, want an error that names %s", err, name)
		}
	}
}
