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
