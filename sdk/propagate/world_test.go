package propagate_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// world is an environment with its whole history: what the server would hold.
type world struct {
	mu      sync.RWMutex
	history []*eval.Snapshot // by revision; revision 0 is empty
}

func newWorld(t rapid.TB, rows ...eval.Row) *world {
	t.Helper()
	empty, err := eval.Compile(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{history: []*eval.Snapshot{empty}}
	if len(rows) > 0 {
		w.publish(t, rows...)
	}
	return w
}

// publish makes the next revision and returns its number.
func (w *world) publish(t rapid.TB, rows ...eval.Row) int64 {
	t.Helper()
	return w.change(t, rows, nil)
}

func (w *world) change(t rapid.TB, rows []eval.Row, deletes []eval.Name) int64 {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	revision := int64(len(w.history))
	for i := range rows {
		rows[i].From = revision
	}
	next, err := w.history[revision-1].With(revision, rows, deletes)
	if err != nil {
		t.Fatal(err)
	}
	w.history = append(w.history, next)
	return revision
}

func (w *world) head() int64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return int64(len(w.history)) - 1
}

func (w *world) at(revision int64) *eval.Snapshot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if revision < 0 || revision >= int64(len(w.history)) {
		return nil
	}
	return w.history[revision]
}

// instance is what one process holds of a world: a stream that may lag, and a
// way to ask the server, which may be cut.
type instance struct {
	world   *world
	held    atomic.Int64 // newest revision that arrived; -1 before the first
	cut     atomic.Bool
	fetches atomic.Int64
	oldest  atomic.Int64 // revisions before it are not kept any more
	asked   atomic.Int64 // newest revision up to which emergencies were fetched
}

func (w *world) instance() *instance {
	i := &instance{world: w}
	i.held.Store(w.head())
	return i
}

// catchUp lets everything published so far arrive.
func (i *instance) catchUp() { i.held.Store(i.world.head()) }

func (i *instance) Snapshot() *eval.Snapshot {
	if held := i.held.Load(); held >= 0 {
		return i.world.at(held)
	}
	return nil
}

// errCut is of what an instance cannot reach, or is no longer kept.
var errCut = errors.New("there is no way to know")

func (i *instance) FlagAt(_ context.Context, key string, revision int64) (*eval.Flag, error) {
	i.fetches.Add(1)
	snapshot := i.world.at(revision)
	if i.cut.Load() || snapshot == nil || revision < i.oldest.Load() {
		return nil, errCut
	}
	return snapshot.Flag(key), nil
}

func (i *instance) Nearest(ctx context.Context, key string, revision int64) (*eval.Flag, int64, error) {
	at := max(revision, i.oldest.Load())
	flag, err := i.FlagAt(ctx, key, at)
	return flag, at, err
}

// Emergencies is the log of the newest snapshot that arrived, or a newer one
// that was fetched.
func (i *instance) Emergencies() eval.Emergencies {
	if s := i.world.at(max(i.held.Load(), i.asked.Load())); s != nil {
		return s.Emergencies()
	}
	return eval.Emergencies{}
}

func (i *instance) EmergenciesAt(_ context.Context, revision int64) (eval.Emergencies, error) {
	i.fetches.Add(1)
	if i.cut.Load() || i.world.at(revision) == nil {
		return eval.Emergencies{}, errCut
	}
	i.asked.Store(max(i.asked.Load(), revision))
	return i.Emergencies(), nil
}

// clock stands still unless a test moves it.
var clock = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newPropagator(t rapid.TB, i *instance, change ...func(*propagate.Config)) *propagate.Propagator {
	t.Helper()
	c := propagate.Config{
		Snapshots:   i,
		Keys:        ring(t, testKey),
		Environment: func() string { return "production" },
		Mode:        propagate.Internal,
		Now:         func() time.Time { return clock },
	}
	for _, f := range change {
		f(&c)
	}
	p, err := propagate.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// hop carries the State of ctx into another service as a call would.
func hop(ctx context.Context, from, to *propagate.Propagator) context.Context {
	carrier := propagate.HTTPCarrier(make(http.Header))
	from.Inject(ctx, carrier)
	return to.Extract(context.Background(), carrier)
}

// header returns what a call under ctx would carry.
func header(ctx context.Context, t rapid.TB) propagate.Header {
	t.Helper()
	s, ok := propagate.FromContext(ctx)
	if !ok {
		t.Fatal("no State")
	}
	value, ok := s.Header()
	if !ok {
		t.Fatal("no header")
	}
	h, err := propagate.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func canonical(t rapid.TB, document string) []byte {
	t.Helper()
	doc, err := eval.Canonical([]byte(document))
	if err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	return doc
}

// flagRow is a boolean flag with variants on and off; targeting and attributes
// may be empty.
func flagRow(t rapid.TB, key, fallback, targeting, attributes string) eval.Row {
	t.Helper()
	if targeting == "" {
		targeting = "{}"
	}
	if attributes != "" {
		attributes = "," + attributes
	}
	return eval.Row{Kind: eval.KindFlag, Name: key, From: 1, Document: canonical(t, fmt.Sprintf(
		`{"flag":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":%q,"targeting":%s},"guidon":{"project":"default","type":"boolean"%s}}`,
		fallback, targeting, attributes))}
}

// settingsRow is the settings with an allow-list, as JSON.
func settingsRow(t rapid.TB, travel string) eval.Row {
	t.Helper()
	return eval.Row{Kind: eval.KindSettings, Name: eval.SettingsName, From: 1, Document: canonical(t, `{"travel":`+travel+`}`)}
}

// equals is a rule: on if the attribute has that text, else off.
func equals(attribute, text string) string {
	return fmt.Sprintf(`{"if":[{"==":[{"var":%q},%q]},"on","off"]}`, attribute, text)
}

const shopTravel = `[{"attribute":"country"},{"attribute":"plan","as":"p"}]`

// shop is a small environment: pricing depends on what travels, stock on what
// does not, banner is attached, tuning is local, split picks by targeting key.
func shop(t rapid.TB) *world {
	t.Helper()
	return newWorld(t,
		settingsRow(t, shopTravel),
		flagRow(t, "pricing", "off", equals("plan", "gold"), ""),
		flagRow(t, "stock", "off", equals("cart", "full"), ""),
		flagRow(t, "banner", "on", "", `"attach":true`),
		flagRow(t, "tuning", "off", equals("host", "a"), `"kind":"ops","scope":"local"`),
		flagRow(t, "split", "off", `{"fractional":[["on",50],["off",50]]}`, ""),
	)
}
