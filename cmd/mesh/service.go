package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/guidon-flags/guidon/sdk/propagate"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
)

// text is the only message of the mesh's services.
type text = wrapperspb.StringValue

const (
	unaryMethod  = "/mesh.v1.MeshService/Unary"
	serverMethod = "/mesh.v1.MeshService/Server"
	bidiMethod   = "/mesh.v1.MeshService/Bidi"
	bidiMessages = 3
)

// A service has listeners for all transports, and instances behind them, of
// which each call gets any.
type service struct {
	mesh  *Mesh
	name  string
	row   int
	calls []call
	reads []flag

	url, grpcAddress string
	conn             *nats.Conn
	stream           jetstream.JetStream
	closers          []func(context.Context)

	mu        sync.Mutex
	instances []*instance
	next      int
}

// enter gives an instance that stays until its inFlight is done.
func (s *service) enter() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	i := s.instances[s.next%len(s.instances)]
	i.inFlight.Add(1)
	return i
}

// restart replaces an instance by a new one, which knows nothing of the past.
func (s *service) restart(ctx context.Context, n int) error {
	fresh, err := s.open(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.instances[n%len(s.instances)]
	s.instances[n%len(s.instances)] = fresh
	s.mu.Unlock()
	old.close(ctx)
	return nil
}

// ServeHTTP receives what comes over HTTP and Connect.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := parseTrip(r.Header.Values(tripHeader))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	i := s.enter()
	defer i.inFlight.Done()
	i.lanes[t.Mode].handler.ServeHTTP(w, r.WithContext(withTrip(r.Context(), t)))
}

// handler is what an instance does with a request of a lane.
func (i *instance) handler(p *propagate.Propagator) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /work", p.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := i.work(r.Context(), tripOf(r.Context())); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})))
	options := connect.WithInterceptors(guidonconnect.NewInterceptor(p))
	mux.Handle(unaryMethod, connect.NewUnaryHandlerSimple(unaryMethod, func(ctx context.Context, in *text) (*text, error) {
		return in, unavailable(i.work(ctx, tripOf(ctx)))
	}, options))
	mux.Handle(serverMethod, connect.NewServerStreamHandlerSimple(serverMethod, func(ctx context.Context, in *text, out *connect.ServerStream[text]) error {
		if err := errors.Join(out.Send(in), i.work(ctx, tripOf(ctx)), out.Send(in)); err != nil {
			return unavailable(err)
		}
		i.look(ctx, tripOf(ctx)) // when the stream has been open for a while
		return nil
	}, options))
	mux.Handle(bidiMethod, connect.NewBidiStreamHandler(bidiMethod, func(ctx context.Context, s *connect.BidiStream[text, text]) error {
		return unavailable(i.converse(ctx, s.Receive, s.Send))
	}, options))
	return mux
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return connect.NewError(connect.CodeUnavailable, err)
}

// converse answers each message of a two-way stream, and works on the first.
func (i *instance) converse(ctx context.Context, receive func() (*text, error), send func(*text) error) error {
	for n := 0; ; n++ {
		in, err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == 0 {
			if err := i.work(ctx, tripOf(ctx)); err != nil {
				return err
			}
		} else {
			i.look(ctx, tripOf(ctx))
		}
		if err := send(in); err != nil {
			return err
		}
	}
}

// serve opens the listeners of s.
func (s *service) serve(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.url = "http://" + listener.Addr().String()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: s, Protocols: protocols, ReadHeaderTimeout: patience}
	s.mesh.serving.Go(func() { _ = server.Serve(listener) }) // until Close
	s.closers = append(s.closers, func(context.Context) { _ = server.Close() })

	rpcListener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.grpcAddress = rpcListener.Addr().String()
	rpc := grpc.NewServer(grpc.UnaryInterceptor(s.intercept), grpc.StreamInterceptor(s.interceptStream))
	rpc.RegisterService(&meshService, s)
	s.mesh.serving.Go(func() { _ = rpc.Serve(rpcListener) }) // until Stop
	s.closers = append(s.closers, func(context.Context) { rpc.Stop() })
	return s.subscribe(ctx)
}

// grpcCall finds the trip of a call, and an instance for it.
func (s *service) grpcCall(ctx context.Context) (context.Context, *instance, trip, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	t, err := parseTrip(md[tripHeader])
	if err != nil {
		return nil, nil, t, err
	}
	i := s.enter()
	return context.WithValue(withTrip(ctx, t), instanceKey{}, i), i, t, nil
}

type instanceKey struct{}

func (s *service) intercept(ctx context.Context, message any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, i, t, err := s.grpcCall(ctx)
	if err != nil {
		return nil, err
	}
	defer i.inFlight.Done()
	return guidongrpc.UnaryServerInterceptor(i.lanes[t.Mode].p)(ctx, message, info, next)
}

func (s *service) interceptStream(of any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, i, t, err := s.grpcCall(stream.Context())
	if err != nil {
		return err
	}
	defer i.inFlight.Done()
	return guidongrpc.StreamServerInterceptor(i.lanes[t.Mode].p)(of, &serverStream{stream, ctx}, info, next)
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream is asked for its context
}

func (s *serverStream) Context() context.Context { return s.ctx }

var grpcBidiStream = grpc.StreamDesc{StreamName: "Bidi", ClientStreams: true, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
	i := s.Context().Value(instanceKey{}).(*instance)
	receive := func() (*text, error) {
		in := new(text)
		return in, s.RecvMsg(in)
	}
	return i.converse(s.Context(), receive, func(out *text) error { return s.SendMsg(out) })
}}

var meshService = grpc.ServiceDesc{
	ServiceName: "mesh.v1.MeshService",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Unary",
		Handler: func(s any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(text)
			if err := decode(in); err != nil {
				return nil, err
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: unaryMethod}, func(ctx context.Context, _ any) (any, error) {
				return in, ctx.Value(instanceKey{}).(*instance).work(ctx, tripOf(ctx))
			})
		},
	}},
	Streams: []grpc.StreamDesc{grpcBidiStream},
}

// subscribe receives NATS requests and JetStream messages.
func (s *service) subscribe(ctx context.Context) (err error) {
	if s.conn, err = s.mesh.broker.Connect(); err != nil {
		return err
	}
	s.closers = append(s.closers, func(context.Context) { s.conn.Close() })
	if s.stream, err = jetstream.New(s.conn); err != nil {
		return err
	}
	if _, err := s.conn.Subscribe(requestSubject(s.name), func(m *nats.Msg) { //nolint:contextcheck // a message brings no context
		go func() { // one of many: a subscription calls back one by one
			answer := nats.NewMsg(m.Reply)
			if err := s.message(m.Header); err != nil {
				answer.Header.Set(errorHeader, err.Error())
			}
			_ = m.RespondMsg(answer) // who waits in vain says so
		}()
	}); err != nil {
		return err
	}
	consumer, err := s.stream.CreateConsumer(ctx, streamName, jetstream.ConsumerConfig{
		FilterSubject: jobSubject(s.name), AckPolicy: jetstream.AckExplicitPolicy, AckWait: patience, MaxAckPending: -1,
	})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) { go s.job(m) }) //nolint:contextcheck // a message brings no context
	if err == nil {
		s.closers = append(s.closers, func(context.Context) { consuming.Stop() })
	}
	return err
}

// message works on one message, under the State that it brings.
func (s *service) message(header nats.Header) error {
	t, err := parseTrip(header[tripHeader])
	if err != nil {
		return err
	}
	i := s.enter()
	defer i.inFlight.Done()
	return i.work(i.lanes[t.Mode].zone.Incoming(withTrip(s.mesh.base, t), header), t)
}

// job works on a stored message, and refuses the first delivery of some after
// the work is done: the next delivery, to whatever instance, must see the same.
func (s *service) job(m jetstream.Msg) {
	err := s.message(m.Headers())
	about, aboutErr := m.Metadata()
	t, tripErr := parseTrip(m.Headers()[tripHeader])
	if err := errors.Join(aboutErr, tripErr); err != nil {
		s.mesh.broke(err)
	} else if t.Redeliver && about.NumDelivered == 1 {
		s.mesh.recorder.Count("redeliveries")
		s.mesh.broke(m.NakWithDelay(redeliverAfter))
		return
	}
	s.mesh.broke(errors.Join(err, m.Ack()))
	s.mesh.jobs.Done()
}

// close ends the listeners and then the instances.
func (s *service) close(ctx context.Context) {
	for _, end := range s.closers {
		end(ctx)
	}
	for _, i := range s.instances {
		i.close(ctx)
	}
}
