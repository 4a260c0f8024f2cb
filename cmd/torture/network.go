package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// network is a way to an address that can be made to misbehave.
type network struct {
	proxy *toxiproxy.Proxy
	names []string
}

// Network opens one, until the cluster is closed.
func (c *Cluster) Network(upstream string) (*network, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics write to a logger of their own
	n := &network{proxy: toxiproxy.NewProxy(api, "network", "127.0.0.1:0", upstream)}
	if err := n.proxy.Start(); err != nil {
		return nil, err
	}
	c.networks = append(c.networks, n)
	return n, nil
}

func (n *network) address() string { return n.proxy.Listen }

// Worsen adds a toxic.
func (n *network) Worsen(t toxic) error {
	name := fmt.Sprintf("%s-%d", t.kind, len(n.names))
	text := fmt.Sprintf(`{"name":%q,"type":%q,"stream":"downstream","toxicity":%v,"attributes":%s}`, name, t.kind, t.share, t.attributes)
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		return fmt.Errorf("toxic %s: %w", text, err)
	}
	n.names = append(n.names, name)
	return nil
}

// Mend takes all toxics away.
func (n *network) Mend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, name := range n.names {
		if err := n.proxy.Toxics.RemoveToxic(ctx, name); err != nil {
			return fmt.Errorf("toxic %s: %w", name, err)
		}
	}
	n.names = nil
	return nil
}

func (n *network) close() { n.proxy.Stop() }

// toxic is one way in which a network misbehaves.
type toxic struct {
	name, kind, attributes string
	share                  float64 // of the connections
}

const halfOpen = "half-open"

// toxics all at once, each on a way of its own: it would take an hour one by one.
var toxics = []toxic{
	{"latency 1 s", "latency", `{"latency": 1000}`, 1},
	{"resets 50 %", "reset_peer", `{"timeout": 20}`, 0.5},
	{"byte by byte", "slicer", `{"average_size": 1, "delay": 10}`, 1},
	{"1 KB/s", "bandwidth", `{"rate": 1}`, 1},
	{halfOpen, "timeout", `{"timeout": 0}`, 1},
}

// breakNetwork is F3 between applications and servers: whatever the network
// does, applications have right values, notice a stream that is half open, and
// are current once it is mended.
func breakNetwork(ctx context.Context, c *Cluster) (map[string]any, error) {
	n, lasts := 10, 10*time.Minute
	if c.settings.short {
		n, lasts = 4, 8*time.Second
		c.heartbeat = time.Second // or it takes 45 until a stream is known to be half open
	}
	if err := c.Begin(ctx, 3); err != nil {
		return nil, err
	}
	f, err := c.Balance(ctx)
	if err != nil {
		return nil, err
	}
	var all crowd
	ways := map[string]*network{}
	for _, t := range toxics {
		if ways[t.name], err = c.Network(f.address()); err != nil {
			return nil, err
		}
		all.Groups = append(all.Groups, group{Name: t.name, URL: "http://" + ways[t.name].address(), N: n})
	}
	a, err := c.Applications(ctx, all)
	if err != nil {
		return nil, err
	}
	w := c.WriteSlowly(ctx, 2, 0, 200*time.Millisecond)
	if err := w.Await(ctx, 4); err != nil {
		return nil, err
	}
	if _, err := a.Mark(ctx); err != nil {
		return nil, err
	}
	broken := time.Now()
	for _, t := range toxics {
		if err := ways[t.name].Worsen(t); err != nil {
			return nil, err
		}
	}
	noticed, err := a.When(ctx, "applications notice that their stream is half open", func(h heard, n int) bool {
		return h.Name != halfOpen || h.Noticed == n
	})
	if err != nil {
		return nil, err
	}
	detected := noticed[halfOpen]
	if bound := 3*c.heartbeat + 2*time.Second; detected > bound {
		return nil, fmt.Errorf("it took %v until half-open streams were noticed, want %v", detected, bound)
	}
	if err := pause(ctx, lasts-time.Since(broken)); err != nil {
		return nil, err
	}
	during, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	converged, err := c.mend(ctx, a, ways, w)
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"half_open_noticed_ms": detected.Milliseconds(), "lasted_s": int(lasts.Seconds()), "applications": n * len(toxics)}
	for _, h := range during.Groups {
		figures[h.Name] = map[string]any{
			"applied": h.Applied, "longest_gap_ms": h.Gap, "converged_ms": converged[h.Name].Milliseconds(),
		}
	}
	return figures, nil
}

// mend takes all toxics away, lets writers end, and says how long after that the
// groups had the next change, which could not be made before.
func (c *Cluster) mend(ctx context.Context, a *Applications, ways map[string]*network, w *Writers) (map[string]time.Duration, error) {
	mended := time.Now()
	for _, n := range ways {
		if err := n.Mend(ctx); err != nil {
			return nil, err
		}
	}
	w.Quiesce()
	revision, err := c.Tick(ctx)
	if err != nil {
		return nil, err
	}
	published := time.Since(mended)
	took, err := a.When(ctx, "applications are current again", func(h heard, n int) bool {
		return h.at(revision) == n && h.Connected == n
	})
	for name := range took {
		took[name] += published
	}
	return took, err
}

// breakDatabaseNetwork is F3 between servers and Postgres: servers go on from
// memory, writers are told what is wrong or get through, the loss is noticed in
// 15 s, and all is current once it is mended.
func breakDatabaseNetwork(ctx context.Context, c *Cluster) (map[string]any, error) {
	n, lasts := 10, 10*time.Minute
	if c.settings.short {
		n, lasts = 2, 16*time.Second
	}
	c.callTimeout = 25 * time.Second // servers give up after 20
	if err := c.Begin(ctx, 1); err != nil {
		return nil, err
	}
	database, err := c.DatabaseOverTCP(ctx)
	if err != nil {
		return nil, err
	}
	var all crowd
	ways, servers := map[string]*network{}, map[string]*Server{}
	for _, t := range toxics {
		if ways[t.name], err = c.Network(database.address()); err != nil {
			return nil, err
		}
		url, err := c.databaseAt(ways[t.name].address())
		if err != nil {
			return nil, err
		}
		s, err := c.StartServer(ctx, serving{database: url})
		if err != nil {
			return nil, err
		}
		servers[t.name] = s
		all.Groups = append(all.Groups, group{Name: t.name, URL: s.URL, N: n})
	}
	a, err := c.Applications(ctx, all)
	if err != nil {
		return nil, err
	}
	w := c.Write(ctx, 6, 0)
	if err := w.Await(ctx, 30); err != nil {
		return nil, err
	}
	readers := c.read(ctx)
	for _, s := range servers {
		s.forget()
	}
	broken := time.Now()
	for _, t := range toxics {
		if err := ways[t.name].Worsen(t); err != nil {
			return nil, err
		}
	}
	const failedLooks = `guidon_hub_looks_total{result="failed"}`
	detected := map[string]time.Duration{}
	for time.Since(broken) < lasts {
		for name, s := range servers {
			metrics, err := s.metrics(ctx)
			if err != nil {
				return nil, err
			}
			if _, ok := detected[name]; !ok && metrics[failedLooks] > 0 {
				detected[name] = time.Since(broken)
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	reads, failed := readers.stop()
	if took, ok := detected[halfOpen]; !ok || took > 15*time.Second {
		return nil, fmt.Errorf("it took %v until a half-open way to Postgres was noticed (%v), want 15s", took, ok)
	}
	if failed > 0 {
		return nil, fmt.Errorf("%d of %d reads failed while servers had no good way to Postgres", failed, reads)
	}
	converged, err := c.mend(ctx, a, ways, w)
	if err != nil {
		return nil, err
	}
	figures := map[string]any{"lasted_s": int(lasts.Seconds()), "applications": n * len(toxics), "reads": reads, "failed_reads": failed}
	for name, s := range servers {
		answers, slowest := s.answered()
		for code := range answers {
			if !understood(code) {
				return nil, fmt.Errorf("%s: writers were told %v", name, answers)
			}
		}
		own := map[string]any{"writers_were_told": answers, "slowest_answer_ms": slowest.Milliseconds(), "converged_ms": converged[name].Milliseconds()}
		if took, ok := detected[name]; ok {
			own["noticed_ms"] = took.Milliseconds()
		}
		figures[name] = own
	}
	return figures, nil
}
