package guidonconnect_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A central router of gRPC streams: readable or not, what arrives goes on as it
// came, trailers and all; what is refused is replaced by the router's own root.
func TestRouter(t *testing.T) {
	t.Parallel()
	for _, in := range stage.Inbounds() {
		t.Run(in.Name, func(t *testing.T) {
			t.Parallel()
			environment := stage.New()
			router, leaf := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)
			var passed wire
			target, err := url.Parse(serve(t, passed.tap(shop(func(ctx context.Context) string { return stage.Greet(ctx, leaf) },
				connect.WithInterceptors(guidonconnect.NewInterceptor(leaf))))))
			if err != nil {
				t.Fatal(err)
			}
			proxy := &httputil.ReverseProxy{
				Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
				Transport:     router.Transport(h2c(t).Transport),
				FlushInterval: -1,
			}
			front := serve(t, router.Middleware(proxy))
			s := dial(t, front, bidi, connect.WithGRPC()).CallBidiStream(t.Context())
			s.RequestHeader()["Guidon"] = in.Values
			for range 2 {
				err := s.Send(wrapperspb.String(""))
				answer, receiveErr := s.Receive()
				if err := errors.Join(err, receiveErr); err != nil || answer.GetValue() != "formal" {
					t.Fatalf("%q, %v, want formal", answer.GetValue(), err)
				}
				environment.Publish("plain")
			}
			if err := errors.Join(s.CloseRequest(), s.CloseResponse()); err != nil {
				t.Error(err)
			}
			if same := cmp.Equal(passed.guidon, in.Values); same != in.Forwarded || len(passed.guidon) != 1 {
				t.Errorf("behind the router %q, want the received bytes: %v", passed.guidon, in.Forwarded)
			}
			if got := s.ResponseHeader()[http.CanonicalHeaderKey("X-Correlation-ID")]; len(got) == 0 || got[0] != passed.correlation[0] {
				t.Errorf("answered X-Correlation-ID %q, want %q", got, passed.correlation)
			}
		})
	}
}
