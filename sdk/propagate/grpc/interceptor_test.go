package guidongrpc_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
	"github.com/guidon-flags/guidon/sdk/propagate/internal/stage"
)

// Every kind of call: the service behind evaluates at the pin of its caller
// although the flag was changed in between, and the answer names the
// correlation ID.
func TestCalls(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{unary: "formal", client: "formal formal", server: "formal formal", bidi: "formal formal"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			environment := stage.New()
			front, back := environment.Service(propagate.Edge, nil), environment.Service(propagate.Internal, nil)
			address, arrived := serve(t, back, func(ctx context.Context) string { return stage.Greet(ctx, back) })

			ctx := front.Root(t.Context(), map[string]any{"targetingKey": "user-77"})
			if got := stage.Greet(ctx, front); got != "formal" {
				t.Fatalf("root: %q, want formal", got)
			}
			environment.Publish("plain")
			answer, err := call(ctx, dial(t, address, front), method, "")
			if got := strings.Join(answer.said, " "); got != want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
			state, _ := propagate.FromContext(ctx)
			sent, _ := state.Header()
			if diff := cmp.Diff(&wire{[]string{sent}, []string{state.CorrelationID()}}, arrived, cmp.AllowUnexported(wire{})); diff != "" {
				t.Errorf("on the wire (-want +got):\n%s", diff)
			}
			if got := answer.header["x-correlation-id"]; !cmp.Equal(got, []string{state.CorrelationID()}) {
				t.Errorf("answered x-correlation-id %q, want %q", got, state.CorrelationID())
			}
			if len(answer.header["guidon"]) != 0 || len(answer.trailer) != 0 {
				t.Errorf("header %v, trailer %v, want no flag state there", answer.header, answer.trailer)
			}
		})
	}
}

// Whatever arrives is counted as what it is, fails nothing, and goes on to the
// next service only if that may be able to read it: then byte for byte.
func TestInbound(t *testing.T) {
	t.Parallel()
	for _, mode := range []propagate.Mode{propagate.Internal, propagate.Edge, propagate.Off} {
		for _, in := range stage.Inbounds() {
			for _, method := range []string{unary, bidi} {
				t.Run(mode.String()+"/"+in.Name+method, func(t *testing.T) {
					t.Parallel()
					environment := stage.New()
					middle, leaf := environment.Service(mode, nil), environment.Service(propagate.Internal, nil)
					leafAddress, passed := serve(t, leaf, func(ctx context.Context) string { return stage.Greet(ctx, leaf) })
					below := dial(t, leafAddress, middle)
					var visible []string
					address, _ := serve(t, middle, func(ctx context.Context) string {
						md, _ := metadata.FromIncomingContext(ctx)
						visible = md["guidon"]
						answer, err := call(ctx, below, unary, "")
						if err != nil {
							return err.Error()
						}
						return stage.Greet(ctx, middle) + " " + answer.said[0]
					})
					ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"guidon": in.Values})
					answer, err := call(ctx, dial(t, address, nil), method, "")
					if err != nil || answer.said[0] != "formal formal" {
						t.Fatalf("answer %v, %v, want formal formal", answer, err)
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
				})
			}
		}
	}
}

// An edge leaves the rest of the metadata alone, but for what looks like ours.
func TestEdgeStrips(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Edge, nil)
	var seen metadata.MD
	address, _ := serve(t, p, func(ctx context.Context) string {
		seen, _ = metadata.FromIncomingContext(ctx)
		return ""
	})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "guidon", "a", "gui-don", "b", "guidon_seen", "c", "guidonseen", "d",
		"baggage", "user=1,guidon=evil", "trace-bin", "\x00\xff", "x-guidon", "kept")
	if _, err := call(ctx, dial(t, address, nil), unary, ""); err != nil {
		t.Fatal(err)
	}
	if got := seen[":authority"]; !cmp.Equal(got, []string{address}) {
		t.Errorf("the handler sees the authority %q, want %q", got, address)
	}
	for _, key := range []string{":authority", "content-type", "user-agent", "grpc-accept-encoding"} {
		delete(seen, key)
	}
	want := metadata.MD{"baggage": {"user=1"}, "trace-bin": {"\x00\xff"}, "x-guidon": {"kept"}}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the handler sees (-want +got):\n%s", diff)
	}
}

// A copied header does not add up with ours, nor leave the zone, and the
// caller's metadata stay as they were.
func TestClientReplaces(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	address, arrived := serve(t, nil, func(context.Context) string { return "" })
	for destination, want := range map[string]int{"127.0.0.1": 1, "elsewhere.example": 0} {
		p := environment.Service(propagate.Internal, func(c *propagate.Config) { c.Destinations = []string{destination} })
		own := metadata.Pairs("guidon", "copied", "guidon", "twice", "guidon-seen", "copied", "stock", "7")
		ctx := metadata.NewOutgoingContext(p.Root(t.Context(), nil), own)
		for _, method := range []string{unary, bidi} {
			if _, err := call(ctx, dial(t, address, p), method, ""); err != nil {
				t.Fatal(err)
			}
			if len(arrived.guidon) != want || want == 1 && arrived.guidon[0] == "copied" {
				t.Errorf("%s to %s: %q arrived, want %d header", method, destination, arrived.guidon, want)
			}
		}
		if len(own) != 3 || len(own["guidon"]) != 2 {
			t.Errorf("the caller's metadata became %v", own)
		}
	}
}

// The target decides, however it is written.
func TestTargets(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	for target, want := range map[string]bool{
		"inventory":                           true,
		"inventory:80":                        true,
		"dns:///inventory.shop.svc:80":        true,
		"dns://8.8.8.8/inventory:80":          true,
		"passthrough:///127.0.0.1:80":         true,
		"passthrough:///[::1]:80":             true,
		"passthrough:inventory":               true,
		"unix:///run/inventory":               true,
		"unix-abstract:inventory":             true,
		"dns:///example.com:443":              false,
		"example.com":                         false,
		"dns://inventory/example.com:443":     false,
		"passthrough:///10.0.0.1:80":          false,
		"passthrough:///127.0.0.1:1,6.6.6.6":  false,
		"passthrough:///evil.example,a.local": false,
		"passthrough:///evil.example/a.local": false,
		"passthrough:///evil.example@a.local": false,
		"passthrough:///":                     false,
	} {
		p := environment.Service(propagate.Internal, nil)
		cc := dial(t, target, nil)
		var sent metadata.MD
		err := guidongrpc.UnaryClientInterceptor(p)(p.Root(t.Context(), nil), unary, nil, nil, cc,
			func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				sent, _ = metadata.FromOutgoingContext(ctx)
				return nil
			})
		if got := len(sent["guidon"]) == 1 && len(sent["x-correlation-id"]) == 1; got != want || err != nil || !want && (len(sent) != 1 || sent["x-correlation-id"] == nil) {
			t.Errorf("%s: sent %v, %v, want a header: %v", target, sent, err, want)
		}
	}
}

// Over a socket of this machine.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	path := filepath.Join(t.TempDir(), "s")
	s := grpc.NewServer(grpc.UnaryInterceptor(guidongrpc.UnaryServerInterceptor(p)))
	s.RegisterService(shop(propagate.CorrelationID), nil)
	listen(t, s, "unix", path)
	ctx := p.Root(t.Context(), nil)
	answer, err := call(ctx, dial(t, "unix:"+path, p), unary, "")
	if err != nil || answer.said[0] != propagate.CorrelationID(ctx) {
		t.Errorf("%v, %v, want the correlation ID %s", answer.said, err, propagate.CorrelationID(ctx))
	}
}

// Errors answer with the correlation ID too; trailers are the application's.
func TestAnswers(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	address, _ := serve(t, p, propagate.CorrelationID)
	cc := dial(t, address, nil)
	refused, err := call(t.Context(), cc, unary, "fail")
	if s := status.Convert(err); s.Code() != codes.NotFound || !cmp.Equal(refused.header["x-correlation-id"], []string{s.Message()}) {
		t.Errorf("%v with %v, want not found and the correlation ID", err, refused.header)
	}
	answer, err := call(t.Context(), cc, unary, "trailer")
	if diff := cmp.Diff(metadata.MD{"stock": {"7"}}, answer.trailer); diff != "" || err != nil {
		t.Errorf("trailer, %v (-want +got):\n%s", err, diff)
	}
}

// Config.Context reads the call as the HTTP request that it is.
func TestContext(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Edge, func(c *propagate.Config) {
		c.Context = func(r *http.Request) map[string]any {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			return map[string]any{"targetingKey": strings.Join([]string{r.Header.Get("User"), r.Method, r.URL.Path, host, r.Host}, " ")}
		}
	})
	address, _ := serve(t, p, func(ctx context.Context) string {
		stage.Greet(ctx, p)
		state, _ := propagate.FromContext(ctx)
		pin, _ := state.Pin()
		return pin.Subject
	})
	for _, method := range []string{unary, bidi} {
		answer, err := call(metadata.AppendToOutgoingContext(t.Context(), "user", "user-77"), dial(t, address, nil), method, "")
		if want := "user-77 POST " + method + " 127.0.0.1 " + address; err != nil || answer.said[0] != want {
			t.Errorf("subject %q, %v, want %q", answer.said, err, want)
		}
	}
}

// gRPC repeats a call below the interceptors: each attempt carries the same.
func TestRetryCarriesTheSame(t *testing.T) {
	t.Parallel()
	p := stage.New().Service(propagate.Internal, nil)
	var attempts []string
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if attempts = append(attempts, md["guidon"]...); len(attempts) < 3 {
			return nil, status.Error(codes.Unavailable, "again")
		}
		return wrapperspb.String(""), nil
	}))
	s.RegisterService(shop(propagate.CorrelationID), nil)
	address := listen(t, s, "tcp", "127.0.0.1:0")
	cc := dial(t, address, p, grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,`+
		`"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`))
	if _, err := call(p.Root(t.Context(), nil), cc, unary, ""); err != nil {
		t.Fatal(err)
	}
	if len(attempts) != 3 || attempts[0] != attempts[1] || attempts[1] != attempts[2] {
		t.Errorf("attempts carried %q, want the same three times", attempts)
	}
}

// A stream keeps the flags of the call that opened it, except for a message
// that asks for newer ones.
func TestReroot(t *testing.T) {
	t.Parallel()
	environment := stage.New()
	p := environment.Service(propagate.Internal, nil)
	address, _ := serve(t, p, func(ctx context.Context) string {
		old := stage.Greet(ctx, p)
		environment.Publish("plain")
		return old + " " + stage.Greet(p.Reroot(ctx), p) + " " + stage.Greet(ctx, p)
	})
	answer, err := call(t.Context(), dial(t, address, nil), bidi, "")
	if diff := cmp.Diff([]string{"formal plain formal", "formal plain formal"}, answer.said); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
