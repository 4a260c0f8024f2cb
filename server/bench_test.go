package server_test

import (
	"io"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/store"
)

// BenchmarkEvaluateRPC is one evaluation by a client on the same machine, over
// each protocol. The floor is a bare net/http handler.
func BenchmarkEvaluateRPC(b *testing.B) {
	g := start(b)
	key := g.key(b, store.KeyServer, "staging")
	g.apply(b, "staging", gold("staging", "new-pricing"))
	request := &guidonv1.EvaluationServiceEvaluateRequest{
		Key: "new-pricing", Context: contextOf(b, map[string]any{"targetingKey": "ann", "plan": "gold"}),
	}
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	for _, bb := range []struct {
		name    string
		client  *http.Client
		options []connect.ClientOption
	}{
		{"connect", &http.Client{Transport: &http.Transport{}}, nil},
		{"json", &http.Client{Transport: &http.Transport{}}, []connect.ClientOption{connect.WithProtoJSON()}},
		{"grpc", &http.Client{Transport: &http.Transport{Protocols: h2c}}, []connect.ClientOption{connect.WithGRPC()}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			defer bb.client.CloseIdleConnections()
			client := guidonv1connect.NewEvaluationServiceClient(bb.client, g.url, append(bb.options, withKey(key))...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Evaluate(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("floor", func(b *testing.B) {
		l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		bare := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
		go func() { _ = bare.Serve(l) }()
		defer func() { _ = bare.Close() }()
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			response, err := client.Get("http://" + l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	})
}

// BenchmarkChangeToStream is the way of one change: Apply by RPC, commit (not
// synced to disk here), delta, applied by a client on the same machine.
func BenchmarkChangeToStream(b *testing.B) {
	g := start(b)
	g.apply(b, "staging", putFlag("staging", "a", "on"))
	f := g.follow(b, g.key(b, store.KeyServer, "staging"), nil)
	f.reach(2)
	for i := 0; b.Loop(); i++ {
		f.reach(g.apply(b, "staging", setState("staging", "a", []string{"DISABLED", "ENABLED"}[i%2])))
	}
}
