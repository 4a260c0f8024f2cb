package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// The model is what an installation should be after what people did, without a
// database: maps of rows, one for each revision. It says nothing of how the
// store does it. What is the same at every step (who may refer to whom, when a
// key is taken) it says once, of the state that a change set leaves.

// modelRow is a row of an environment.
type modelRow interface {
	document() string   // canonical
	needs() []eval.Name // what it refers to
}

type modelRows map[eval.Name]modelRow

// documents are the rows as Postgres has them.
func (r modelRows) documents() map[string]string {
	out := map[string]string{}
	for name, row := range r {
		out[name.String()] = row.document()
	}
	return out
}

func same(a, b modelRow) bool {
	return a == nil && b == nil || a != nil && b != nil && a.document() == b.document()
}

// differing are the names of rows in which two snapshots differ, sorted.
func differing(a, b modelRows) []eval.Name {
	all := maps.Clone(a)
	maps.Copy(all, b)
	out := slices.SortedFunc(maps.Keys(all), compareNames)
	return slices.DeleteFunc(out, func(n eval.Name) bool { return same(a[n], b[n]) })
}

func compareNames(a, b eval.Name) int { return strings.Compare(a.String(), b.String()) }

func named(kind eval.Kind, name string) eval.Name { return eval.Name{Kind: kind, Name: name} }

var settingsName = named(eval.KindSettings, eval.SettingsName)

// modelFlag is a boolean flag, on for a segment and where another flag is on; or
// a config flag with one value.
type modelFlag struct {
	config            bool
	size              int // of the config flag's value
	enabled, archived bool
	byDefault         string // a variant, or "" for the caller's default
	segment, required string
}

func (f modelFlag) document() string {
	var flag, guidon strings.Builder
	if f.byDefault != "" {
		fmt.Fprintf(&flag, `"defaultVariant":%q,`, f.byDefault)
	}
	state := "DISABLED"
	if f.enabled {
		state = "ENABLED"
	}
	fmt.Fprintf(&flag, `"state":%q,`, state)
	if f.segment != "" {
		fmt.Fprintf(&flag, `"targeting":{"if":[{"$ref":%q},"on"]},`, f.segment)
	}
	if f.archived {
		guidon.WriteString(`"archived":true,`)
	}
	if f.config {
		return fmt.Sprintf(`{"flag":{%s"variants":{"default":{"size":%d}}},"guidon":{%s"kind":"config","project":"default","scope":"request","type":"object"}}`,
			&flag, f.size, &guidon)
	}
	guidon.WriteString(`"kind":"release","project":"default",`)
	if f.required != "" {
		fmt.Fprintf(&guidon, `"requires":[{"flag":%q,"variants":["on"]}],`, f.required)
	}
	return fmt.Sprintf(`{"flag":{%s"variants":{"off":false,"on":true}},"guidon":{%s"scope":"request","type":"boolean"}}`, &flag, &guidon)
}

func (f modelFlag) needs() (out []eval.Name) {
	if f.segment != "" {
		out = append(out, named(eval.KindSegment, f.segment))
	}
	if f.required != "" {
		out = append(out, named(eval.KindFlag, f.required))
	}
	return out
}

// value is that of a variant, and whether there is one.
func (f modelFlag) value(variant string) (string, bool) {
	values := map[string]string{"on": "true", "off": "false"}
	if f.config {
		values = map[string]string{"default": fmt.Sprintf(`{"size":%d}`, f.size)}
	}
	value, ok := values[variant]
	return value, ok
}

// modelSegment is those of a plan, or those of another segment.
type modelSegment struct{ plan, other string }

func (s modelSegment) document() string {
	if s.other != "" {
		return fmt.Sprintf(`{"guidon":{"project":"default"},"segment":{"$ref":%q}}`, s.other)
	}
	return fmt.Sprintf(`{"guidon":{"project":"default"},"segment":{"==":[{"var":"plan"},%q]}}`, s.plan)
}

func (s modelSegment) needs() []eval.Name {
	if s.other != "" {
		return []eval.Name{named(eval.KindSegment, s.other)}
	}
	return nil
}

type modelSettings struct {
	travels    bool // the attribute plan
	fractional string
}

func (s modelSettings) document() string {
	travel := ""
	if s.travels {
		travel = `{"attribute":"plan"}`
	}
	return fmt.Sprintf(`{"fractional":%q,"travel":[%s]}`, s.fractional, travel)
}

func (modelSettings) needs() []eval.Name { return nil }

// modelKills is the log of a flag's emergencies.
type modelKills struct {
	active bool
	log    []modelKill
}

type modelKill struct {
	revision       int
	value, variant string
}

func (k modelKills) document() string {
	var log []string
	for _, e := range k.log {
		log = append(log, fmt.Sprintf(`{"revision":%d,"value":%s,"variant":%q}`, e.revision, e.value, e.variant))
	}
	return fmt.Sprintf(`{"active":%t,"log":[%s],"project":"default"}`, k.active, strings.Join(log, ","))
}

func (modelKills) needs() []eval.Name { return nil }

// last is the emergency that holds, if one does.
func (k modelKills) last() (modelKill, bool) {
	if !k.active {
		return modelKill{}, false
	}
	return k.log[len(k.log)-1], true
}

func (r modelRows) flag(key string) (modelFlag, bool) {
	f, ok := r[named(eval.KindFlag, key)].(modelFlag)
	return f, ok
}

func (r modelRows) kills(key string) modelKills {
	k, _ := r[named(eval.KindEmergency, key)].(modelKills)
	return k
}

func (r modelRows) settings() modelSettings {
	if s, ok := r[settingsName].(modelSettings); ok {
		return s
	}
	return modelSettings{fractional: "v2"}
}

// evaluate is the flag language as far as the model's flags speak it: the
// variant and the reason for somebody of a plan.
func (r modelRows) evaluate(key, plan string) (variant, reason string) {
	f, ok := r.flag(key)
	switch kill, killed := r.kills(key).last(); {
	case !ok:
		return "", "ERROR"
	case killed:
		return kill.variant, "STATIC"
	case !f.enabled:
		return "", "DISABLED"
	case f.required != "":
		if required, _ := r.evaluate(f.required, plan); required != "on" && f.byDefault != "off" {
			return "off", "TARGETING_MATCH"
		} else if required != "on" {
			return "off", "DEFAULT"
		}
	case f.segment == "" && f.byDefault != "":
		return f.byDefault, "STATIC"
	}
	if f.segment != "" && r.within(f.segment, plan) {
		return "on", "TARGETING_MATCH"
	}
	return f.byDefault, "DEFAULT"
}

func (r modelRows) within(segment, plan string) bool {
	s := r[named(eval.KindSegment, segment)].(modelSegment)
	if s.other != "" {
		return r.within(s.other, plan)
	}
	return s.plan == plan
}

// closure is what rows need, directly or through others, and they themselves.
func (r modelRows) closure(names ...eval.Name) map[eval.Name]bool {
	out := map[eval.Name]bool{}
	for open := names; len(open) > 0; open = open[1:] {
		if !out[open[0]] && r[open[0]] != nil {
			open = append(open, r[open[0]].needs()...)
		}
		out[open[0]] = true
	}
	return out
}

// circular tells whether a row needs itself.
func (r modelRows) circular(name eval.Name) bool {
	return r.closure(r[name].needs()...)[name]
}

// readsPlan tells whether a flag's targeting does, itself or through what it requires.
func (r modelRows) readsPlan(key string) bool {
	f, _ := r.flag(key)
	_, killed := r.kills(key).last()
	required, _ := r.flag(f.required)
	return !killed && (f.segment != "" || required.enabled && r.readsPlan(f.required))
}

// world is an installation.
type world struct {
	keys   map[string]modelKey
	places map[string]*place
	// done holds the change set of each idempotency key that has an answer.
	done map[string]store.Applied
	// entries of the installation's chain.
	entries int
}

// modelKey is what is known of a key in all environments.
type modelKey struct {
	config           bool
	lifecycle, owner string
	max              int // that the schema lets a size have; 0 for no schema
}

// place is an environment.
type place struct {
	protected, archived bool
	retention           int
	history             []modelRows // of revisions 1, 2, 3 …
	changes             []string    // the change set of each
	rows                modelRows   // as a change set in the making has them
}

func newWorld() *world {
	w := &world{keys: map[string]modelKey{}, places: map[string]*place{}, done: map[string]store.Applied{}}
	for _, name := range places {
		w.places[name] = &place{protected: name == "production", retention: 90, history: []modelRows{{}}, changes: []string{""}}
	}
	return w
}

var places = []string{"development", "staging", "production"}

func (p *place) newest() modelRows { return p.history[len(p.history)-1] }

// begin is a copy to make a change set in.
func (w *world) begin() *world {
	next := &world{keys: maps.Clone(w.keys), places: map[string]*place{}, done: maps.Clone(w.done), entries: w.entries}
	for name, p := range w.places {
		copied := *p
		copied.history, copied.changes, copied.rows = slices.Clip(p.history), slices.Clip(p.changes), maps.Clone(p.newest())
		next.places[name] = &copied
	}
	return next
}

// having are the environments that have a flag, sorted.
func (w *world) having(key string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(w.places)) {
		if _, ok := w.places[name].rows.flag(key); ok {
			out = append(out, name)
		}
	}
	return out
}

// check is what is wrong with what a change set made of was.
func (w *world) check(was *world) (refused []error) {
	for name, p := range w.places {
		before := was.places[name].newest()
		for row := range p.rows {
			f, _ := p.rows.flag(row.Name)
			limit := w.keys[row.Name].max
			fresh := limit != was.keys[row.Name].max || !same(p.rows[row], before[row])
			if row.Kind == eval.KindFlag && limit != 0 && f.size > limit && fresh {
				refused = append(refused, eval.ErrInvalid)
			}
		}
		refused = append(refused, p.rows.check(before)...)
	}
	return refused
}

// check is what is wrong with the rows that an environment is to have.
func (r modelRows) check(was modelRows) (refused []error) {
	changed := differing(was, r)
	for _, name := range changed {
		row := r[name]
		f, _ := row.(modelFlag)
		before, _ := was[name].(modelFlag)
		gone, retired := row == nil, f.archived && !before.archived
		for _, user := range r {
			other, _ := user.(modelFlag)
			if (gone || retired && !other.archived) && slices.Contains(user.needs(), name) {
				refused = append(refused, store.ErrInUse)
			}
		}
	}
	for name, row := range r {
		f, isFlag := row.(modelFlag)
		if isFlag && f.archived || len(refused) > 0 {
			continue // nobody evaluates it; or it would say the same again
		}
		if r.circular(name) {
			refused = append(refused, eval.ErrInvalid)
		}
		for needed := range r.closure(row.needs()...) {
			if required, _ := r[needed].(modelFlag); r[needed] == nil || required.archived {
				refused = append(refused, eval.ErrInvalid)
			}
		}
	}
	for _, name := range changed {
		k, _ := r[name].(modelKills)
		if _, killed := k.last(); !killed {
			continue
		}
		for user, row := range r {
			f, _ := row.(modelFlag)
			_, dead := r.kills(user.Name).last()
			if user.Kind == eval.KindFlag && !f.archived && !dead && r.closure(row.needs()...)[named(eval.KindFlag, name.Name)] {
				refused = append(refused, eval.ErrInvalid)
			}
		}
	}
	return refused
}

// publish ends a change set: what differs is a revision.
func (w *world) publish(was *world) (changed bool) {
	described := false
	for key, k := range w.keys {
		before := was.keys[key]
		described = described || k.owner != before.owner || k.max != before.max
		changed = changed || k != before
	}
	if described {
		w.entries++
	}
	for _, p := range w.places {
		if len(differing(p.newest(), p.rows)) > 0 {
			p.history, changed = append(p.history, p.rows), true
		}
		p.rows = nil
	}
	return changed
}
