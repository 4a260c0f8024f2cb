package guidon

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"github.com/open-feature/go-sdk/openfeature"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// Client is an application's connection to one environment of Guidon. Make one
// with [Open], once per process. It is safe for concurrent use.
type Client struct {
	log        *slog.Logger
	feed       *feed.Feed
	keys       propagate.Keyring
	overrides  propagate.Overrides
	propagator *propagate.Propagator
	provider   *provider
	decoded    decodedValues

	stop    context.CancelFunc
	running sync.WaitGroup
	close   sync.Once
	idle    func() // closes connections that are ours
}

// Open connects to the Guidon server at url, such as https://guidon.example.com,
// and returns at once: the flags arrive in the background, and keep arriving
// until Close, whatever becomes of ctx, which gives its values only. Use
// [Client.WaitReady], or OpenFeature's SetProviderAndWait, to wait for the first.
//
// An empty url is for flags without a server: see [WithBootstrap].
//
// An error means that url or an option is wrong, and that nothing was started.
// A server that cannot be reached, or that refuses the key, is no error: it is
// tried again for ever, and [Client.Status] says why.
func Open(ctx context.Context, url string, opts ...Option) (*Client, error) {
	o, err := newOptions(url, opts)
	if err != nil {
		return nil, err
	}
	c := &Client{log: o.log, idle: func() {}}
	if o.http == nil {
		transport := feed.NewTransport()
		o.http = &http.Client{Transport: transport, CheckRedirect: feed.NeverRedirect}
		c.idle = transport.CloseIdleConnections
	}
	var source feed.Source
	if o.url != "" {
		source = feed.Connect(guidonv1connect.NewSyncServiceClient(o.http, o.url,
			connect.WithReadMaxBytes(feed.MaxMessage),
			// Payloads are compressed once, by the server, for everybody.
			connect.WithAcceptCompression("gzip", nil, nil),
			connect.WithInterceptors(authorization(o.key)),
		))
	}
	if o.source != nil {
		source = o.source(source)
	}
	c.feed = feed.New(feed.Config{
		Source:       source,
		Cache:        feed.CacheFile(o.cache, o.url, o.key),
		Bootstrap:    o.bootstrap,
		Client:       &guidonv1.Client{Service: o.service, Instance: feed.NewInstance(), Sdk: "guidon-go", Version: moduleVersion()},
		Log:          o.log,
		Status:       func(s feed.Status) { c.provider.observe(s) },
		Changed:      func(keys []string) { c.provider.changed(keys) },
		Keys:         c.setKeys,
		OverrideKeys: c.setOverrideKeys,
		Pierced:      func() map[int64]int64 { return c.propagator.TakePierced() },
	})
	c.provider = newProvider(c)
	c.propagator, err = propagate.New(propagate.Config{
		Snapshots:    c.feed,
		Keys:         &c.keys,
		Overrides:    &c.overrides,
		Environment:  c.feed.Environment,
		Mode:         o.mode,
		Destinations: o.destinations,
		Baggage:      o.baggage,
		Context:      o.context,
		Observer:     c.observe,
	})
	if err != nil {
		return nil, err
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.running.Go(func() { _ = c.feed.Run(ctx) }) // fails only when run twice
	c.running.Go(func() { c.provider.deliver(ctx) })
	return c, nil
}

// WaitReady waits until there are flags. It returns nil as soon as there are, an
// error that wraps ctx's and says what the server last answered, or
// [feed.ErrEnded] after Close.
func (c *Client) WaitReady(ctx context.Context) error { return c.feed.WaitReady(ctx) }

// Status says how the connection is and how old the flags are.
func (c *Client) Status() feed.Status { return c.feed.Status() }

// Snapshot is the newest set of flags, nil before the first. It never changes:
// a newer one replaces it.
func (c *Client) Snapshot() *eval.Snapshot { return c.feed.Snapshot() }

// Provider is the OpenFeature provider over this client, the same one each
// time. Shutting it down, as OpenFeature does when another takes its place,
// ends its events but not the client: that is for Close.
func (c *Client) Provider() openfeature.FeatureProvider { return c.provider }

// Propagator holds the rules of propagation, for transports other than net/http
// and for requests that do not arrive through any.
func (c *Client) Propagator() *propagate.Propagator { return c.propagator }

// FeedStats are the counters of the stream. They are alive: read them by Load.
func (c *Client) FeedStats() *feed.Stats { return c.feed.Stats() }

// Middleware gives each request its flag state: the one it arrived with, if
// [WithMode] trusts it, else a new one.
func (c *Client) Middleware(next http.Handler) http.Handler { return c.propagator.Middleware(next) }

// Transport sends the request's flag state along with outgoing requests to
// allowed destinations. A nil base is [http.DefaultTransport].
func (c *Client) Transport(base http.RoundTripper) http.RoundTripper {
	return c.propagator.Transport(base)
}

// Close ends the connection and waits until all that Open started has ended.
// The flags stay as they are. Closing again does nothing. It returns nil.
func (c *Client) Close() error {
	c.close.Do(func() {
		c.stop()
		c.running.Wait()
		c.idle()
	})
	return nil
}
