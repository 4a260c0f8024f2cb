package propagate_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/sdk/propagate"
)

// TestEveryHopAgrees is Property C: for any history of changes and any tree of
// calls, all evaluations of a flag that descend from one root, for its subject,
// give one variant and one value, or say that they cannot.
func TestEveryHopAgrees(t *testing.T) {
	t.Parallel()
	var total tally
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, propagate.Internal)
		m.request(t)
		for flag, answers := range m.answers {
			if len(answers) > 1 {
				t.Fatalf("torn: %s gave %v", flag, answers)
			}
		}
		total.add(m)
	})
	// The test proves nothing unless hops did answer, from other revisions than
	// their newest, and rarely had to give up.
	if total.answered < 500 || total.stale < 100 || total.killed < 20 || total.errors > total.answered/4 {
		t.Errorf("%d answers, %d of them not from the newest revision, %d of kills under way, %d errors: too few cases", total.answered, total.stale, total.killed, total.errors)
	}
}

// TestHopsDisagreeWithoutPropagation is the control: the same requests with
// propagation off are torn, so the agreement above is not the mesh's own doing.
func TestHopsDisagreeWithoutPropagation(t *testing.T) {
	t.Parallel()
	var total tally
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, propagate.Off)
		m.request(t)
		total.add(m)
	})
	if total.torn == 0 || total.answered < 500 {
		t.Errorf("%d of %d requests torn with %d answers, want some", total.torn, total.requests, total.answered)
	}
}

type tally struct{ requests, torn, answered, stale, killed, errors int }

func (n *tally) add(m *mesh) {
	n.requests++
	n.answered += m.answered
	n.stale += m.stale
	n.killed += m.killed
	n.errors += m.errors
	for _, answers := range m.answers {
		if len(answers) > 1 {
			n.torn++
			return
		}
	}
}

// mesh is a few services of one environment, each with a stream of its own
// pace, and what one request saw in them.
type mesh struct {
	world     *world
	instances []*instance
	services  []*propagate.Propagator

	// answers holds every variant and value given, by flag and, after a kill that
	// reached the request under way, by the revision of that.
	answers                         map[string]map[string]bool
	answered, stale, killed, errors int
}

var meshFlags = []string{"a", "b", "c", "d", "e"}

func newMesh(t *rapid.T, mode propagate.Mode) *mesh {
	m := &mesh{world: newWorld(t, settingsRow(t, shopTravel), segmentRow(t, "gold")), answers: map[string]map[string]bool{}}
	for _, key := range meshFlags {
		if rapid.IntRange(0, 4).Draw(t, "exists") > 0 {
			m.world.publish(t, anyFlag(t, key))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "crowded") == 0 {
		m.world.publish(t, crowd(t)...)
	}
	for range 4 {
		i := m.world.instance()
		m.instances = append(m.instances, i)
		m.services = append(m.services, newPropagator(t, i, func(c *propagate.Config) { c.Mode = mode }))
	}
	return m
}

// crowd takes nearly all the room for root decisions, between flags a and b.
func crowd(t rapid.TB) []eval.Row {
	rows := make([]eval.Row, 0, 23)
	for n := range cap(rows) {
		rows = append(rows, flagRow(t, fmt.Sprintf("a%02d", n), "off", equals("cart", "full"), ""))
	}
	return rows
}

func segmentRow(t rapid.TB, plan string) eval.Row {
	return eval.Row{Kind: eval.KindSegment, Name: "vip", From: 1, Document: canonical(t, fmt.Sprintf(`{"segment":{"==":[{"var":"plan"},%q]},"guidon":{"project":"default"}}`, plan))}
}

// anyFlag draws a flag of every kind that propagation treats differently. The
// value behind a variant changes too.
func anyFlag(t *rapid.T, key string) eval.Row {
	targeting := rapid.SampledFrom([]string{
		`{}`, equals("plan", "gold"), equals("country", "NZ"), equals("cart", "full"), equals("user.name", "x"),
		`{"if":[{"$ref":"vip"},"on","off"]}`, `{"fractional":[["on",50],["off",50]]}`, `{"if":[{"var":"age"},{"fractional":[{"var":"plan"},["on",1],["off",1]]}]}`,
		`{"if":[{"<":[{"var":"$flagd.timestamp"},1800000000]},"on","off"]}`, `{"var":"plan"}`, `{"cat":["o",{"var":"country"}]}`,
	}).Draw(t, "targeting")
	requires := ""
	if other := rapid.SampledFrom(meshFlags).Draw(t, "required"); other < key && rapid.Bool().Draw(t, "requires") {
		requires = fmt.Sprintf(`,"requires":[{"flag":%q,"variants":["on","gold"]}]`, other)
	}
	document := fmt.Sprintf(`{"flag":{"state":%q,"variants":{"on":%q,"off":"no","gold":"au"},"defaultVariant":%q,"targeting":%s},"guidon":{"project":"default","type":"string","attach":%v%s}}`,
		rapid.SampledFrom([]string{"ENABLED", "ENABLED", "ENABLED", "DISABLED"}).Draw(t, "state"),
		rapid.SampledFrom([]string{"yes", "yes!"}).Draw(t, "value"), rapid.SampledFrom([]string{"on", "off"}).Draw(t, "default"),
		targeting, rapid.Bool().Draw(t, "attach"), requires)
	return eval.Row{Kind: eval.KindFlag, Name: key, From: 1, Document: canonical(t, document)}
}

// anyContext draws what an application may know or claim about its subject.
func anyContext(t *rapid.T) map[string]any {
	c := map[string]any{}
	for _, a := range []struct {
		name   string
		values []any
	}{
		{"targetingKey", []any{nil, "u1", "u1", "u2"}},
		{"plan", []any{nil, "gold", "silver", 7}},
		{"country", []any{nil, "NZ", "ff", strings.Repeat("N", 1100)}},
		{"cart", []any{nil, "full"}},
		{"age", []any{nil, 0, 40.5, true}},
		{"user", []any{nil, map[string]any{"name": "x"}}},
	} {
		if v := rapid.SampledFrom(a.values).Draw(t, a.name); v != nil {
			c[a.name] = v
		}
	}
	return c
}

// request lets one request run through the mesh while the environment changes.
func (m *mesh) request(t *rapid.T) {
	at := rapid.IntRange(0, len(m.services)-1).Draw(t, "root")
	m.visit(m.services[at].Root(context.Background(), anyContext(t)), t, at, 0, map[string]int64{})
}

// visit lets one service handle the request. reached is the kill, by flag, that
// the way to here has met: no answer may go back behind it.
func (m *mesh) visit(ctx context.Context, t *rapid.T, at, depth int, reached map[string]int64) {
	for range rapid.IntRange(3, 9).Draw(t, "steps") {
		switch rapid.IntRange(0, 7).Draw(t, "step") {
		case 0, 1:
			m.change(t)
		case 2, 3:
			i := m.instances[rapid.IntRange(0, len(m.instances)-1).Draw(t, "instance")]
			i.held.Store(rapid.Int64Range(i.held.Load(), m.world.head()).Draw(t, "delivered"))
			i.cut.Store(rapid.IntRange(0, 15).Draw(t, "cut") == 0)
		case 4, 5:
			call := anyContext(t)
			for _, key := range rapid.Permutation(meshFlags).Draw(t, "flags") {
				m.evaluate(ctx, t, at, key, call, reached)
			}
		default:
			if depth < 2 {
				to := rapid.IntRange(0, len(m.services)-1).Draw(t, "to")
				below, met := hop(ctx, m.services[at], m.services[to]), maps.Clone(reached)
				m.visit(below, t, to, depth+1, met)
				if seen, ok := m.services[to].Seen(below); ok {
					m.services[at].Join(ctx, []string{seen})
					maps.Copy(reached, met)
				}
			}
		}
	}
}

func (m *mesh) change(t *rapid.T) {
	key := rapid.SampledFrom(meshFlags).Draw(t, "flag")
	switch rapid.IntRange(0, 10).Draw(t, "change") {
	case 8, 9:
		m.world.kill(t, key, rapid.SampledFrom([]string{"off", "stop"}).Draw(t, "kill"), fmt.Sprintf("%q", rapid.SampledFrom([]string{"no", "never"}).Draw(t, "killed")))
	case 10:
		if _, killed := m.world.at(m.world.head()).Row(eval.Name{Kind: eval.KindEmergency, Name: key}); killed {
			m.world.unkill(t, key)
		}
	case 0:
		m.world.change(t, nil, []eval.Name{{Kind: eval.KindFlag, Name: key}})
	case 1:
		m.world.publish(t, segmentRow(t, rapid.SampledFrom([]string{"gold", "silver"}).Draw(t, "segment")))
	case 2:
		m.world.publish(t, settingsRow(t, rapid.SampledFrom([]string{
			shopTravel, `[]`, `[{"attribute":"plan"}]`, `[{"attribute":"age","as":"years"},{"attribute":"cart"},{"attribute":"country"}]`,
		}).Draw(t, "settings")))
	default:
		m.world.publish(t, anyFlag(t, key))
	}
}

func (m *mesh) evaluate(ctx context.Context, t *rapid.T, at int, key string, call map[string]any, reached map[string]int64) {
	r := m.services[at].Evaluate(ctx, key, eval.String, call)
	known, killed := m.instances[at].Emergencies().After(key, r.Pinned)
	met := int64(0)
	if r.Origin == propagate.OriginEmergency {
		met = r.Revision
	}
	if r.Reason() != eval.ReasonError && r.Pinned != 0 {
		if killed && met < known.Revision {
			t.Fatalf("K3: %s is served as of %d where the kill of %d is known", key, met, known.Revision)
		}
		if met < reached[key] {
			t.Fatalf("K2: %s goes back from the kill of %d to that of %d", key, reached[key], met)
		}
		reached[key] = met
	}
	if s, ok := propagate.FromContext(ctx); ok {
		subject, claimed := call["targetingKey"].(string)
		if pin, sealed := s.Pin(); sealed && claimed && (!pin.HasSubject || subject != pin.Subject) {
			return // about somebody else
		}
	}
	if r.PinUnavailable {
		m.errors++
	}
	if r.Reason() == eval.ReasonError {
		return
	}
	m.answered++
	if r.Pinned != 0 && r.Pinned != m.instances[at].held.Load() {
		m.stale++
	}
	if r.Pinned != 0 && met != 0 {
		m.killed++
		key = fmt.Sprintf("%s killed at %d", key, met)
	}
	if m.answers[key] == nil {
		m.answers[key] = map[string]bool{}
	}
	m.answers[key][fmt.Sprintf("%s=%v", r.Variant(), r.Value())] = true
}
