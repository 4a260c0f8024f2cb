package guidon_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/open-feature/go-sdk/openfeature"

	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

func Example() {
	client, err := guidon.Open(context.Background(), os.Getenv("GUIDON_URL"), guidon.WithKey(os.Getenv("GUIDON_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := openfeature.SetProviderAndWait(client.Provider()); err != nil {
		log.Print(err) // flags have their defaults until Guidon is reached
	}
	flags := openfeature.NewDefaultClient()
	backend := &http.Client{Transport: client.Transport(nil)} // takes the flag state along
	checkout := client.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		newPricing := flags.Boolean(r.Context(), "checkout.new-pricing", false, openfeature.NewEvaluationContext("customer-7", nil))
		price, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, os.Getenv("PRICING_URL"), nil)
		respond(w, newPricing, backend, price)
	}))

	show(checkout)
	openfeature.Shutdown()
	// Output:
	// new pricing here: true, and below: true
}

// respond answers with what this service decided and what the one below did.
func respond(w http.ResponseWriter, decided bool, backend *http.Client, request *http.Request) {
	response, err := backend.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	below, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	_, _ = fmt.Fprintf(w, "new pricing here: %v, and below: %s", decided, below)
}

// show sends one request to the service.
func show(service http.Handler) {
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/checkout", http.NoBody))
	fmt.Println(answer.Body)
}

// pricing is the service below: another process, as far as Guidon can tell.
func pricing(url string) (*httptest.Server, func()) {
	client, err := guidon.Open(context.Background(), url, guidon.WithKey(serverKey), guidon.WithMode(propagate.Internal))
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(client.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		on, _ := client.Propagator().Evaluate(r.Context(), "checkout.new-pricing", eval.Boolean, nil).Boolean()
		_, _ = fmt.Fprint(w, on)
	})))
	return server, func() {
		server.Close()
		_ = client.Close()
	}
}
