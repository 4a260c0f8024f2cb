package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	shopv1 "github.com/guidon-flags/guidon/proto/gen/shop/v1"
	"github.com/guidon-flags/guidon/proto/gen/shop/v1/shopv1connect"
	guidonconnect "github.com/guidon-flags/guidon/sdk/propagate/connect"
	guidongrpc "github.com/guidon-flags/guidon/sdk/propagate/grpc"
)

// reserve is the one method of shop.v1.InventoryService, whatever it came over.
func (s *service) reserve(ctx context.Context, t trip) (*shopv1.ReserveResponse, error) {
	hops, err := s.visit(ctx, t)
	if err != nil {
		return nil, err
	}
	report, err := json.Marshal(hops)
	return &shopv1.ReserveResponse{Hops: report}, err
}

// reserved reads what reserve answered.
func reserved(res *shopv1.ReserveResponse) ([]Hop, error) { return hopsFrom(res.GetHops()) }

// connectHandler serves shop.v1.InventoryService over Connect.
func (s *service) connectHandler() (path string, _ http.Handler) {
	in := map[mode]http.Handler{}
	for m, p := range s.lanes {
		path, in[m] = shopv1connect.NewInventoryServiceHandler(connectInventory{s},
			connect.WithInterceptors(guidonconnect.NewInterceptor(p)), connect.WithReadMaxBytes(maxReport))
	}
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := tripFrom(r.Header.Values(tripHeader), overConnect)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		in[t.mode].ServeHTTP(w, r)
	})
}

type connectInventory struct{ *service }

// Reserve implements shopv1connect.InventoryServiceHandler.
func (i connectInventory) Reserve(ctx context.Context, _ *shopv1.ReserveRequest) (*shopv1.ReserveResponse, error) {
	info, _ := connect.CallInfoForHandlerContext(ctx)
	t, err := tripFrom(info.RequestHeader().Values(tripHeader), overConnect)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return i.reserve(ctx, t)
}

// overConnect calls the inventory at url.
func (b *booth) overConnect(url string) caller {
	clients := map[mode]shopv1connect.InventoryServiceClient{}
	for m, p := range b.lanes {
		clients[m] = shopv1connect.NewInventoryServiceClient(&http.Client{Transport: p.Transport(b.wire)}, url,
			connect.WithInterceptors(guidonconnect.NewInterceptor(p)), connect.WithReadMaxBytes(maxReport))
	}
	return func(ctx context.Context, t trip) ([]Hop, error) {
		ctx, info := connect.NewClientContext(ctx)
		if value := t.header(); value != nil {
			info.RequestHeader()[http.CanonicalHeaderKey(tripHeader)] = value
		}
		res, err := clients[t.mode].Reserve(ctx, &shopv1.ReserveRequest{})
		if err != nil {
			return nil, err
		}
		return reserved(res)
	}
}

// grpcServer serves shop.v1.InventoryService over google.golang.org/grpc.
func (s *service) grpcServer() *grpc.Server {
	in := map[mode]grpc.UnaryServerInterceptor{}
	for m, p := range s.lanes {
		in[m] = guidongrpc.UnaryServerInterceptor(p)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxReport), grpc.UnaryInterceptor(
		func(ctx context.Context, message any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			t, err := tripFrom(md[tripHeader], overGRPC)
			if err != nil {
				return nil, status.Error(codes.InvalidArgument, err.Error())
			}
			return in[t.mode](context.WithValue(ctx, tripKey{}, t), message, info, next)
		}))
	server.RegisterService(&inventoryService, s)
	return server
}

type tripKey struct{}

// inventoryService is shop.v1.InventoryService as grpc wants it described.
var inventoryService = grpc.ServiceDesc{
	ServiceName: shopv1connect.InventoryServiceName,
	HandlerType: (*any)(nil),
	Metadata:    "shop/v1/inventory.proto",
	Methods: []grpc.MethodDesc{{
		MethodName: "Reserve",
		Handler: func(s any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			req := new(shopv1.ReserveRequest)
			if err := decode(req); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: s, FullMethod: shopv1connect.InventoryServiceReserveProcedure}
			return intercept(ctx, req, info, func(ctx context.Context, _ any) (any, error) {
				return s.(*service).reserve(ctx, ctx.Value(tripKey{}).(trip))
			})
		},
	}},
}

// overGRPC calls the inventory at address. The connections are b's to close.
func (b *booth) overGRPC(address string) (caller, error) {
	conns := map[mode]*grpc.ClientConn{}
	for m, p := range b.lanes {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithUnaryInterceptor(guidongrpc.UnaryClientInterceptor(p)))
		if err != nil {
			return nil, fmt.Errorf("gRPC: %w", err)
		}
		conns[m] = conn
		b.closers = append(b.closers, func() { _ = conn.Close() }) // nothing is in flight any more
	}
	return func(ctx context.Context, t trip) ([]Hop, error) {
		if value := t.header(); value != nil {
			ctx = metadata.AppendToOutgoingContext(ctx, tripHeader, value[0])
		}
		res := new(shopv1.ReserveResponse)
		if err := conns[t.mode].Invoke(ctx, shopv1connect.InventoryServiceReserveProcedure, &shopv1.ReserveRequest{}, res); err != nil {
			return nil, err
		}
		return reserved(res)
	}, nil
}
