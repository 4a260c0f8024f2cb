package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	guidonnats "github.com/guidon-flags/guidon/sdk/propagate/nats"
)

const (
	mailSubject = "shop.mail"
	// replyHeader names where a message's sender waits for the mailer's report;
	// JetStream uses the reply of a message for itself.
	replyHeader = "shop-reply"
	// errorHeader is there if the mailer could not do what it was asked.
	errorHeader = "shop-error"
)

// A broker is a NATS server with JetStream inside this process. What it stores
// goes with it.
type broker struct {
	server *natsserver.Server
	dir    string
	conns  []*nats.Conn
}

func openBroker() (_ *broker, err error) {
	dir, err := os.MkdirTemp("", "guidon-demo-")
	if err != nil {
		return nil, err
	}
	b := &broker{dir: dir}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	b.server, err = natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(patience) {
		return nil, fmt.Errorf("NATS does not accept connections after %v", patience)
	}
	return b, nil
}

// connect opens a connection that closes with the broker.
func (b *broker) connect(name string) (jetstream.JetStream, error) {
	conn, err := nats.Connect(b.server.ClientURL(), nats.Name(name))
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	b.conns = append(b.conns, conn)
	return jetstream.New(conn)
}

func (b *broker) close() {
	for _, conn := range b.conns {
		conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	_ = os.RemoveAll(b.dir) // the system's, in the end, like all temporary files
}

func zonesOf(s *service) (map[mode]*guidonnats.Zone, error) {
	zones := map[mode]*guidonnats.Zone{}
	for m, p := range s.lanes {
		zone, err := guidonnats.NewZone(p, mailSubject)
		if err != nil {
			return nil, err
		}
		zones[m] = zone
	}
	return zones, nil
}

// receiveMail works on each message of the stream, and stops when the function
// that it returns does.
func (s *service) receiveMail(ctx context.Context, js jetstream.JetStream) (stop func(), err error) {
	zones, err := zonesOf(s)
	if err != nil {
		return nil, err
	}
	start, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stream, err := js.CreateStream(start, jetstream.StreamConfig{
		Name: "mail", Subjects: []string{mailSubject}, Storage: jetstream.MemoryStorage, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	consumer, err := stream.CreateConsumer(start, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, AckWait: callTimeout})
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		answer := nats.NewMsg(m.Headers().Get(replyHeader))
		if answer.Data, err = s.mail(ctx, zones, m.Headers()); err != nil {
			answer.Header.Set(errorHeader, err.Error())
		}
		// Who waits in vain says so.
		_ = js.Conn().PublishMsg(answer)
		_ = m.Ack()
	})
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return func() { consuming.Drain(); <-consuming.Closed() }, nil
}

// mail reports what this service saw while it worked on a message.
func (s *service) mail(ctx context.Context, zones map[mode]*guidonnats.Zone, header nats.Header) ([]byte, error) {
	t, err := tripFrom(header[tripHeader], overJetStream)
	if err != nil {
		return nil, err
	}
	hops, err := s.visit(zones[t.mode].Incoming(ctx, header), t)
	if err != nil {
		return nil, err
	}
	return json.Marshal(hops)
}

// overJetStream stores a message and waits until the mailer has worked on it.
func (b *booth) overJetStream(js jetstream.JetStream) (caller, error) {
	zones, err := zonesOf(b.service)
	if err != nil {
		return nil, err
	}
	conn := js.Conn()
	return func(ctx context.Context, t trip) ([]Hop, error) {
		reply := conn.NewInbox()
		answers, err := conn.SubscribeSync(reply)
		if err != nil {
			return nil, err
		}
		defer func() { _ = answers.Unsubscribe() }() // nothing more comes
		m := &nats.Msg{Subject: mailSubject, Header: nats.Header{replyHeader: {reply}}}
		if value := t.header(); value != nil {
			m.Header[tripHeader] = value
		}
		if _, err := js.PublishMsg(ctx, zones[t.mode].Outgoing(ctx, m)); err != nil {
			return nil, err
		}
		answer, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if said := answer.Header.Get(errorHeader); said != "" {
			return nil, errors.New(said)
		}
		return hopsFrom(answer.Data)
	}, nil
}
