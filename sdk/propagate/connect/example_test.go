package guidonconnect_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// A service and its caller agree on a flag although it is changed while the
// call is on its way. In a real service the Propagator is that of the SDK's
// client.
func Example() {
	environment := stage.New()
	front, back := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)

	greet := connect.NewUnaryHandlerSimple("/shop.v1.Shop/Greet", func(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		return wrapperspb.String(stage.Greet(ctx, back)), nil
	}, connect.WithInterceptors(guidonconnect.NewInterceptor(back)))
	server := httptest.NewServer(greet)
	defer server.Close()

	client := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](
		&http.Client{Transport: front.Transport(nil)}, server.URL+"/shop.v1.Shop/Greet",
		connect.WithInterceptors(guidonconnect.NewInterceptor(front)))

	ctx := front.Root(context.Background(), nil)
	fmt.Println("front:", stage.Greet(ctx, front))
	environment.Publish("plain")
	answer, err := client.CallUnary(ctx, connect.NewRequest(wrapperspb.String("")))
	if err != nil {
		panic(err)
	}
	fmt.Println("back: ", answer.Msg.GetValue())
	// Output:
	// front: formal
	// back:  formal
}

// A central router needs no code of its own: Middleware in front of an
// httputil.ReverseProxy, Transport behind it. What arrives with a pin goes on
// byte for byte; what does not is rooted at the router.
func Example_router() {
	environment := stage.New()
	router, back := environment.Service(propagate.Internal, nil), environment.Service(propagate.Internal, nil)

	server := httptest.NewServer(connect.NewUnaryHandlerSimple("/shop.v1.Shop/Greet", func(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		info, _ := connect.CallInfoForHandlerContext(ctx)
		return wrapperspb.String(info.RequestHeader().Get("Guidon")), nil
	}, connect.WithInterceptors(guidonconnect.NewInterceptor(back))))
	defer server.Close()
	target, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: router.Transport(nil),
	}
	front := httptest.NewServer(router.Middleware(proxy))
	defer front.Close()

	client := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](http.DefaultClient, front.URL+"/shop.v1.Shop/Greet")
	request := connect.NewRequest(wrapperspb.String(""))
	request.Header().Set("Guidon", stage.Header("production", stage.Key))
	answer, err := client.CallUnary(context.Background(), request)
	if err != nil {
		panic(err)
	}
	fmt.Println("unchanged behind the router:", answer.Msg.GetValue() == request.Header().Get("Guidon"))
	// Output: unchanged behind the router: true
}
