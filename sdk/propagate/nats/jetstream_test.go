package guidonnats_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A stored message is delivered three times: at once, again after it was
// refused, and again after the broker was restarted. Each delivery restores the
// same State from the same bytes, whatever was published meanwhile.
func TestRedelivery(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
	out, in := zone(t, front, "orders.>"), zone(t, back, "orders.>")
	dir := t.TempDir()
	first := broker(t, dir)
	js, consumer := orders(t, connect(t, first))

	ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
	state, _ := propagate.FromContext(ctx)
	if _, err := js.PublishMsg(within(t), out.Outgoing(ctx, nats.NewMsg("orders.created"))); err != nil {
		t.Fatal(err)
	}
	value, _ := state.Header()

	deliver := func(c jetstream.Consumer, attempt uint64) jetstream.Msg {
		t.Helper()
		environment.Publish("plain")
		m := next(t, c)
		about, err := m.Metadata()
		if err != nil || about.NumDelivered < attempt {
			t.Errorf("delivery %+v, %v, want number %d or, if we were slow, a later one", about, err, attempt)
		}
		if got := m.Headers()["guidon"]; !cmp.Equal(got, []string{value}) {
			t.Errorf("delivery %d brought %q, want %q", attempt, got, value)
		}
		ctx := in.Incoming(t.Context(), m.Headers())
		if got := stage.Greet(ctx, back); got != "formal" || propagate.CorrelationID(ctx) != state.CorrelationID() {
			t.Errorf("delivery %d: %q in %s, want formal in %s", attempt, got, propagate.CorrelationID(ctx), state.CorrelationID())
		}
		return m
	}
	if err := deliver(consumer, 1).Nak(); err != nil {
		t.Fatal(err)
	}
	deliver(consumer, 2) // and the mailer dies without a word
	stop(first)
	_, consumer = orders(t, connect(t, broker(t, dir)))
	if err := deliver(consumer, 3).DoubleAck(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := back.Stats().Headers[propagate.Verified]; got != 3 {
		t.Errorf("verified %d deliveries, want 3", got)
	}
}

// A batch has no State, each of its messages has; a message may start anew.
func TestBatch(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	z := zone(t, p, "orders.>")
	js, consumer := orders(t, connect(t, broker(t, t.TempDir())))
	var want []string
	for _, variant := range []string{"formal", "plain", "formal"} {
		environment.Publish(variant)
		ctx := p.Root(t.Context(), nil)
		if _, err := js.PublishMsg(within(t), z.Outgoing(ctx, nats.NewMsg("orders.created"))); err != nil {
			t.Fatal(err)
		}
		want = append(want, variant+" in "+propagate.CorrelationID(ctx))
	}
	environment.Publish("plain")
	batch, err := consumer.Fetch(len(want), jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	ambient := p.Root(t.Context(), nil)
	for m := range batch.Messages() {
		ctx := z.Incoming(ambient, m.Headers())
		got = append(got, stage.Greet(ctx, p)+" in "+propagate.CorrelationID(ctx))
		if fresh := p.Reroot(ctx); stage.Greet(fresh, p) != "plain" || propagate.CorrelationID(fresh) != propagate.CorrelationID(ctx) {
			t.Error("Reroot did not start anew within the request")
		}
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || batch.Error() != nil {
		t.Errorf("batch, %v (-want +got):\n%s", batch.Error(), diff)
	}
}

// A publisher that is not sure publishes again: the same bytes, so that the
// broker's deduplication and the consumer's State both hold.
func TestPublishAgain(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	z := zone(t, p, "orders.>")
	js, consumer := orders(t, connect(t, broker(t, t.TempDir())))
	ctx := p.Root(t.Context(), nil)
	for range 2 {
		m := &nats.Msg{Subject: "orders.created", Header: nats.Header{"Nats-Msg-Id": {"order-7"}}}
		if _, err := js.PublishMsg(within(t), z.Outgoing(ctx, m)); err != nil {
			t.Fatal(err)
		}
	}
	info, err := consumer.Info(within(t))
	if err != nil || info.NumPending != 1 {
		t.Errorf("%+v, %v, want one message", info, err)
	}
	carried := func(ctx context.Context) string {
		return z.Outgoing(ctx, nats.NewMsg("orders.created")).Header.Get("guidon")
	}
	if got := next(t, consumer).Headers().Get("guidon"); got != carried(ctx) {
		t.Errorf("stored %q, would send %q, want the same", got, carried(ctx))
	}
}
