package guidonotel_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	guidonotel "github.com/guidon-flags/guidon/sdk/propagate/otel"
)

// instrumented does to clients what the instrumentation of OpenTelemetry does:
// it injects into a copy of each request.
type instrumented struct {
	propagator propagation.TextMapPropagator
	base       http.RoundTripper
}

func (i instrumented) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	i.propagator.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	return i.base.RoundTrip(r)
}

// handler does to servers what the instrumentation does.
func handler(propagator propagation.TextMapPropagator, handle http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		handle(rw, r.WithContext(propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))))
	})
}

// single is a carrier that hides duplicates, as most own ones do.
type single struct{ header http.Header }

func (s single) Get(key string) string { return s.header.Get(key) }
func (s single) Set(key, value string) { s.header.Set(key, value) }
func (s single) Keys() []string        { return slices.Collect(maps.Keys(s.header)) }

func get(ctx context.Context, t testing.TB, client *http.Client, url string) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}

// Two instrumented services, both of which know of Guidon only through the
// composite of propagators: the second evaluates at the pin of the first.
func TestInstrumentedHop(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
	composite := func(p *propagate.Propagator) propagation.TextMapPropagator {
		return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}, guidonotel.New(p))
	}
	var said string
	var arrived []string
	server := httptest.NewServer(handler(composite(back), func(_ http.ResponseWriter, r *http.Request) {
		said, arrived = stage.Greet(r.Context(), back), r.Header["Guidon"]
	}))
	t.Cleanup(server.Close)
	ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
	stage.Greet(ctx, front)
	environment.Publish("plain")
	client := &http.Client{Transport: guidonotel.Transport(instrumented{composite(front), http.DefaultTransport})}
	get(ctx, t, client, server.URL)
	state, _ := propagate.FromContext(ctx)
	if value, _ := state.Header(); said != "formal" || !cmp.Equal(arrived, []string{value}) {
		t.Errorf("%q by %q, want formal by %q", said, arrived, value)
	}
}

// Without a mark, nothing is injected; with one, what the Propagator allows.
func TestMark(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	off := p.WithMode(propagate.Off)
	rooted := p.Root(t.Context(), nil)
	for name, tt := range map[string]struct {
		propagator propagation.TextMapPropagator
		ctx        context.Context
		want       bool
	}{
		"no mark":                {guidonotel.New(p), rooted, false},
		"allowed":                {guidonotel.New(p), guidonotel.To(rooted, "inventory:80"), true},
		"allowed, IPv6":          {guidonotel.New(p), guidonotel.To(rooted, "[::1]:80"), true},
		"not allowed":            {guidonotel.New(p), guidonotel.To(rooted, "example.com"), false},
		"empty":                  {guidonotel.New(p), guidonotel.To(rooted, ""), false},
		"marked again":           {guidonotel.New(p), guidonotel.To(guidonotel.To(rooted, "inventory"), "example.com"), false},
		"no State":               {guidonotel.New(p), guidonotel.To(t.Context(), "inventory"), false},
		"off":                    {guidonotel.New(off), guidonotel.To(rooted, "inventory"), false},
		"unchecked":              {guidonotel.New(p, guidonotel.WithoutDestinationCheck()), rooted, true},
		"unchecked, not allowed": {guidonotel.New(p, guidonotel.WithoutDestinationCheck()), guidonotel.To(rooted, "example.com"), true},
		"unchecked, no State":    {guidonotel.New(p, guidonotel.WithoutDestinationCheck()), t.Context(), false},
		"unchecked, off":         {guidonotel.New(off, guidonotel.WithoutDestinationCheck()), rooted, false},
	} {
		carrier := propagation.MapCarrier{}
		tt.propagator.Inject(tt.ctx, carrier)
		want := []string{}
		if tt.want {
			want = tt.propagator.Fields()
		}
		if got := carrier.Keys(); !cmp.Equal(got, want) {
			t.Errorf("%s: injected %v, want %v", name, got, want)
		}
	}
	if got := guidonotel.New(p).Fields(); !cmp.Equal(got, []string{"guidon"}) {
		t.Errorf("Fields = %q, want guidon", got)
	}
}

// A redirect to another host gets nothing, not even to one allowed by itself.
func TestRedirect(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	var carried []bool
	note := func(r *http.Request) { carried = append(carried, r.Header.Get("Guidon") != "") }
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { note(r) }))
	t.Cleanup(target.Close)
	source := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		note(r)
		http.Redirect(rw, r, target.URL, http.StatusFound)
	}))
	t.Cleanup(source.Close)
	client := &http.Client{Transport: guidonotel.Transport(instrumented{guidonotel.New(p), http.DefaultTransport})}
	t.Cleanup(client.CloseIdleConnections)
	get(p.Root(t.Context(), nil), t, client, source.URL)
	if !cmp.Equal(carried, []bool{true, false}) {
		t.Errorf("source and target got the header: %v, want the source alone", carried)
	}
}

// Whatever arrives is counted as what it is, where the carrier shows it all.
func TestInbound(t *testing.T) {
	t.Parallel()
	for _, in := range stage.Inbounds() {
		t.Run(in.Name, func(t *testing.T) {
			t.Parallel()
			p := stage.New().Service(propagate.Internal, nil)
			propagator := guidonotel.New(p, guidonotel.WithoutDestinationCheck())
			header := http.Header{"Guidon": in.Values}
			ctx := propagator.Extract(t.Context(), propagation.HeaderCarrier(header))
			if got := p.Stats().Headers[in.Outcome]; got != 1 || stage.Greet(ctx, p) != "formal" {
				t.Errorf("counted %v, want one %v", p.Stats().Headers, in.Outcome)
			}
			out := http.Header{}
			propagator.Inject(ctx, propagation.HeaderCarrier(out))
			if same := cmp.Equal(out["Guidon"], in.Values); same != in.Forwarded || len(out["Guidon"]) != 1 {
				t.Errorf("sent on %q, want the received bytes: %v", out["Guidon"], in.Forwarded)
			}
		})
	}
}

// A carrier without Values hides the second of two lines: the first counts.
func TestGetHidesDuplicates(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	header := http.Header{"Guidon": {stage.Header("production", stage.Key), "smuggled"}}
	guidonotel.New(p).Extract(t.Context(), single{header})
	guidonotel.New(p).Extract(t.Context(), propagation.HeaderCarrier(header))
	guidonotel.New(p).Extract(t.Context(), single{http.Header{}})
	got := p.Stats().Headers
	if got[propagate.Verified] != 1 || got[propagate.Duplicate] != 1 || got[propagate.Absent] != 1 {
		t.Errorf("counted %v, want one verified, one duplicate, one absent", got)
	}
}

// A State that is there already stays, unless the message has another one.
func TestExtractTwice(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	propagator := guidonotel.New(p)
	value := stage.Header("production", stage.Key)
	carrier := propagation.MapCarrier{"guidon": value}
	first := propagator.Extract(t.Context(), carrier)
	for name, tt := range map[string]struct {
		ctx     context.Context
		carrier propagation.TextMapCarrier
		stays   bool
	}{
		"the same again":          {first, carrier, true},
		"nothing":                 {first, propagation.MapCarrier{}, true},
		"another's":               {p.Root(t.Context(), nil), carrier, false},
		"rubbish":                 {first, propagation.MapCarrier{"guidon": "on"}, false},
		"nothing, no propagation": {p.WithMode(propagate.Off).Root(t.Context(), nil), propagation.MapCarrier{}, true},
	} {
		got := propagator.Extract(tt.ctx, tt.carrier)
		if stays := propagate.CorrelationID(got) == propagate.CorrelationID(tt.ctx); stays != tt.stays {
			t.Errorf("%s: the State stays: %v, want %v", name, stays, tt.stays)
		}
	}

	open := p.Root(t.Context(), nil)
	propagator.Extract(open, carrier)
	if state, _ := propagate.FromContext(open); state.Sealed() {
		t.Error("Extract sealed the State that was there")
	}
	two := propagation.HeaderCarrier(http.Header{"Guidon": {value, value}})
	if before := p.Stats().Headers[propagate.Duplicate]; propagator.Extract(first, two) == first || p.Stats().Headers[propagate.Duplicate] != before+1 {
		t.Error("Extract kept the State for a message with two headers")
	}

	// Middleware outside, instrumentation inside, at an edge.
	edge := p.WithMode(propagate.Edge)
	var outer string
	server := httptest.NewServer(edge.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		outer = propagate.CorrelationID(r.Context())
		handler(guidonotel.New(edge), func(_ http.ResponseWriter, r *http.Request) {
			if got := propagate.CorrelationID(r.Context()); got != outer {
				t.Errorf("correlation ID %s inside, %s outside", got, outer)
			}
		}).ServeHTTP(rw, r)
	})))
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Guidon", value)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
	if got := response.Header.Get("X-Correlation-ID"); got != outer || outer == "" {
		t.Errorf("answered %q, want %q", got, outer)
	}
}
