package guidonnats_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	guidonnats "github.com/guidon-flags/guidon/sdk/propagate/nats"
)

// A mail is written in a queue's time: the flag was changed long before the
// message is handled, and yet the mail greets as the page did that ordered it.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true})
	if err != nil {
		panic(err)
	}
	broker.Start()
	defer broker.WaitForShutdown()
	defer broker.Shutdown()
	nc, err := nats.Connect(broker.ClientURL())
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.>"}}); err != nil {
		panic(err)
	}

	environment := stage.New()
	web, mailer := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)
	toMailer, err := guidonnats.NewZone(web, "orders.>")
	if err != nil {
		panic(err)
	}
	fromWeb, err := guidonnats.NewZone(mailer, "orders.>")
	if err != nil {
		panic(err)
	}

	page := web.Root(ctx, nil)
	fmt.Println("page:", stage.Greet(page, web))
	if _, err := js.PublishMsg(page, toMailer.Outgoing(page, nats.NewMsg("orders.created"))); err != nil {
		panic(err)
	}
	environment.Publish("plain")

	consumer, err := js.CreateConsumer(ctx, "orders", jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		panic(err)
	}
	for range 2 {
		message, err := consumer.Next()
		if err != nil {
			panic(err)
		}
		handling := fromWeb.Incoming(ctx, message.Headers())
		fmt.Println("mail:", stage.Greet(handling, mailer))
		_ = message.Nak() // deliver it again
	}
	// Output:
	// page: formal
	// mail: formal
	// mail: formal
}
