package message_test

import (
	"context"
	"fmt"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	"github.com/guidon-flags/guidon/sdk/propagate/message"
)

// record stands for that of a Kafka client.
type record struct {
	Value   []byte
	Headers []recordHeader
}

type recordHeader struct {
	Key   string
	Value []byte
}

// A consumer agrees with the producer of a record although the flag was changed
// while the record waited.
func ExampleList() {
	environment := stage.New()
	web, mailer := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)

	r := record{Value: []byte("order 7")}
	ctx := web.Root(context.Background(), nil)
	fmt.Println("page:", stage.Greet(ctx, web))
	web.Inject(ctx, message.List(&r.Headers))
	environment.Publish("plain")

	handling := mailer.Extract(context.Background(), message.List(&r.Headers))
	fmt.Println("mail:", stage.Greet(handling, mailer))
	// Output:
	// page: formal
	// mail: formal
}

// The headers of AMQP are a table, which may not be there yet.
func ExampleTable() {
	web := stage.New().Service(propagate.Internal, nil)
	var headers map[string]any
	web.Inject(web.Root(context.Background(), nil), message.Table(&headers))
	for _, name := range []string{"guidon", "x-correlation-id"} {
		_, ok := headers[name]
		fmt.Println(name, ok)
	}
	// Output:
	// guidon true
	// x-correlation-id true
}
