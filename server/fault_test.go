package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	sdk "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

// network is a proxy between a client and a server that can be made to misbehave.
type network struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	n     int
}

func newNetwork(t *testing.T, upstream string) *network {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, "sdk", "127.0.0.1:0", strings.TrimPrefix(upstream, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return &network{t: t, proxy: proxy}
}

func (n *network) url() string { return "http://" + n.proxy.Listen }

// worsen adds a toxic and returns what takes it away.
func (n *network) worsen(kind, stream, attributes string) (mend func()) {
	n.t.Helper()
	n.n++
	name := fmt.Sprintf("%s-%d", kind, n.n)
	toxic := fmt.Sprintf(`{"name":%q,"type":%q,"stream":%q,"toxicity":1,"attributes":%s}`, name, kind, stream, attributes)
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		n.t.Fatalf("toxic %s: %v", toxic, err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.proxy.Toxics.RemoveToxic(ctx, name); err != nil {
			n.t.Errorf("toxic %s: %v", name, err)
		}
	}
}

// TestFaultsOfTheNetwork is F3 in short: whatever the network does, values never
// go back to defaults, revisions only grow, each has the value it was published
// with, a stream that is half open is noticed, and in the end all is current.
func TestFaultsOfTheNetwork(t *testing.T) {
	t.Parallel()
	g := start(t, func(o *options) { o.server.Heartbeat = 250 * time.Millisecond })
	key := g.key(t, store.KeyServer, "staging")
	published := map[int64]bool{} // by revision, whether the flag is on
	publish := func(on bool) int64 {
		t.Helper()
		revision := g.apply(t, "staging", putFlag("staging", "checkout", map[bool]string{true: "on", false: "off"}[on]))
		published[revision] = on
		return revision
	}
	newest := publish(true)
	n := newNetwork(t, g.url)
	c, err := sdk.Open(t.Context(), n.url(), sdk.WithKey(key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}

	// What an application sees meanwhile, revision by revision.
	seen := make(chan map[int64]bool)
	var over atomic.Bool
	go func() {
		values, last := map[int64]bool{}, int64(0)
		tick := time.NewTicker(time.Millisecond) // leaves the processor to others
		defer tick.Stop()
		for !over.Load() {
			s := c.Snapshot()
			on, ok := s.Flag("checkout").Evaluate(nil, 0).Boolean()
			switch {
			case !ok:
				t.Errorf("revision %d has no value", s.Revision())
			case s.Revision() < last:
				t.Errorf("revision %d came after %d", s.Revision(), last)
			}
			last = s.Revision()
			values[last] = on
			<-tick.C
		}
		seen <- values
	}()

	current := func() bool { return c.Snapshot().Revision() == newest && c.Status().State == feed.StateReady }
	for _, fault := range []struct {
		name, kind, attributes string
		passes                 bool // a stream gets through it
	}{
		{"latency", "latency", `{"latency": 1000, "jitter": 200}`, true},
		{"byte by byte", "slicer", `{"average_size": 1, "delay": 10}`, true},
		{"16 KB a second", "bandwidth", `{"rate": 16}`, true},
		{"slow close", "slow_close", `{"delay": 500}`, true},
		{"resets", "reset_peer", `{"timeout": 20}`, false},
		{"half open", "timeout", `{"timeout": 0}`, false},
		{"cut after 300 bytes", "limit_data", `{"bytes": 300}`, false},
	} {
		mend := n.worsen(fault.kind, "downstream", fault.attributes)
		newest = publish(!published[newest])
		if fault.passes {
			storetest.Eventually(t, "the change came through "+fault.name, current)
		} else {
			storetest.Eventually(t, "the stream is known to be lost under "+fault.name, func() bool { return c.Status().LastError != "" })
		}
		if fault.name == "half open" && !strings.Contains(c.Status().LastError, "nothing was heard") {
			t.Errorf("a stream that is half open was lost for %q", c.Status().LastError)
		}
		mend()
		newest = publish(!published[newest])
		storetest.Eventually(t, "all is current after "+fault.name, current)
	}
	over.Store(true)
	for revision, on := range <-seen {
		if want, ok := published[revision]; !ok || on != want {
			t.Errorf("at revision %d the flag was on=%v; published was %v, %v", revision, on, want, ok)
		}
	}
}
