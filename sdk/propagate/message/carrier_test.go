package message_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
	"github.com/guidon-flags/guidon/sdk/propagate/message"
)

// The shapes of headers that clients have.
type (
	textBytes struct { // most Kafka clients
		Key   string
		Value []byte
	}
	bytesBytes struct{ Key, Value []byte } // the others
	textText   struct{ Key, Value string } // MQTT 5
	amqpTable  map[string]any
)

// letter makes the carrier of a message that brings values under "guidon", and
// tells afterwards what the message holds under a name.
type letter func(values ...string) (c propagate.Carrier, read func(name string) []string)

func letters() map[string]letter {
	return map[string]letter{
		"text and bytes": func(values ...string) (propagate.Carrier, func(string) []string) {
			headers := []textBytes{{"stock", []byte("7")}}
			for _, v := range values {
				headers = append(headers, textBytes{"guidon", []byte(v)})
			}
			return message.List(&headers), func(name string) (all []string) {
				for _, h := range headers {
					if h.Key == name {
						all = append(all, string(h.Value))
					}
				}
				return all
			}
		},
		"bytes": func(values ...string) (propagate.Carrier, func(string) []string) {
			headers := []bytesBytes{{[]byte("stock"), []byte("7")}}
			for _, v := range values {
				headers = append(headers, bytesBytes{[]byte("guidon"), []byte(v)})
			}
			return message.List(&headers), func(name string) (all []string) {
				for _, h := range headers {
					if string(h.Key) == name {
						all = append(all, string(h.Value))
					}
				}
				return all
			}
		},
		"text": func(values ...string) (propagate.Carrier, func(string) []string) {
			headers := []textText{{"stock", "7"}}
			for _, v := range values {
				headers = append(headers, textText{"guidon", v})
			}
			return message.List(&headers), func(name string) (all []string) {
				for _, h := range headers {
					if h.Key == name {
						all = append(all, h.Value)
					}
				}
				return all
			}
		},
		"table": func(values ...string) (propagate.Carrier, func(string) []string) {
			headers := amqpTable{"stock": "7"}
			switch list := make([]any, len(values)); len(values) {
			case 0:
			case 1:
				headers["guidon"] = []byte(values[0])
			default:
				for i, v := range values {
					list[i] = v
				}
				headers["guidon"] = list
			}
			return message.Table(&headers), func(name string) (all []string) {
				if v, ok := headers[name]; ok {
					all = append(all, fmt.Sprintf("%s", v))
				}
				return all
			}
		},
	}
}

// What a producer writes, the consumer of the message and of its redelivery
// read, although the flag was changed in between.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, write := range letters() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			environment := stage.New()
			front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
			ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
			state, _ := propagate.FromContext(ctx)
			carrier, read := write("copied", "from two others")
			front.Inject(ctx, carrier)
			value, _ := state.Header()
			for key, want := range map[string]string{"guidon": value, "x-correlation-id": state.CorrelationID(), "stock": "7"} {
				if got := read(key); !cmp.Equal(got, []string{want}) {
					t.Errorf("the message holds %q under %s, want %q", got, key, want)
				}
			}
			for range 2 {
				environment.Publish("plain")
				handling := back.Extract(t.Context(), carrier)
				if got := stage.Greet(handling, back); got != "formal" || propagate.CorrelationID(handling) != state.CorrelationID() {
					t.Errorf("%q in %s, want formal in %s", got, propagate.CorrelationID(handling), state.CorrelationID())
				}
			}
		})
	}
}

// Whatever arrives is counted as what it is, and goes on with the next message
// only if its reader may be able to read it: then byte for byte.
func TestInbound(t *testing.T) {
	t.Parallel()
	for name, write := range letters() {
		for _, in := range stage.Inbounds() {
			t.Run(name+"/"+in.Name, func(t *testing.T) {
				t.Parallel()
				p := stage.New().Service(propagate.Internal, nil)
				carrier, _ := write(in.Values...)
				ctx := p.Extract(t.Context(), carrier)
				if got := p.Stats().Headers[in.Outcome]; got != 1 || stage.Greet(ctx, p) != "formal" {
					t.Errorf("counted %v, want one %v", p.Stats().Headers, in.Outcome)
				}
				next, read := write()
				p.Inject(ctx, next)
				if same := cmp.Equal(read("guidon"), in.Values); same != in.Forwarded || len(read("guidon")) != 1 {
					t.Errorf("sent on %q, want the received bytes: %v", read("guidon"), in.Forwarded)
				}
			})
		}
	}
}

// Keys are exact, and values that are no text are refused, not passed over.
func TestStrange(t *testing.T) {
	t.Parallel()
	valid := stage.Header("production", stage.Key)
	for name, tt := range map[string]struct {
		table amqpTable
		want  propagate.Outcome
	}{
		"another case":   {amqpTable{"Guidon": valid, "GUIDON": valid}, propagate.Absent},
		"a number":       {amqpTable{"guidon": 7}, propagate.Malformed},
		"null":           {amqpTable{"guidon": nil}, propagate.Malformed},
		"a table":        {amqpTable{"guidon": amqpTable{"guidon": valid}}, propagate.Malformed},
		"a list of one":  {amqpTable{"guidon": []any{valid}}, propagate.Verified},
		"a list of none": {amqpTable{"guidon": []any{}}, propagate.Absent},
		"a nil table":    {nil, propagate.Absent},
	} {
		p := stage.New().Service(propagate.Internal, nil)
		ctx := p.Extract(t.Context(), message.Table(&tt.table))
		if got := p.Stats().Headers[tt.want]; got != 1 {
			t.Errorf("%s: counted %v, want one %v", name, p.Stats().Headers, tt.want)
		}
		p.Inject(ctx, message.Table(&tt.table))
		if value, ok := tt.table["guidon"].(string); !ok || value == "" {
			t.Errorf("%s: the table became %v, want a header in it", name, tt.table)
		}
	}
	headers := []textText{{"Guidon", valid}}
	if got := message.List(&headers).Values("guidon"); got != nil {
		t.Errorf("Values = %q, want none under another case", got)
	}
}

// Messages made of one template do not write into each other.
func TestSharedHeaders(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	list := make([]textBytes, 1, 8)
	list[0] = textBytes{"stock", []byte("7")}
	table := amqpTable{"stock": "7"}
	var sent [2]string
	var lists [2][]textBytes
	for i := range sent {
		ctx := p.Root(context.Background(), nil)
		lists[i] = list
		p.Inject(ctx, message.List(&lists[i]))
		own := table
		p.Inject(ctx, message.Table(&own))
		sent[i], _ = own["guidon"].(string)
	}
	for i, l := range lists {
		if got := message.List(&l).Values("guidon"); !cmp.Equal(got, []string{sent[i]}) {
			t.Errorf("message %d carries %q, want %q", i, got, sent[i])
		}
	}
	if len(table) != 1 || sent[0] == sent[1] {
		t.Errorf("the template became %v", table)
	}
}
