package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	guidon "github.com/guidon-flags/guidon/sdk"
	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/feed"
	"github.com/guidon-flags/guidon/sdk/propagate"
	"github.com/guidon-flags/guidon/server"
	"github.com/guidon-flags/guidon/store/storetest"
)

const (
	// shelf says what it was when it was defined: "old", and then "new".
	shelf = "fault.shelf"
	// clock tells whether the second of the evaluation is even.
	clock = "fault.clock"
	lost  = pinUnavailable
)

// A chain is three services, of which each calls the next: web at the edge, cart
// and stock inside.
type chain struct {
	guidon           *guidonServer
	changes          *toggler
	web, cart, stock *link
}

// A link is a service that can be made to fail.
type link struct {
	name   string
	client *guidon.Client
	net    *network
	url    string
	below  *link
	out    http.RoundTripper // what its calls go over
}

func startChain(t *testing.T) *chain {
	t.Helper()
	// A new propagation key signs as soon as everybody has it.
	g := startTestGuidon(t, func(c *server.Config) { c.KeyWait, c.Recheck = time.Nanosecond, 5*time.Millisecond })
	c := &chain{guidon: g, changes: newToggler(http.DefaultClient, g, 1)}
	c.define(t, "old")
	c.stock = c.open(t, "stock", nil)
	c.cart = c.open(t, "cart", c.stock)
	c.web = c.open(t, "web", c.cart)
	return c
}

func (c *chain) open(t *testing.T, name string, below *link, options ...guidon.Option) *link {
	t.Helper()
	wire := new(http.Transport)
	l := &link{name: name, net: newNetwork(0, nil), below: below, out: wire}
	mode := propagate.Internal
	if name == "web" {
		mode = propagate.Edge
	}
	options = append([]guidon.Option{
		guidon.WithKey(c.guidon.key), guidon.WithService(name), guidon.WithMode(mode),
		guidon.WithSource(func(source feed.Source) feed.Source { l.net.Source = source; return l.net }),
	}, options...)
	var err error
	if l.client, err = guidon.Open(t.Context(), c.guidon.url, options...); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(l.client.Middleware(l))
	l.url = server.URL
	t.Cleanup(func() { server.Close(); wire.CloseIdleConnections(); _ = l.client.Close() })
	storetest.Eventually(t, name+" has flags", func() bool { return l.client.WaitReady(t.Context()) == nil })
	return l
}

// define makes the next revision, in which the shelf is as said.
func (c *chain) define(t *testing.T, is string) {
	t.Helper()
	second := map[string]any{"%": []any{map[string]any{"var": "$flagd.timestamp"}, 2.0}}
	var operations []*guidonv1.Operation
	for key, definition := range map[string]map[string]any{
		shelf: {"variants": map[string]any{"old": "old", "new": "new"}, "defaultVariant": is},
		clock: {
			"variants": map[string]any{"even": "even", "odd": "odd"}, "defaultVariant": "odd",
			"targeting": map[string]any{"if": []any{map[string]any{"==": []any{second, 0.0}}, "even", "odd"}},
		},
	} {
		definition["state"] = "ENABLED"
		s, err := structpb.NewStruct(definition)
		if err != nil {
			t.Fatal(err)
		}
		operations = append(operations, &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{
			PutFlag: &guidonv1.PutFlag{Environment: environment, Key: key, Definition: s},
		}})
	}
	if err := c.changes.apply(t.Context(), operations...); err != nil {
		t.Fatal(err)
	}
}

// redefine makes a revision and waits until those services have it.
func (c *chain) redefine(t *testing.T, is string, links ...*link) {
	t.Helper()
	c.define(t, is)
	for _, l := range links {
		storetest.Eventually(t, l.name+" has the new revision", func() bool {
			return l.client.Snapshot().Evaluate(shelf, nil, 0).Variant() == is
		})
	}
}

// ServeHTTP answers with what this service sees, and what those below see.
func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s:%s,%s ", l.name, l.see(r.Context(), shelf), l.see(r.Context(), clock))
	if l.below == nil {
		return
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, l.below.url, http.NoBody)
	if err != nil {
		panic(err) // the URL is of our own making
	}
	response, err := (&http.Client{Transport: l.client.Transport(l.out)}).Do(request)
	if err != nil {
		fmt.Fprint(w, err)
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(w, response.Body)
}

func (l *link) see(ctx context.Context, key string) string {
	got := l.client.Propagator().Evaluate(ctx, key, eval.String, nil)
	switch {
	case got.PinUnavailable && got.Reason() == eval.ReasonError:
		return lost
	case got.ErrorCode() != eval.CodeNone:
		return string(got.ErrorCode())
	}
	return got.Variant()
}

// event counts what happened at a link.
func (l *link) event(k propagate.EventKind) uint64 { return l.client.Propagator().Stats().Events[k] }

// asked sends a request and returns, by service, what it saw of a flag.
func asked(t *testing.T, to string, header http.Header) (shelves, clocks map[string]string) {
	t.Helper()
	shelves, clocks, err := request(t.Context(), to, header)
	if err != nil {
		t.Fatalf("%v: a fault must not fail the request", err)
	}
	return shelves, clocks
}

func request(ctx context.Context, to string, header http.Header) (shelves, clocks map[string]string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, to, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	request.Header = header.Clone()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	shelves, clocks = map[string]string{}, map[string]string{}
	for said := range strings.FieldsSeq(string(body)) {
		name, saw, _ := strings.Cut(said, ":")
		shelves[name], clocks[name], _ = strings.Cut(saw, ",")
	}
	return shelves, clocks, err
}

// header is what web sends for a request that starts now.
func (c *chain) header(t *testing.T) string {
	t.Helper()
	carried := http.Header{}
	p := c.web.client.Propagator()
	p.Inject(p.Root(t.Context(), map[string]any{"targetingKey": "ada"}), propagate.HTTPCarrier(carried))
	return carried.Get("Guidon")
}

// What may befall a header on its way: it is followed, by all, or it counts as
// none, is counted, and the service it reaches starts a request of its own, which
// all below follow. Nothing in between.
func TestFaultyHeaders(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	valid := c.header(t)
	c.redefine(t, "new", c.web, c.cart, c.stock)

	plain := proxyTo(t, c.cart.url, nil)
	router := proxyTo(t, c.cart.url, c.web.client.Propagator().WithMode(propagate.Internal))
	const long = 4096
	guidonOnly := func(lines ...string) http.Header { return http.Header{"Guidon": lines} }
	tests := []struct {
		name     string
		header   http.Header
		to       string
		followed bool
		outcome  propagate.Outcome
	}{
		{"as it was sent", guidonOnly(valid), c.cart.url, true, propagate.Verified},
		{"a clock two minutes ahead", guidonOnly(c.retimed(t, valid, 2*time.Minute)), c.cart.url, true, propagate.Verified},
		{"a clock two minutes behind", guidonOnly(c.retimed(t, valid, -2*time.Minute)), c.cart.url, true, propagate.Verified},
		{"8 KiB of baggage around it", http.Header{
			"Guidon": {valid}, "Baggage": {"a=" + strings.Repeat("x", long-2), "b=" + strings.Repeat("y", long-2)},
		}, c.cart.url, true, propagate.Verified},
		{"look-alikes beside it", http.Header{"Guidon": {valid}, "Guidon_": {"1;c"}, "Gui-Don": {"no"}, "X-Guidon": {"no"}}, c.cart.url, true, propagate.Verified},
		{"through a router", guidonOnly(valid), router, true, propagate.Verified},
		{"Connection: guidon, to the service itself", http.Header{"Guidon": {valid}, "Connection": {"guidon"}}, c.cart.url, true, propagate.Verified},
		{"Connection: guidon, through a router", http.Header{"Guidon": {valid}, "Connection": {"guidon"}}, router, true, propagate.Verified},
		{"Connection: guidon, through a plain proxy", http.Header{"Guidon": {valid}, "Connection": {"guidon"}}, plain, false, propagate.Absent},
		{"none", http.Header{}, c.cart.url, false, propagate.Absent},
		{"only look-alikes", http.Header{"Guidon_": {valid}, "Gui-Don": {valid}, "X-Guidon": {valid}}, c.cart.url, false, propagate.Absent},
		{"only as baggage", http.Header{"Baggage": {"guidon=" + url.PathEscape(valid)}}, c.cart.url, true, propagate.Verified},
		{"two lines", guidonOnly(valid, valid), c.cart.url, false, propagate.Duplicate},
		{"two lines, one of them empty", guidonOnly(valid, ""), c.cart.url, false, propagate.Duplicate},
		{"two lines joined", guidonOnly(valid + ", " + valid), c.cart.url, false, propagate.BadTag},
		{"another pin", guidonOnly(strings.Replace(valid, ";r=", ";r=1", 1)), c.cart.url, false, propagate.BadTag},
		{"oversize", guidonOnly(valid + strings.Repeat("x", long)), c.cart.url, false, propagate.Oversize},
	}
	for _, tt := range tests {
		before, orphans, skewed := c.cart.client.Propagator().Stats(), c.stock.event(propagate.OrphanRooted), c.cart.event(propagate.ClockSkew)
		shelves, clocks := asked(t, tt.to, tt.header)
		want := "new"
		if tt.followed {
			want = "old"
		}
		for _, l := range []*link{c.cart, c.stock} {
			if shelves[l.name] != want || clocks[l.name] != clocks["cart"] {
				t.Errorf("%s: %s sees %q and %q, want %q and what cart sees, %q", tt.name, l.name, shelves[l.name], clocks[l.name], want, clocks["cart"])
			}
		}
		if tt.followed && tt.header.Get("Guidon") != "" {
			if want := second(t, tt.header.Get("Guidon")); clocks["cart"] != want {
				t.Errorf("%s: the clock is %s, want the root's, %s", tt.name, clocks["cart"], want)
			}
		}
		after := c.cart.client.Propagator().Stats()
		if n := after.Headers[tt.outcome] - before.Headers[tt.outcome]; n != 1 {
			t.Errorf("%s: counted %d times as %s at cart, want once", tt.name, n, tt.outcome)
		}
		if n := after.Events[propagate.OrphanRooted] - before.Events[propagate.OrphanRooted]; n == 1 != (tt.outcome == propagate.Absent) {
			t.Errorf("%s: %d orphan roots at cart", tt.name, n)
		}
		if n := c.stock.event(propagate.OrphanRooted) - orphans; n != 0 {
			t.Errorf("%s: %d orphan roots at stock, which cart has called", tt.name, n)
		}
		if n := c.cart.event(propagate.ClockSkew) - skewed; n == 1 != strings.Contains(tt.name, "two minutes") {
			t.Errorf("%s: counted %d times as skewed", tt.name, n)
		}
	}
}

// retimed is a header of the zone whose root's clock was wrong.
func (c *chain) retimed(t *testing.T, value string, by time.Duration) string {
	t.Helper()
	header, err := propagate.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	header.Time += int64(by / time.Second)
	keys, _, err := c.guidon.db.PropagationKeys(t.Context(), environment)
	if err != nil {
		t.Fatal(err)
	}
	value, err = propagate.Encode(header, propagate.Key{ID: keys[0].ID, Secret: propagate.Secret(keys[0].Secret)})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func second(t *testing.T, value string) string {
	t.Helper()
	header, err := propagate.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	if header.Time%2 == 0 {
		return "even"
	}
	return "odd"
}

// proxyTo is a reverse proxy, with Guidon if p is there.
func proxyTo(t *testing.T, to string, p *propagate.Propagator) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	handler := http.Handler(proxy)
	if p != nil {
		proxy.Transport = p.Transport(nil)
		handler = p.Middleware(proxy)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// A hop that drops the header breaks the promise for those below it. That cannot
// be mended there, but it is counted where it shows, and no request fails.
func TestHeaderStrippedByOneHop(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	c.web.net.Cut(false) // so that web pins what cart and stock have left behind
	c.redefine(t, "new", c.cart, c.stock)
	if shelves, _ := asked(t, c.web.url, nil); shelves["web"] != "old" || shelves["cart"] != "old" || shelves["stock"] != "old" {
		t.Errorf("whole: %v, want the pin's everywhere", shelves)
	}
	c.cart.out = stripping{c.cart.out}
	if shelves, _ := asked(t, c.web.url, nil); shelves["web"] != "old" || shelves["cart"] != "old" || shelves["stock"] != "new" {
		t.Errorf("with a hop that drops the header: %v, want stock at its own revision", shelves)
	}
	for l, want := range map[*link]uint64{c.cart: 0, c.stock: 1} {
		if got := l.event(propagate.OrphanRooted); got != want {
			t.Errorf("%s counts %d orphan roots, want %d", l.name, got, want)
		}
	}
}

// stripping is a hop's way out that knows nothing of Guidon.
type stripping struct{ http.RoundTripper }

func (s stripping) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Guidon")
	return s.RoundTripper.RoundTrip(r)
}

// Without the server everybody goes on with what he has. Who cannot tell what a
// flag was at the pin says so, and never serves another revision's value.
func TestServerDown(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	old := c.header(t)
	c.stock.net.Cut(true)
	c.redefine(t, "new", c.web, c.cart)
	if err := c.guidon.stop(); err != nil {
		t.Fatal(err)
	}
	shelves, _ := asked(t, c.web.url, nil)
	if shelves["web"] != "new" || shelves["cart"] != "new" || shelves["stock"] != lost {
		t.Errorf("a request from after the change: %v, want new, new and an explicit error at stock, which is behind", shelves)
	}
	if n := c.stock.client.Propagator().Stats().Flags[propagate.PinUnavailable][shelf]; n != 1 {
		t.Errorf("stock counts %d pins that it could not have, want 1", n)
	}
	// From before the change: cart has what it replaced, stock never left it.
	if shelves, _ := asked(t, c.cart.url, http.Header{"Guidon": {old}}); shelves["cart"] != "old" || shelves["stock"] != "old" {
		t.Errorf("a request from before the change: %v, want the pin's", shelves)
	}

	if err := c.guidon.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.stock.net.Mend()
	storetest.Eventually(t, "stock is back", func() bool {
		shelves, _ := asked(t, c.web.url, nil)
		return shelves["web"] == "new" && shelves["stock"] == "new"
	})
}

// A pin whose revision nobody keeps any more is an error, not the newest value.
func TestRevisionCollected(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	old := c.header(t)
	c.redefine(t, "new", c.web, c.cart)
	conn, err := pgx.Connect(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `UPDATE revisions SET created_at = created_at - interval '91 days'`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.guidon.db.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.guidon.stop(); err != nil { // it has what it served in memory
		t.Fatal(err)
	}
	if err := c.guidon.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := c.open(t, "stock", nil)
	c.cart.below = fresh
	shelves, _ := asked(t, c.cart.url, http.Header{"Guidon": {old}})
	if shelves["cart"] != "old" || shelves["stock"] != lost {
		t.Errorf("%v, want the pin's at cart, which has it, and an explicit error at stock, which started later", shelves)
	}
	if n := fresh.event(propagate.PinUnavailable); n == 0 {
		t.Error("stock does not count it")
	}
}

// While requests are under way the key is rotated, twice. Each request keeps
// together, whichever key signed it, and what an old key signed is followed still.
func TestKeyRotatedUnderWay(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	old := c.header(t)
	ctx, stop := context.WithCancel(t.Context())
	requests := 0
	var load errgroup.Group
	load.Go(func() error {
		for ; ctx.Err() == nil; requests++ {
			shelves, _, err := request(t.Context(), c.web.url, nil)
			if err != nil || !whole(shelves) {
				return fmt.Errorf("request %d: %v, %w", requests, shelves, err)
			}
		}
		return nil
	})
	signers := map[string]bool{signer(t, old): true}
	for _, is := range []string{"new", "old"} {
		c.define(t, is)
		if err := c.changes.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		storetest.Eventually(t, "web signs with the new key", func() bool { return !signers[signer(t, c.header(t))] })
		signers[signer(t, c.header(t))] = true
	}
	c.redefine(t, "new", c.web, c.cart, c.stock)
	stop()
	if err := load.Wait(); err != nil || requests == 0 {
		t.Errorf("of %d requests under way one was torn: %v", requests, err)
	}
	for _, l := range []*link{c.cart, c.stock} {
		stats := l.client.Propagator().Stats()
		if unknown, orphans := stats.Headers[propagate.UnknownKey], stats.Events[propagate.OrphanRooted]; unknown+orphans > 0 {
			t.Errorf("%s met %d keys that it did not have, and %d requests without a header", l.name, unknown, orphans)
		}
	}
	if shelves, _ := asked(t, c.cart.url, http.Header{"Guidon": {old}}); shelves["cart"] != "old" || shelves["stock"] != "old" {
		t.Errorf("signed by the first of three keys: %v, want the pin's", shelves)
	}
}

// A service that is cut off for longer than a new key is handed out cannot read
// what the others sign. It answers as one that never heard of the pin, which is
// counted, and passes the header on to those that can read it.
func TestKeyRotatedPastACut(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	old := signer(t, c.header(t))
	c.cart.net.Cut(false)
	if err := c.changes.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "web and stock have the new key", func() bool { return signer(t, c.header(t)) != old })
	c.redefine(t, "new", c.web, c.stock)
	if shelves, _ := asked(t, c.web.url, nil); shelves["web"] != "new" || shelves["cart"] != "old" || shelves["stock"] != "new" {
		t.Errorf("%v, want cart at its own revision and stock at the pin", shelves)
	}
	stats := c.cart.client.Propagator().Stats()
	if unknown, forwarded := stats.Headers[propagate.UnknownKey], stats.Events[propagate.Forwarded]; unknown != 1 || forwarded != 1 {
		t.Errorf("cart counts %d headers of an unknown key, of which it forwarded %d; want 1 and 1", unknown, forwarded)
	}
	if n := c.stock.event(propagate.OrphanRooted); n != 0 {
		t.Errorf("stock counts %d orphan roots, want 0", n)
	}
	c.cart.net.Mend()
	storetest.Eventually(t, "cart reads the new key", func() bool {
		shelves, _ := asked(t, c.web.url, nil)
		return shelves["cart"] == "new"
	})
}

func signer(t *testing.T, value string) string {
	t.Helper()
	header, err := propagate.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	return header.KeyID
}
