package propagate_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// flags is a Snapshots for the example: all revisions there ever were. The one
// of a real service is a feed from the server.
type flags []*eval.Snapshot

func (f *flags) Snapshot() *eval.Snapshot { return (*f)[len(*f)-1] }

func (f *flags) FlagAt(_ context.Context, key string, revision int64) (*eval.Flag, error) {
	if revision > f.Snapshot().Revision() {
		return nil, errors.New("there is no such revision yet")
	}
	return (*f)[revision-1].Flag(key), nil
}

func (f *flags) Nearest(ctx context.Context, key string, revision int64) (*eval.Flag, int64, error) {
	flag, err := f.FlagAt(ctx, key, revision)
	return flag, revision, err
}

func (f *flags) Emergencies() eval.Emergencies { return f.Snapshot().Emergencies() }

func (f *flags) EmergenciesAt(context.Context, int64) (eval.Emergencies, error) {
	return f.Emergencies(), nil
}

// publish adds a revision in which the flag "greeting" has that default.
func (f *flags) publish(variant string) {
	revision := int64(len(*f) + 1)
	snapshot, err := eval.Compile(revision, []eval.Row{{Kind: eval.KindFlag, Name: "greeting", From: revision, Document: []byte(
		`{"flag":{"defaultVariant":"` + variant + `","state":"ENABLED","variants":{"formal":"Good day","plain":"Hi"}},"guidon":{"project":"shop","type":"string"}}`,
	)}})
	if err != nil {
		panic(err)
	}
	*f = append(*f, snapshot)
}

// Two services, and a change published while the request is on its way from
// one to the other: both greet alike, and the next request greets anew.
func Example() {
	var environment flags
	environment.publish("formal")

	var keys propagate.Keyring
	if err := keys.Set("k1", []propagate.Key{{ID: "k1", Secret: [32]byte{1}}}); err != nil {
		panic(err)
	}
	p, err := propagate.New(propagate.Config{
		Snapshots:   &environment,
		Keys:        &keys,
		Environment: func() string { return "production" },
		Mode:        propagate.Internal,
	})
	if err != nil {
		panic(err)
	}
	greet := func(ctx context.Context) string {
		text, _ := p.Evaluate(ctx, "greeting", eval.String, nil).Text()
		return text
	}

	back := httptest.NewServer(p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("back: ", greet(r.Context()))
	})))
	defer back.Close()
	client := &http.Client{Transport: p.Transport(nil)}
	front := p.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("front:", greet(r.Context()))
		environment.publish("plain")
		call, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, back.URL, nil)
		if response, err := client.Do(call); err == nil {
			_ = response.Body.Close()
		}
	}))
	for range 2 {
		front.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	// Output:
	// front: Good day
	// back:  Good day
	// front: Hi
	// back:  Hi
}

// A consumer starts a root by hand and says what it knows of the subject.
func ExamplePropagator_Root() {
	var environment flags
	environment.publish("plain")
	p, err := propagate.New(propagate.Config{Snapshots: &environment, Environment: func() string { return "production" }})
	if err != nil {
		panic(err)
	}
	ctx := p.Root(context.Background(), map[string]any{"targetingKey": "user-77"})
	r := p.Evaluate(ctx, "greeting", eval.String, nil)
	fmt.Println(r.Value(), r.Variant(), r.Reason(), r.Origin, r.Pinned)
	// Output: Hi plain STATIC pin 1
}

// Anybody can read a header; following one takes its key.
func ExampleDecode() {
	h, err := propagate.Decode(`1;c="0198c0de5a7e7f00a1b2c3d4e5f60718";o="4f3c2b1a09d8e7f6";e="production";r=1042;t=1763900000;` +
		`u="user-77";a="plan=gold";d="checkout.new-pricing:on^";i="k1";s=:AAAAAAAAAAAAAAAAAAAAAA==:`)
	if err != nil {
		panic(err)
	}
	fmt.Println(h.Environment, h.Revision, h.Subject, h.Attributes[0].Name, h.Attributes[0].Value())
	fmt.Printf("%s is %q, decided at the root: %v\n", h.Decisions[0].Flag, h.Decisions[0].Variant, h.Decisions[0].Mark == propagate.MarkRoot)
	// Output:
	// production 1042 user-77 plan gold
	// checkout.new-pricing is "on", decided at the root: true
}
