package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A broker is a NATS server with JetStream in this process.
type broker struct {
	server *server.Server
	dir    string
}

func openBroker(ctx context.Context) (_ *broker, err error) {
	dir, err := os.MkdirTemp("", "guidon-mesh-")
	if err != nil {
		return nil, err
	}
	b := &broker{dir: dir}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	b.server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(patience) {
		return nil, errors.New("NATS does not accept connections")
	}
	conn, err := b.Connect()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stream, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	_, err = stream.CreateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{jobSubject(">")}, Storage: jetstream.MemoryStorage, Retention: jetstream.WorkQueuePolicy,
	})
	return b, err
}

// Connect opens a connection that is the caller's to close.
func (b *broker) Connect() (*nats.Conn, error) { return nats.Connect(b.server.ClientURL()) }

// Close ends the server; what it stored goes with it.
func (b *broker) Close() {
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	_ = os.RemoveAll(b.dir) // the system's, in the end, like all temporary files
}
