package guidonconnect_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// Every kind of call, over every protocol: the service behind evaluates at the
// pin of its caller although the flag was changed in between, and the answer
// names the correlation ID.
func TestCalls(t *testing.T) {
	t.Parallel()
	kinds := []string{unary, client, server, bidi}
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpcweb": {connect.WithGRPCWeb()}} {
		for _, procedure := range kinds {
			t.Run(name+procedure, func(t *testing.T) {
				t.Parallel()
				environment := stage.New()
				front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
				var seen wire
				url := serve(t, seen.tap(shop(func(ctx context.Context) string { return stage.Greet(ctx, back) },
					connect.WithInterceptors(guidonconnect.NewInterceptor(back)))))

				ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
				if got := stage.Greet(ctx, front); got != "formal" {
					t.Fatalf("root: %q, want formal", got)
				}
				environment.Publish("plain")
				c := dial(t, url, procedure, append(options, connect.WithInterceptors(guidonconnect.NewInterceptor(front)))...)
				answer, err := call(ctx, c, procedure, nil)
				if want := map[bool]string{true: "formal", false: "formal formal"}[procedure == unary]; answer.said != want || err != nil {
					t.Errorf("%q, %v, want %q", answer.said, err, want)
				}
				state, _ := propagate.FromContext(ctx)
				sent, _ := state.Header()
				if diff := cmp.Diff(wire{[]string{sent}, []string{state.CorrelationID()}}, seen, cmp.AllowUnexported(wire{})); diff != "" {
					t.Errorf("on the wire (-want +got):\n%s", diff)
				}
				if got := answer.header["X-Correlation-Id"]; !cmp.Equal(got, []string{state.CorrelationID()}) {
					t.Errorf("answered X-Correlation-ID %q, want %q once", got, state.CorrelationID())
				}
				if answer.header.Get("Guidon") != "" || answer.trailer.Get("Guidon") != "" || answer.trailer.Get("X-Correlation-Id") != "" {
					t.Errorf("header %v, trailer %v, want no flag state there", answer.header, answer.trailer)
				}
				if got := back.Stats().Headers[propagate.Verified]; got != 1 {
					t.Errorf("verified %d headers, want 1 per call", got)
				}
			})
		}
	}
}

// Whatever arrives is counted as what it is, fails nothing, and goes on to the
// next service only if that may be able to read it: then byte for byte.
func TestInbound(t *testing.T) {
	t.Parallel()
	for _, mode := range []propagate.Mode{propagate.Internal, propagate.Edge, propagate.Off} {
		for _, in := range stage.Inbounds() {
			for _, procedure := range []string{unary, bidi} {
				t.Run(mode.String()+"/"+in.Name+procedure, func(t *testing.T) {
					t.Parallel()
					inbound(t, mode, in, procedure)
				})
			}
		}
	}
}

func inbound(t *testing.T, mode propagate.Mode, in stage.Inbound, procedure string) {
	environment := stage.New()
	middle, leaf := environment.Service(mode, nil), environment.Service(propagate.Internal, nil)
	var passed wire
	leafURL := serve(t, passed.tap(shop(func(ctx context.Context) string { return stage.Greet(ctx, leaf) },
		connect.WithInterceptors(guidonconnect.NewInterceptor(leaf)))))
	below := dial(t, leafURL, unary, connect.WithInterceptors(guidonconnect.NewInterceptor(middle)))
	var visible []string
	url := serve(t, shop(func(ctx context.Context) string {
		info, _ := connect.CallInfoForHandlerContext(ctx)
		visible = info.RequestHeader()["Guidon"]
		answer, err := call(ctx, below, unary, nil)
		if err != nil {
			return err.Error()
		}
		return stage.Greet(ctx, middle) + "+" + answer.said
	}, connect.WithInterceptors(guidonconnect.NewInterceptor(middle))))

	answer, err := call(t.Context(), dial(t, url, procedure), procedure, http.Header{"Guidon": in.Values})
	if want := map[string]string{unary: "formal+formal", bidi: "formal+formal formal+formal"}[procedure]; answer.said != want || err != nil {
		t.Fatalf("answer %q, %v, want %q", answer.said, err, want)
	}
	outcome := in.Outcome
	if mode == propagate.Edge && outcome != propagate.Absent {
		outcome = propagate.Stripped
	}
	if got := middle.Stats().Headers[outcome]; got != 1 && mode != propagate.Off {
		t.Errorf("counted %v, want one %v", middle.Stats().Headers, outcome)
	}
	switch {
	case mode == propagate.Off:
		if len(passed.guidon) != 0 || !cmp.Equal(visible, in.Values) {
			t.Errorf("handler saw %q, sent on %q, want it left alone and nothing sent", visible, passed.guidon)
		}
	case mode == propagate.Internal && in.Forwarded:
		if !cmp.Equal(passed.guidon, in.Values) || !cmp.Equal(visible, in.Values) {
			t.Errorf("handler saw %q, sent on %q, want the received bytes", visible, passed.guidon)
		}
	case len(visible) != 0 || len(passed.guidon) != 1 || len(in.Values) > 0 && passed.guidon[0] == in.Values[0]:
		t.Errorf("handler saw %q, sent on %q, want a root of its own", visible, passed.guidon)
	}
}

// A header copied from elsewhere does not add up with ours, nor leave the zone.
func TestCopiedHeaders(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	for destination, want := range map[string]int{"127.0.0.1": 1, "elsewhere.example": 0} {
		p := environment.Service(propagate.Internal, func(c *propagate.Config) { c.Destinations = []string{destination} })
		for _, procedure := range []string{unary, client, server, bidi} {
			t.Run(destination+procedure, func(t *testing.T) {
				t.Parallel()
				var seen wire
				url := serve(t, seen.tap(shop(func(context.Context) string { return "" })))
				c := dial(t, url, procedure, connect.WithInterceptors(guidonconnect.NewInterceptor(p)))
				_, err := call(p.Root(t.Context(), nil), c, procedure, http.Header{"Guidon": {"copied", "twice"}, "Gui-Don": {"copied"}})
				if err != nil || len(seen.guidon) != want || len(seen.correlation) != 1 || want == 1 && seen.guidon[0] == "copied" {
					t.Errorf("sent %+v, %v, want %d header", seen, err, want)
				}
			})
		}
	}
	p := environment.Service(propagate.Internal, nil)
	var seen wire
	url := serve(t, seen.tap(shop(func(context.Context) string { return "" })))
	empty := dial(t, url, client, connect.WithInterceptors(guidonconnect.NewInterceptor(p))).CallClientStream(p.Root(t.Context(), nil))
	if _, err := empty.CloseAndReceive(); err != nil || len(seen.guidon) != 1 {
		t.Errorf("a stream without messages sent %+v, %v, want a header", seen, err)
	}
}

// A redirect leads a client that has Transport below the interceptor nowhere
// with the header.
func TestRedirect(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	var source, target wire
	away := serve(t, target.tap(shop(func(context.Context) string { return "away" })))
	url := serve(t, source.tap(http.RedirectHandler(away+unary, http.StatusTemporaryRedirect)))
	httpClient := h2c(t)
	httpClient.Transport = p.Transport(httpClient.Transport)
	c := connect.NewClient[text, text](httpClient, url+unary, connect.WithInterceptors(guidonconnect.NewInterceptor(p)))
	answer, err := c.CallUnary(p.Root(t.Context(), nil), connect.NewRequest(wrapperspb.String("")))
	if err != nil || answer.Msg.GetValue() != "away" {
		t.Fatalf("%v, %v, want the redirect followed", answer, err)
	}
	if len(source.guidon) != 1 || len(target.guidon) != 0 {
		t.Errorf("sent %q to the source and %q to the target, want it at the source only", source.guidon, target.guidon)
	}
}

// An error answers with the correlation ID too, and is no less the
// application's own.
func TestErrorEchoes(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	url := serve(t, shop(propagate.CorrelationID, connect.WithInterceptors(guidonconnect.NewInterceptor(p))))
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}} {
		_, err := dial(t, url, unary, options...).CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("fail")))
		refused, ok := errors.AsType[*connect.Error](err)
		if !ok || refused.Code() != connect.CodeNotFound || !cmp.Equal(refused.Meta()["X-Correlation-Id"], []string{refused.Message()}) {
			t.Errorf("%s: %v with %v, want not found and the correlation ID", name, err, refused.Meta())
		}
	}
}

// Behind Middleware, and below Transport, the interceptor finds the work done.
func TestBesideMiddleware(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	asked := 0
	p := environment.Service(propagate.Internal, func(c *propagate.Config) {
		c.Context = func(*http.Request) map[string]any { asked++; return nil }
	})
	url := serve(t, p.Middleware(shop(propagate.CorrelationID,
		connect.WithInterceptors(guidonconnect.NewInterceptor(p)))))
	answer, err := dial(t, url, unary).CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("")))
	if err != nil || !cmp.Equal(answer.Header()["X-Correlation-Id"], []string{answer.Msg.GetValue()}) {
		t.Errorf("answer %v, %v, want one correlation ID", answer, err)
	}
	if got := p.Stats().Events[propagate.Rooted]; got != 1 || asked != 1 {
		t.Errorf("rooted %d times, asked for the context %d times, want once", got, asked)
	}
}

// Config.Context reads the call as the HTTP request that it is.
func TestContext(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Edge, func(c *propagate.Config) {
		c.Context = func(r *http.Request) map[string]any {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			return map[string]any{"targetingKey": r.Header.Get("User") + " " + r.Method + " " + r.URL.Path + " " + host}
		}
	})
	url := serve(t, shop(func(ctx context.Context) string {
		stage.Greet(ctx, p)
		state, _ := propagate.FromContext(ctx)
		pin, _ := state.Pin()
		return pin.Subject
	}, connect.WithInterceptors(guidonconnect.NewInterceptor(p))))
	request := connect.NewRequest(wrapperspb.String(""))
	request.Header().Set("User", "user-77")
	answer, err := dial(t, url, unary).CallUnary(t.Context(), request)
	if want := "user-77 POST " + unary + " 127.0.0.1"; err != nil || answer.Msg.GetValue() != want {
		t.Errorf("subject %v, %v, want %q", answer, err, want)
	}
}

// A stream keeps the flags of its request, except for a message that asks for
// newer ones.
func TestReroot(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	url := serve(t, shop(func(ctx context.Context) string {
		old := stage.Greet(ctx, p)
		environment.Publish("plain")
		fresh := p.Reroot(ctx)
		return old + " " + stage.Greet(fresh, p) + " " + stage.Greet(ctx, p)
	}, connect.WithInterceptors(guidonconnect.NewInterceptor(p))))
	s := dial(t, url, bidi).CallBidiStream(t.Context())
	for range 2 {
		err := s.Send(wrapperspb.String(""))
		answer, receiveErr := s.Receive()
		if err := errors.Join(err, receiveErr); err != nil || answer.GetValue() != "formal plain formal" {
			t.Fatalf("%q, %v, want formal plain formal", answer.GetValue(), err)
		}
	}
	if err := errors.Join(s.CloseRequest(), s.CloseResponse()); err != nil {
		t.Error(err)
	}
}
