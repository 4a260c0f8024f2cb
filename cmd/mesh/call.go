package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
)

const (
	streamName  = "mesh"
	errorHeader = "mesh-error"
	// redeliverAfter is long enough for many changes to come in between.
	redeliverAfter = 100 * time.Millisecond
	// maxPause is how long a service takes before it calls on.
	maxPause = 10 * time.Millisecond
)

func requestSubject(service string) string { return "mesh.request." + service }
func jobSubject(service string) string     { return "mesh.job." + service }

// reach is how many of a hundred calls of each row are made, so that a request
// touches some fifty services and not four hundred.
var reach = []int{100, 100, 60, 45}

// callAll makes the calls of one visit, all at the same time or one after the
// other.
func (m *Mesh) callAll(ctx context.Context, from *instance, t trip) error {
	if len(from.of.calls) == 0 {
		return nil
	}
	chance := t.chance(m.config.Seed)
	var g errgroup.Group
	if chance.IntN(3) == 0 {
		g.SetLimit(1)
	}
	for n, c := range from.of.calls {
		wait := time.Duration(chance.Int64N(int64(maxPause)))
		made, luck := chance.IntN(100) < reach[from.of.row], chance.IntN(100)
		if !made {
			continue
		}
		below := trip{Request: t.Request, Path: t.Path + "." + strconv.Itoa(n), Mode: t.Mode, Redeliver: luck < 30, Met: t.Met}
		if t.Mode != pinned {
			below.Subject = t.Subject
		}
		if t.Mode == decisions {
			below.Decided = t.Decided
		}
		g.Go(func() error {
			if err := pause(ctx, nil, wait); err != nil {
				return err
			}
			if err := m.call(ctx, from, c, below, luck); err != nil {
				return fmt.Errorf("%s: %w", c.to, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// call makes one call: now and then with a first attempt that fails after its
// work, now and then twice at the same time.
func (m *Mesh) call(ctx context.Context, from *instance, c call, t trip, luck int) error {
	m.recorder.Count(string(c.kind))
	switch {
	case luck >= 90 && luck < 95 && c.kind != jetStream:
		m.recorder.Count("retries")
		failing := t
		failing.Fail = true
		if err := m.send(ctx, from, c, failing); err == nil {
			return errors.New("it did not fail as it was asked to")
		}
	case luck >= 95:
		m.recorder.Count("hedges")
		var g errgroup.Group
		g.Go(func() error { return m.send(ctx, from, c, t) })
		g.Go(func() error { return m.send(ctx, from, c, t) })
		return g.Wait()
	}
	return m.send(ctx, from, c, t)
}

// send makes one attempt of a call.
func (m *Mesh) send(ctx context.Context, from *instance, c call, t trip) error {
	to, lane := m.services[c.to], from.lanes[t.Mode]
	switch c.kind {
	case http1:
		return get(ctx, lane.http1, to.url, t)
	case h2c:
		return get(ctx, lane.http, to.url, t)
	case connectUnary, connectServer, connectBidi:
		return m.connect(ctx, lane, to, c.kind, t)
	case grpcUnary, grpcBidi:
		return m.grpc(ctx, lane, to, c.kind, t)
	case natsRequest:
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		request := &nats.Msg{Subject: requestSubject(to.name), Header: nats.Header{tripHeader: {t.String()}}}
		answer, err := from.of.conn.RequestMsgWithContext(ctx, lane.zone.Outgoing(ctx, request))
		if err != nil {
			return err
		}
		if said := answer.Header.Get(errorHeader); said != "" {
			return errors.New(said)
		}
		return nil
	default:
		job := &nats.Msg{Subject: jobSubject(to.name), Header: nats.Header{tripHeader: {t.String()}}}
		m.jobs.Add(1) // a message is done with long after the request, perhaps
		if _, err := from.of.stream.PublishMsg(ctx, lane.zone.Outgoing(ctx, job)); err != nil {
			m.jobs.Done()
			return err
		}
		return nil
	}
}

func get(ctx context.Context, client *http.Client, url string, t trip) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/work", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set(tripHeader, t.String())
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, said)
	}
	return err
}

func (m *Mesh) connect(ctx context.Context, lane *lane, to *service, k kind, t trip) error {
	method := map[kind]string{connectUnary: unaryMethod, connectServer: serverMethod, connectBidi: bidiMethod}[k]
	client := connect.NewClient[text, text](&http.Client{Transport: m.http2}, to.url+method, connect.WithInterceptors(guidonconnect.NewInterceptor(lane.p)))
	request := connect.NewRequest(new(text))
	request.Header().Set(tripHeader, t.String())
	switch k {
	case connectUnary:
		_, err := client.CallUnary(ctx, request)
		return err
	case connectServer:
		stream, err := client.CallServerStream(ctx, request)
		if err != nil {
			return err
		}
		for stream.Receive() {
			continue // what it says is of no interest
		}
		return errors.Join(stream.Err(), stream.Close())
	default:
		stream := client.CallBidiStream(ctx)
		stream.RequestHeader().Set(tripHeader, t.String())
		err := ask(ctx, stream.Send, stream.Receive)
		return errors.Join(err, stream.CloseRequest(), stream.CloseResponse())
	}
}

// ask has a conversation over a two-way stream that stays open for a while.
func ask(ctx context.Context, send func(*text) error, receive func() (*text, error)) error {
	for range bidiMessages {
		sent := send(new(text))
		if _, err := receive(); err != nil {
			return err // why sending failed is said here
		}
		if err := errors.Join(sent, pause(ctx, nil, maxPause)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mesh) grpc(ctx context.Context, lane *lane, to *service, k kind, t trip) error {
	ctx = metadata.AppendToOutgoingContext(ctx, tripHeader, t.String())
	conn := m.conns[to.name]
	if k == grpcUnary {
		invoke := func(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, options ...grpc.CallOption) error {
			return conn.Invoke(ctx, method, in, out, options...)
		}
		return guidongrpc.UnaryClientInterceptor(lane.p)(ctx, unaryMethod, new(text), new(text), conn, invoke)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	open := func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
		return conn.NewStream(ctx, desc, method, options...)
	}
	stream, err := guidongrpc.StreamClientInterceptor(lane.p)(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, conn, bidiMethod, open)
	if err != nil {
		return err
	}
	receive := func() (*text, error) {
		out := new(text)
		return out, stream.RecvMsg(out)
	}
	err = ask(ctx, func(in *text) error { return stream.SendMsg(in) }, receive)
	if err := errors.Join(err, stream.CloseSend()); err != nil {
		return err
	}
	if _, err := receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ended with %w", err)
	}
	return nil
}
