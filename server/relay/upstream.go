// Package relay is the upstream of a server without a database: what a hub
// reads, and the keys that callers are known by, as a feed hears them from
// another server or relay.
//
// The one idea: a relay is a client of its upstream like any other, and a
// server to its own clients like any other. What it holds is one environment,
// checked by digest as every SDK does, and kept in a file: it outlives its
// upstream, and its own restart meanwhile. Nothing that a client asks of it
// waits for the upstream but what is older than the newest revision.
package relay

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/server/auth"
	"github.com/guidon-flags/guidon/store"
)

const (
	// maxMessage bounds one message of the upstream, in bytes.
	maxMessage = 256 << 20
	// tellEvery is how often the upstream hears who is connected.
	tellEvery = 3 * time.Second
	// tellWithin bounds one such call.
	tellWithin = 5 * time.Second
	// askWithin bounds one question about something older.
	askWithin = 5 * time.Second
)

// Config says whom a relay relays.
type Config struct {
	// URL of the upstream, a server or another relay. Required.
	URL string
	// Key is a relay key; it says which environment. Required.
	Key string
	// Cache is the directory in which the relay keeps what it holds. Defaults to
	// none: it then begins with nothing.
	Cache string
	// Version of the program, for the upstream's list of who is connected.
	Version string
	// Log gets what the feed logs. Defaults to discarding.
	Log *slog.Logger
}

// Upstream is what a relay hears. It satisfies hub.Source. Its methods are safe
// for concurrent use.
type Upstream struct {
	client  *guidonv1.Client
	api     guidonv1connect.SyncServiceClient
	feed    *feed.Feed
	log     *slog.Logger
	idle    func()
	changed chan struct{} // has room for one: that there is something new

	keys      atomic.Pointer[guidonv1.PropagationKeys]
	overrides atomic.Pointer[guidonv1.OverrideKeys]
	apiKeys   atomic.Pointer[guidonv1.APIKeys]
	known     atomic.Pointer[map[[32]byte]store.Key]

	mu sync.Mutex
	// handed are snapshots that the hub was told of, ascending: the first is the
	// one that it holds, the last the one that it was told of last.
	handed []*eval.Snapshot
}

// New returns an upstream that knows what its cache holds. It starts nothing;
// see [Upstream.Run].
func New(cfg Config) *Upstream {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	transport := newTransport()
	u := &Upstream{
		client:  &guidonv1.Client{Service: "relay", Instance: feed.NewInstance(), Sdk: "guidon-relay", Version: cfg.Version},
		log:     cfg.Log,
		idle:    transport.CloseIdleConnections,
		changed: make(chan struct{}, 1),
	}
	u.api = guidonv1connect.NewSyncServiceClient(
		&http.Client{Transport: transport, CheckRedirect: feed.NeverRedirect},
		cfg.URL, connect.WithReadMaxBytes(maxMessage), connect.WithInterceptors(auth.Bearer(cfg.Key)))
	u.feed = feed.New(feed.Config{
		Source: feed.Connect(u.api), Client: u.client, Log: cfg.Log, Cache: feed.CacheFile(cfg.Cache, cfg.URL, cfg.Key),
		Status:       func(feed.Status) { u.wake() },
		Changed:      func([]string) { u.wake() },
		Keys:         func(k *guidonv1.PropagationKeys) bool { u.keys.Store(k); u.wake(); return true },
		OverrideKeys: func(k *guidonv1.OverrideKeys) { u.overrides.Store(k); u.wake() },
		APIKeys:      u.setAPIKeys,
	})
	return u
}

// Run follows the upstream until ctx ends.
func (u *Upstream) Run(ctx context.Context) error {
	defer u.idle()
	return u.feed.Run(ctx)
}

func (u *Upstream) wake() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

func (u *Upstream) setAPIKeys(keys *guidonv1.APIKeys) {
	known := make(map[[32]byte]store.Key, len(keys.GetKeys()))
	for _, k := range keys.GetKeys() {
		if len(k.GetSha256()) != sha256.Size {
			u.log.LogAttrs(context.Background(), slog.LevelError, "API key of the upstream refused", slog.String("key_id", k.GetId()))
			continue
		}
		key := store.Key{ID: k.GetId(), Kind: store.KeyKind(k.GetKind()), Name: k.GetName(), Origins: k.GetOrigins(), Propagates: k.GetPropagates(), Projects: k.GetProjects()}
		if at := k.GetExpiresAt(); at.IsValid() {
			key.ExpiresAt = at.AsTime()
		}
		known[[32]byte(k.GetSha256())] = key
	}
	u.apiKeys.Store(keys)
	u.known.Store(&known)
}
