package guidonconnect_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"
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

// reply is what a call brought back, its messages joined.
type reply struct {
	said            string
	header, trailer http.Header
}

// call makes a call of one message, or of two where the client may stream, with
// more headers.
func call(ctx context.Context, c *connect.Client[text, text], procedure string, header http.Header) (reply, error) {
	request := connect.NewRequest(wrapperspb.String(""))
	maps.Copy(request.Header(), header)
	switch procedure {
	case unary:
		answer, err := c.CallUnary(ctx, request)
		if err != nil {
			return reply{}, err
		}
		return reply{answer.Msg.GetValue(), answer.Header(), answer.Trailer()}, nil
	case client:
		s := c.CallClientStream(ctx)
		maps.Copy(s.RequestHeader(), header)
		err := errors.Join(s.Send(request.Msg), s.Send(request.Msg))
		answer, closeErr := s.CloseAndReceive()
		if err := errors.Join(err, closeErr); err != nil {
			return reply{}, err
		}
		return reply{answer.Msg.GetValue(), answer.Header(), answer.Trailer()}, nil
	case server:
		s, err := c.CallServerStream(ctx, request)
		if err != nil {
			return reply{}, err
		}
		var all []string
		for s.Receive() {
			all = append(all, s.Msg().GetValue())
		}
		return reply{strings.Join(all, " "), s.ResponseHeader(), s.ResponseTrailer()}, errors.Join(s.Err(), s.Close())
	}
	s := c.CallBidiStream(ctx)
	maps.Copy(s.RequestHeader(), header)
	var all []string
	for range 2 {
		err := s.Send(request.Msg)
		answer, receiveErr := s.Receive()
		if err := errors.Join(err, receiveErr); err != nil {
			return reply{}, err
		}
		all = append(all, answer.GetValue())
	}
	err := s.CloseRequest()
	if _, end := s.Receive(); !errors.Is(end, io.EOF) { // trailers are there for who reads to the end
		err = errors.Join(err, end)
	}
	err = errors.Join(err, s.CloseResponse())
	return reply{strings.Join(all, " "), s.ResponseHeader(), s.ResponseTrailer()}, err
}
