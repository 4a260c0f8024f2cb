package guidonconnect_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// text is the only message of the tests' service.
type text = wrapperspb.StringValue

const unary, client, server, bidi = "/shop.v1.Shop/Unary", "/shop.v1.Shop/Client", "/shop.v1.Shop/Server", "/shop.v1.Shop/Bidi"

// shop answers every message of every kind of call with what say returns.
func shop(say func(context.Context) string, options ...connect.HandlerOption) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(unary, connect.NewUnaryHandlerSimple(unary, func(ctx context.Context, in *text) (*text, error) {
		said := say(ctx)
		if in.GetValue() == "fail" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New(said))
		}
		return wrapperspb.String(said), nil
	}, options...))
	mux.Handle(client, connect.NewClientStreamHandlerSimple(client, func(ctx context.Context, in *connect.ClientStream[text]) (*text, error) {
		var all []string
		for in.Receive() {
			all = append(all, say(ctx))
		}
		return wrapperspb.String(strings.Join(all, " ")), in.Err()
	}, options...))
	mux.Handle(server, connect.NewServerStreamHandlerSimple(server, func(ctx context.Context, _ *text, out *connect.ServerStream[text]) error {
		return errors.Join(out.Send(wrapperspb.String(say(ctx))), out.Send(wrapperspb.String(say(ctx))))
	}, options...))
	mux.Handle(bidi, connect.NewBidiStreamHandler(bidi, func(ctx context.Context, s *connect.BidiStream[text, text]) error {
		for {
			_, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err == nil {
				err = s.Send(wrapperspb.String(say(ctx)))
			}
			if err != nil {
				return err
			}
		}
	}, options...))
	return mux
}

// serve listens on loopback for HTTP/1.1 and h2c.
func serve(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = protocols()
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// h2c is a client that speaks HTTP/2 in the clear, which two-way streams need.
func h2c(t testing.TB) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: p}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func dial(t testing.TB, url, procedure string, options ...connect.ClientOption) *connect.Client[text, text] {
	t.Helper()
	return connect.NewClient[text, text](h2c(t), url+procedure, options...)
}

// wire is what went over the network, seen below the interceptor.
type wire struct{ guidon, correlation []string }

func (w *wire) tap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.guidon = append([]string(nil), r.Header["Guidon"]...)
		w.correlation = append([]string(nil), r.Header["X-Correlation-Id"]...)
		next.ServeHTTP(rw, r)
	})
}

// Every kind of call, over every protocol: the service behind evaluates at the
// pin of its caller although the flag was changed in between, and the answer
// names the correlation ID.
func TestCalls(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(context.Context, *connect.Client[text, text]) (said string, header, trailer http.Header, err error){
		unary: func(ctx context.Context, c *connect.Client[text, text]) (string, http.Header, http.Header, error) {
			answer, err := c.CallUnary(ctx, connect.NewRequest(wrapperspb.String("")))
			if err != nil {
				return "", nil, nil, err
			}
			return answer.Msg.GetValue(), answer.Header(), answer.Trailer(), nil
		},
		client: func(ctx context.Context, c *connect.Client[text, text]) (string, http.Header, http.Header, error) {
			s := c.CallClientStream(ctx)
			err := errors.Join(s.Send(wrapperspb.String("")), s.Send(wrapperspb.String("")))
			answer, closeErr := s.CloseAndReceive()
			if err := errors.Join(err, closeErr); err != nil {
				return "", nil, nil, err
			}
			return answer.Msg.GetValue(), answer.Header(), answer.Trailer(), nil
		},
		server: func(ctx context.Context, c *connect.Client[text, text]) (said string, header, trailer http.Header, err error) {
			s, err := c.CallServerStream(ctx, connect.NewRequest(wrapperspb.String("")))
			if err != nil {
				return "", nil, nil, err
			}
			var all []string
			for s.Receive() {
				all = append(all, s.Msg().GetValue())
			}
			return strings.Join(all, " "), s.ResponseHeader(), s.ResponseTrailer(), errors.Join(s.Err(), s.Close())
		},
		bidi: func(ctx context.Context, c *connect.Client[text, text]) (said string, header, trailer http.Header, err error) {
			s := c.CallBidiStream(ctx)
			var all []string
			for range 2 {
				err := s.Send(wrapperspb.String(""))
				answer, receiveErr := s.Receive()
				if err := errors.Join(err, receiveErr); err != nil {
					return "", nil, nil, err
				}
				all = append(all, answer.GetValue())
			}
			err = errors.Join(s.CloseRequest(), s.CloseResponse())
			return strings.Join(all, " "), s.ResponseHeader(), s.ResponseTrailer(), err
		},
	}
	for name, options := range map[string][]connect.ClientOption{"connect": nil, "grpc": {connect.WithGRPC()}, "grpcweb": {connect.WithGRPCWeb()}} {
		for procedure, call := range kinds {
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
				said, header, trailer, err := call(ctx, c)
				if want := map[bool]string{true: "formal", false: "formal formal"}[procedure == unary]; said != want || err != nil {
					t.Errorf("%q, %v, want %q", said, err, want)
				}
				state, _ := propagate.FromContext(ctx)
				sent, _ := state.Header()
				if diff := cmp.Diff(wire{[]string{sent}, []string{state.CorrelationID()}}, seen, cmp.AllowUnexported(wire{})); diff != "" {
					t.Errorf("on the wire (-want +got):\n%s", diff)
				}
				if got := header["X-Correlation-Id"]; !cmp.Equal(got, []string{state.CorrelationID()}) {
					t.Errorf("answered X-Correlation-ID %q, want %q once", got, state.CorrelationID())
				}
				for _, answered := range []http.Header{header, trailer} {
					if answered.Get("Guidon") != "" || trailer.Get("X-Correlation-Id") != "" {
						t.Errorf("header %v, trailer %v, want no flag state there", header, trailer)
					}
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
			t.Run(mode.String()+"/"+in.Name, func(t *testing.T) {
				t.Parallel()
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
					answer, err := below.CallUnary(ctx, connect.NewRequest(wrapperspb.String("")))
					if err != nil {
						return err.Error()
					}
					return stage.Greet(ctx, middle) + " " + answer.Msg.GetValue()
				}, connect.WithInterceptors(guidonconnect.NewInterceptor(middle))))

				request := connect.NewRequest(wrapperspb.String(""))
				request.Header()["Guidon"] = in.Values
				answer, err := dial(t, url, unary).CallUnary(t.Context(), request)
				if err != nil || answer.Msg.GetValue() != "formal formal" {
					t.Fatalf("answer %v, %v, want formal formal", answer, err)
				}
				outcome, forwarded := in.Outcome, in.Forwarded
				if mode != propagate.Internal {
					forwarded = false
					if outcome != propagate.Absent {
						outcome = propagate.Stripped
					}
				}
				if got := middle.Stats().Headers[outcome]; got != 1 && mode != propagate.Off {
					t.Errorf("counted %v, want one %v", middle.Stats().Headers, outcome)
				}
				switch {
				case forwarded && (!cmp.Equal(passed.guidon, in.Values) || !cmp.Equal(visible, in.Values)):
					t.Errorf("handler saw %q, sent on %q, want the received bytes", visible, passed.guidon)
				case mode == propagate.Off && (len(passed.guidon) != 0 || !cmp.Equal(visible, in.Values)):
					t.Errorf("handler saw %q, sent on %q, want it left alone and nothing sent", visible, passed.guidon)
				case !forwarded && mode != propagate.Off:
					if len(visible) != 0 || len(passed.guidon) != 1 || len(in.Values) > 0 && passed.guidon[0] == in.Values[0] {
						t.Errorf("handler saw %q, sent on %q, want a root of its own", visible, passed.guidon)
					}
				}
			})
		}
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, func(c *propagate.Config) { c.Destinations = []string{"elsewhere.example"} })
	var seen wire
	url := serve(t, seen.tap(shop(func(context.Context) string { return "" })))
	for _, procedure := range []string{unary, client} {
		c := dial(t, url, procedure, connect.WithInterceptors(guidonconnect.NewInterceptor(p)))
		ctx := p.Root(t.Context(), nil)
		var err error
		if procedure == unary {
			request := connect.NewRequest(wrapperspb.String(""))
			request.Header().Set("Guidon", "copied from an inbound request")
			_, err = c.CallUnary(ctx, request)
		} else {
			_, err = c.CallClientStream(ctx).CloseAndReceive()
		}
		if err != nil || len(seen.guidon) != 0 || len(seen.correlation) != 0 {
			t.Errorf("%s: sent %+v outside the zone, %v", procedure, seen, err)
		}
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
			return map[string]any{"targetingKey": r.Header.Get("User") + " " + r.Method + " " + r.URL.Path}
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
	if want := "user-77 POST " + unary; err != nil || answer.Msg.GetValue() != want {
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
