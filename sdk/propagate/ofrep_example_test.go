package propagate_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/open-feature/go-sdk/openfeature/isolated"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// OFREP's client takes the request's state to Guidon if its HTTP client does: the
// answer is then that of the pinned revision, whatever is published meanwhile.
func ExamplePropagator_Transport_ofrep() {
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
	server := httptest.NewServer(p.Middleware(remote(p))) // stands for Guidon
	defer server.Close()

	api := isolated.NewAPI()
	defer func() { _ = api.Shutdown(context.Background()) }()
	provider := ofrep.NewProvider(server.URL, ofrep.WithClient(&http.Client{Transport: p.Transport(nil)}))
	if err := api.SetProviderAndWait(context.Background(), provider); err != nil {
		panic(err)
	}
	client := api.NewClient()

	request := p.Root(context.Background(), nil)
	fmt.Println(client.String(request, "greeting", "", openfeature.EvaluationContext{}))
	environment.publish("plain")
	fmt.Println(client.String(request, "greeting", "", openfeature.EvaluationContext{}))
	fmt.Println(client.String(context.Background(), "greeting", "", openfeature.EvaluationContext{}))
	// Output:
	// Good day
	// Good day
	// Hi
}

// remote answers OFREP for text flags.
func remote(p *propagate.Propagator) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path[len("/ofrep/v1/evaluate/flags/"):]
		text, _ := p.Evaluate(r.Context(), key, eval.String, nil).Text()
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"key":%q,"value":%q,"reason":"TARGETING_MATCH"}`, key, text)
	}
}
