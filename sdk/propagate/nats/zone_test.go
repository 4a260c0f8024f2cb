package guidonnats_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	guidonnats "github.com/guidon-flags/guidon/sdk/propagate/nats"
)

// Publish and request: the one who handles the message evaluates at the pin of
// the one who sent it, although the flag was changed in between.
func TestCore(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
	nc := connect(t, broker(t, t.TempDir()))
	out, in := zone(t, front, "orders.>"), zone(t, back, "orders.>")
	arrived := make(chan *nats.Msg, 1)
	subscribe(t, nc, "orders.*", in.Handler(t.Context(), func(ctx context.Context, m *nats.Msg) {
		said := []byte(stage.Greet(ctx, back))
		if m.Reply == "" {
			arrived <- &nats.Msg{Header: m.Header, Data: said}
			return
		}
		answer := &nats.Msg{Subject: m.Reply, Data: said}
		if err := nc.PublishMsg(in.Outgoing(ctx, answer)); err != nil {
			t.Error(err)
		}
	}))

	ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
	state, _ := propagate.FromContext(ctx)
	if got := stage.Greet(ctx, front); got != "formal" {
		t.Fatalf("root: %q, want formal", got)
	}
	environment.Publish("plain")
	if err := nc.PublishMsg(out.Outgoing(ctx, &nats.Msg{Subject: "orders.created", Header: nats.Header{"Kept": {"a", "b"}}})); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-arrived:
		value, _ := state.Header()
		want := nats.Header{"guidon": {value}, "x-correlation-id": {state.CorrelationID()}, "Kept": {"a", "b"}}
		if diff := cmp.Diff(want, m.Header); diff != "" || string(m.Data) != "formal" {
			t.Errorf("subscriber: %q, want formal; headers (-want +got):\n%s", m.Data, diff)
		}
	case <-within(t).Done():
		t.Fatal("the message did not arrive")
	}
	answer := request(t, nc, out.Outgoing(ctx, nats.NewMsg("orders.asked")))
	if string(answer.Data) != "formal" || len(answer.Header) != 0 {
		t.Errorf("answer %q with %v, want formal without headers", answer.Data, answer.Header)
	}
}

// Whatever arrives is counted as what it is, fails nothing, and goes on with
// the next message only if its reader may be able to read it: then byte for byte.
func TestInbound(t *testing.T) {
	t.Parallel()
	nc := connect(t, broker(t, t.TempDir()))
	for _, mode := range []propagate.Mode{propagate.Internal, propagate.Edge, propagate.Off} {
		for i, in := range stage.Inbounds() {
			t.Run(mode.String()+"/"+in.Name, func(t *testing.T) {
				t.Parallel()
				p := stage.New().Service(mode, nil)
				z := zone(t, p, ">")
				subject := "inbound." + mode.String() + "." + strings.Repeat("x", i+1)
				var visible, passed []string
				subscribe(t, nc, subject, z.Handler(t.Context(), func(ctx context.Context, m *nats.Msg) {
					visible = m.Header["guidon"]
					passed = z.Outgoing(ctx, nats.NewMsg("orders.created")).Header["guidon"]
					if err := m.Respond([]byte(stage.Greet(ctx, p))); err != nil {
						t.Error(err)
					}
				}))
				m := nats.NewMsg(subject)
				m.Header["guidon"] = in.Values
				if answer := request(t, nc, m); string(answer.Data) != "formal" {
					t.Errorf("answer %q, want formal", answer.Data)
				}
				outcome := in.Outcome
				if mode == propagate.Edge && outcome != propagate.Absent {
					outcome = propagate.Stripped
				}
				if got := p.Stats().Headers[outcome]; got != 1 && mode != propagate.Off {
					t.Errorf("counted %v, want one %v", p.Stats().Headers, outcome)
				}
				switch {
				case mode == propagate.Off:
					if len(passed) != 0 {
						t.Errorf("sent on %q where propagation is off", passed)
					}
				case mode == propagate.Internal && in.Forwarded:
					if !cmp.Equal(passed, in.Values) {
						t.Errorf("sent on %q, want the received bytes", passed)
					}
				case len(passed) != 1 || len(in.Values) > 0 && passed[0] == in.Values[0]:
					t.Errorf("sent on %q, want a root of its own", passed)
				}
				if mode == propagate.Edge && len(visible) != 0 {
					t.Errorf("the handler behind the edge sees %q", visible)
				}
			})
		}
	}
}

// An edge takes every spelling of ours away; inside, only the exact one counts.
func TestSpellings(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	valid := stage.Header("production", stage.Key)
	spelled := nats.Header{"Guidon": {valid}, "GUIDON": {valid}, "gui-don": {"a"}, "guidon_seen": {"b"}, "x-guidon": {"kept"}, "guidons": {"kept"}}
	inside, edge := environment.Service(propagate.Internal, nil), environment.Service(propagate.Edge, nil)

	h := maps.Clone(spelled)
	zone(t, inside, ">").Incoming(t.Context(), h)
	if got := inside.Stats().Headers; got[propagate.Absent] != 1 || !cmp.Equal(h, spelled) {
		t.Errorf("inside: counted %v and left %v, want none read and all left alone", got, h)
	}
	ctx := zone(t, edge, ">").Incoming(t.Context(), h)
	if diff := cmp.Diff(nats.Header{"x-guidon": {"kept"}, "guidons": {"kept"}}, h); diff != "" {
		t.Errorf("edge (-want +got):\n%s", diff)
	}
	if s, ok := propagate.FromContext(ctx); !ok || s.Sealed() {
		t.Error("the edge followed a header from outside")
	}
	if ctx = zone(t, edge, ">").Incoming(ctx, nil); propagate.CorrelationID(ctx) == "" {
		t.Error("a message without headers got no State")
	}
}

// The message that was given stays as it was, whatever goes out in its place.
func TestOutgoing(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	on := environment.Service(propagate.Internal, nil)
	off := on.WithMode(propagate.Off)
	copied := nats.Header{"guidon": {"copied", "twice"}, "Gui-Don": {"copied"}, "stock": {"7"}}
	rooted := on.Root(t.Context(), nil)
	state, _ := propagate.FromContext(rooted)
	value, _ := state.Header()
	ours := nats.Header{"guidon": {value}, "x-correlation-id": {state.CorrelationID()}}
	withStock := nats.Header{"stock": {"7"}}
	maps.Copy(withStock, ours)
	tests := []struct {
		name    string
		p       *propagate.Propagator
		ctx     func() context.Context
		subject string
		header  nats.Header
		want    nats.Header
	}{
		{"inside", on, func() context.Context { return rooted }, "orders.created", nil, ours},
		{"inside, copied", on, func() context.Context { return rooted }, "orders.created", copied, withStock},
		{"inside, no State", on, t.Context, "orders.created", nil, nil},
		{"inside, no State, copied", on, t.Context, "orders.created", copied, copied},
		{"outside", on, func() context.Context { return rooted }, "partners.created", nil, nil},
		{"outside, copied", on, func() context.Context { return rooted }, "partners.created", copied, nats.Header{"stock": {"7"}}},
		{"outside, no State, copied", on, t.Context, "partners.created", copied, nats.Header{"stock": {"7"}}},
		{"off, outside, copied", off, t.Context, "partners.created", copied, copied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &nats.Msg{Subject: tt.subject, Reply: "reply", Data: []byte("data"), Header: maps.Clone(tt.header)}
			out := zone(t, tt.p, "orders.>").Outgoing(tt.ctx(), m)
			want := &nats.Msg{Subject: tt.subject, Reply: "reply", Data: []byte("data"), Header: tt.want}
			if diff := cmp.Diff(want, out, cmpopts.IgnoreUnexported(nats.Msg{})); diff != "" {
				t.Errorf("Outgoing (-want +got):\n%s", diff)
			}
			if !cmp.Equal(m.Header, tt.header) {
				t.Errorf("the caller's message became %v", m.Header)
			}
		})
	}
	h := zone(t, off, ">").Outgoing(zone(t, off, ">").Incoming(t.Context(), nil), nats.NewMsg("a")).Header
	if got := slices.Collect(maps.Keys(h)); !cmp.Equal(got, []string{"x-correlation-id"}) {
		t.Errorf("off sends %v, want the correlation ID alone", h)
	}
}

// Names are exact, and what is set is alone.
func TestCarrier(t *testing.T) {
	t.Parallel()
	h := nats.Header{"guidon": {"a", "b"}, "Guidon": {"c"}}
	c := guidonnats.Carrier(h)
	if got := c.Values("guidon"); !cmp.Equal(got, []string{"a", "b"}) {
		t.Errorf("Values = %q, want both", got)
	}
	c.Set("guidon", "d")
	if diff := cmp.Diff(nats.Header{"guidon": {"d"}, "Guidon": {"c"}}, h); diff != "" {
		t.Errorf("after Set (-want +got):\n%s", diff)
	}
}

func TestZoneSubjects(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	for _, tt := range []struct {
		pattern, subject string
		want             bool
	}{
		{"orders", "orders", true},
		{"orders", "orders.created", false},
		{"orders", "Orders", false},
		{"orders.created", "orders", false},
		{"orders.*", "orders.created", true},
		{"orders.*", "orders", false},
		{"orders.*", "orders.created.late", false},
		{"orders.>", "orders.created.late", true},
		{"orders.>", "orders", false},
		{"orders.*.late", "orders.created.late", true},
		{"orders.*.late", "orders.created.soon", false},
		{"*.created", "orders.created", true},
		{">", "orders", true},
		{">", "_INBOX.x.y", false},
		{">", "$JS.API.INFO", false},
		{"*.x.y", "_INBOX.x.y", false},
		{"_audit.>", "_audit.orders", true},
		{"orders.>", "orders.", false},
	} {
		out := zone(t, p, "nothing", tt.pattern).Outgoing(p.Root(t.Context(), nil), nats.NewMsg(tt.subject))
		if got := len(out.Header["guidon"]) == 1; got != tt.want {
			t.Errorf("%q in a zone of %q: %v, want %v", tt.subject, tt.pattern, got, tt.want)
		}
	}
	for _, subjects := range [][]string{nil, {""}, {"a", "b..c"}, {"a b"}, {">.a"}, {"a."}, {".a"}} {
		z, err := guidonnats.NewZone(p, subjects...)
		if err == nil || z != nil || len(subjects) > 0 && !strings.Contains(err.Error(), "subject ") {
			t.Errorf("NewZone(%q) = %v, %v, want an error that names the subject", subjects, z, err)
		}
	}
}
