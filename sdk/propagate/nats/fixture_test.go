package guidonnats_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonnats "github.com/guidon-flags/guidon/sdk/propagate/nats"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// broker is an embedded server on loopback with JetStream in dir.
func broker(t testing.TB, dir string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stop(s) })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the broker does not come up")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func connect(t testing.TB, s *server.Server) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func zone(t testing.TB, p *propagate.Propagator, subjects ...string) *guidonnats.Zone {
	t.Helper()
	z, err := guidonnats.NewZone(p, subjects...)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// subscribe calls handle for each message; it is in force when it returns.
func subscribe(t testing.TB, nc *nats.Conn, subject string, handle nats.MsgHandler) {
	t.Helper()
	if _, err := nc.Subscribe(subject, handle); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// within is a context that bounds a test's waiting.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// request sends m and returns the answer.
func request(t testing.TB, nc *nats.Conn, m *nats.Msg) *nats.Msg {
	t.Helper()
	answer, err := nc.RequestMsgWithContext(within(t), m)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// orders is a stream of all messages under "orders", and a consumer of it.
func orders(t testing.TB, nc *nats.Conn) (jetstream.JetStream, jetstream.Consumer) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateOrUpdateStream(within(t), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}}); err != nil {
		t.Fatal(err)
	}
	c, err := js.CreateOrUpdateConsumer(within(t), "orders", jetstream.ConsumerConfig{
		Durable: "mailer", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return js, c
}

// next waits for one message.
func next(t testing.TB, c jetstream.Consumer) jetstream.Msg {
	t.Helper()
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	return m
}
