package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
)

// edit is an operation of a change set. Numbers choose among what there is.
type edit struct {
	Do                  string
	Env, Key            int
	Segment, Other, Num int
	On                  bool
}

var (
	modelKeys     = []string{"a", "b", "c", "pool"} // pool is a config flag
	modelSegments = []string{"s", "t"}
)

func pick(of []string, i int) string { return of[i%len(of)] }

func (e edit) env() string     { return pick(places, e.Env) }
func (e edit) key() string     { return pick(modelKeys, e.Key) }
func (e edit) segment() string { return pick(modelSegments, e.Segment) }

// flag is what a put writes.
func (e edit) flag() modelFlag {
	if e.key() == "pool" {
		return modelFlag{config: true, size: 1 + e.Num, enabled: true, byDefault: "default"}
	}
	return modelFlag{
		enabled: e.On, byDefault: pick([]string{"off", "on", ""}, e.Num),
		segment: pick(append([]string{"", ""}, modelSegments...), e.Segment), required: pick([]string{"", "", "a", "b", "c"}, e.Other),
	}
}

// condition is that of the segment that a put writes.
func (e edit) condition() modelSegment {
	return modelSegment{plan: pick([]string{"pro", "free"}, e.Num), other: pick(append([]string{"", "", ""}, modelSegments...), e.Other)}
}

// variant is what a flag is to serve. The config flag has its own.
func (e edit) variant() string {
	if e.key() == "pool" {
		return pick([]string{"default", "on"}, e.Num/4) // seldom one that there is not
	}
	return pick([]string{"off", "on"}, e.Num)
}

// operation is the edit as the store takes it.
func (e edit) operation() store.Operation {
	env, key := e.env(), e.key()
	switch e.Do {
	case "put":
		f := e.flag()
		op := put(env, key, member(f, "flag"))
		if f.config {
			op.Kind = "config"
			return op
		}
		op.Requires = &[]store.Requirement{}
		if f.required != "" {
			op.Requires = &[]store.Requirement{{Flag: f.required, Variants: []string{"on"}}}
		}
		return op
	case "state":
		state := "DISABLED"
		if e.On {
			state = "ENABLED"
		}
		return store.SetState{Environment: env, Key: key, State: state}
	case "default":
		return store.SetDefaultVariant{Environment: env, Key: key, Variant: e.variant()}
	case "archive":
		return store.ArchiveFlag{Key: key}
	case "unarchive":
		return store.RestoreFlag{Key: key}
	case "delete":
		return store.DeleteFlag{Key: key}
	case "remove":
		return store.RemoveFlag{Environment: env, Key: key}
	case "describe":
		owner := fmt.Sprintf("team %d", e.Num)
		return store.DescribeFlag{Key: key, Owner: &owner}
	case "schema":
		if e.Num == 0 {
			return store.SetSchema{Key: key}
		}
		return store.SetSchema{Key: key, Schema: fmt.Appendf(nil, " "+modelSchema, e.Num)}
	case "segment":
		return store.PutSegment{Environment: env, Name: e.segment(), Condition: []byte(member(e.condition(), "segment"))}
	case "drop segment":
		return store.DeleteSegment{Environment: env, Name: e.segment()}
	case "settings":
		s := e.settings()
		out := eval.Settings{Fractional: s.fractional}
		if s.travels {
			out.Travel = []eval.Travel{{Attribute: "plan"}}
		}
		return store.PutSettings{Environment: env, Settings: out}
	case "kill":
		return store.KillFlag{Environment: env, Key: key, Variant: e.variant()}
	}
	return store.UnkillFlag{Environment: env, Key: key}
}

// member is a member of a row's document, in another form that is the same JSON.
func member(row modelRow, name string) string {
	var document map[string]any
	if err := json.Unmarshal([]byte(row.document()), &document); err != nil {
		panic(err) // the model writes JSON
	}
	return scrambled(document[name])
}

// scrambled is JSON as nobody would write it: what is stored is canonical all the same.
func scrambled(v any) string {
	var b strings.Builder
	switch v := v.(type) {
	case map[string]any:
		b.WriteString("{")
		for i, name := range slices.Backward(slices.Sorted(maps.Keys(v))) {
			fmt.Fprintf(&b, "\n\t%q : %s", name, scrambled(v[name]))
			if i > 0 {
				b.WriteString(",")
			}
		}
		b.WriteString(" }")
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, scrambled(item))
		}
		return "[ " + strings.Join(items, " , ") + " ]"
	case float64:
		fmt.Fprintf(&b, "%.1fe0", v)
	case string:
		for _, r := range v {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		return `"` + b.String() + `"`
	default:
		fmt.Fprint(&b, v)
	}
	return b.String()
}

const modelSchema = `{"properties":{"size":{"maximum":%d}}}`

func (e edit) settings() modelSettings {
	return modelSettings{travels: e.On, fractional: pick([]string{"v2", "v2", "v3"}, e.Num)}
}

// everywhere tells whether the edit is of a key in all environments.
func (e edit) everywhere() bool {
	return slices.Contains([]string{"archive", "unarchive", "delete", "describe", "schema"}, e.Do)
}

// edit carries an edit out, and says which environments it looked at.
func (w *world) edit(e edit) (touched []string, refused error) {
	key := e.key()
	known, ok := w.keys[key]
	switch {
	case e.Do == "describe" || e.Do == "schema":
		switch {
		case !ok || known.lifecycle == "deleted":
			return nil, store.ErrNotFound
		case e.Do == "describe":
			known.owner = fmt.Sprintf("team %d", e.Num)
		case e.Num != 0 && !known.config:
			return nil, eval.ErrInvalid
		default:
			known.max = e.Num
		}
		w.keys[key] = known
		return nil, nil
	case e.everywhere():
		if touched = w.having(key); len(touched) == 0 {
			return nil, store.ErrNotFound
		}
		return touched, w.retire(e.Do, key, touched)
	case w.places[e.env()].archived:
		return nil, store.ErrArchivedEnvironment
	}
	return []string{e.env()}, w.editRow(e, w.places[e.env()])
}

func (w *world) retire(do, key string, having []string) error {
	known := w.keys[key]
	if do == "delete" && known.lifecycle == "active" {
		return store.ErrNotArchived
	}
	for _, env := range having {
		rows := w.places[env].rows
		f, _ := rows.flag(key)
		switch do {
		case "archive":
			f.archived, f.enabled = true, false
		case "unarchive":
			f.archived = false
		case "delete":
			delete(rows, named(eval.KindFlag, key))
			continue
		}
		rows[named(eval.KindFlag, key)] = f
	}
	known.lifecycle = map[string]string{"archive": "archived", "unarchive": "active", "delete": "deleted"}[do]
	w.keys[key] = known
	return nil
}

func (w *world) editRow(e edit, p *place) error {
	key, rows := e.key(), p.rows
	known := w.keys[key]
	f, there := rows.flag(key)
	switch e.Do {
	case "put":
		switch known.lifecycle {
		case "archived":
			return store.ErrArchived
		case "deleted":
			return store.ErrExists
		}
		known.lifecycle, known.config = "active", e.flag().config
		w.keys[key], f = known, e.flag()
	case "segment":
		rows[named(eval.KindSegment, e.segment())] = e.condition()
		return nil
	case "drop segment":
		if rows[named(eval.KindSegment, e.segment())] == nil {
			return store.ErrNotFound
		}
		delete(rows, named(eval.KindSegment, e.segment()))
		return nil
	case "settings":
		if s := e.settings(); rows[settingsName] != nil || s != (modelSettings{fractional: "v2"}) {
			rows[settingsName] = s
		}
		return nil
	default:
		if !there {
			return store.ErrNotFound
		}
	}
	switch e.Do {
	case "remove":
		if f.archived || known.lifecycle == "archived" {
			return store.ErrArchived
		}
		delete(rows, named(eval.KindFlag, key))
		return nil
	case "state", "default":
		_, has := f.value(e.variant())
		switch {
		case f.archived || known.lifecycle == "archived":
			return store.ErrArchived
		case e.Do == "state":
			f.enabled = e.On
		case !has:
			return eval.ErrInvalid
		default:
			f.byDefault = e.variant()
		}
	case "kill", "unkill":
		return p.kill(e, f)
	}
	rows[named(eval.KindFlag, key)] = f
	return nil
}

func (p *place) kill(e edit, f modelFlag) error {
	k := p.rows.kills(e.key())
	last, killed := k.last()
	value, has := f.value(e.variant())
	revision := len(p.history) + 1
	switch {
	case e.Do == "unkill":
		k.active = false
	case !has:
		return eval.ErrInvalid
	case killed && last.variant == e.variant() && last.value == value:
	default: // a revision holds one emergency of a flag
		k.log = slices.DeleteFunc(slices.Clone(k.log), func(e modelKill) bool { return e.revision == revision })
		k.log, k.active = append(k.log, modelKill{revision, value, e.variant()}), true
	}
	if k.log != nil {
		p.rows[named(eval.KindEmergency, e.key())] = k
	}
	return nil
}

// act is one thing that people do.
type act struct {
	Do       string
	Edits    []edit
	Env, To  int
	Num      int // chooses a revision, a row, a number of days
	Expect   string
	NoReason bool
	Dry      bool
	Crash    crash
}

func (a act) from() string { return pick(places, a.Env) }
func (a act) to() string   { return pick(places, a.To) }

// expect are the revisions that the actor saw.
func (a act) expect(w *world) map[string]int64 {
	newest := int64(len(w.places[a.from()].history))
	switch {
	case a.Expect == "newest":
		return map[string]int64{a.from(): newest}
	case a.Expect == "stale" && newest > 1:
		return map[string]int64{a.from(): max(1, newest-1-int64(a.Num)%3)}
	}
	return nil
}

// revision is one that there is.
func (a act) revision(w *world) int { return 1 + a.Num%len(w.places[a.from()].history) }

// promoted is the row that a promotion names.
func (a act) promoted() eval.Name {
	all := []eval.Name{settingsName}
	for _, key := range modelKeys {
		all = append(all, named(eval.KindFlag, key))
	}
	for _, name := range modelSegments {
		all = append(all, named(eval.KindSegment, name))
	}
	return all[a.Num%len(all)]
}

// call makes the change of an act as the store takes it.
func (a act) call(w *world, key string) func(context.Context, *store.DB, bool) (store.Applied, error) {
	reason := a.Do
	if a.NoReason {
		reason = ""
	}
	revision, expect := int64(a.revision(w)), a.expect(w)
	return func(ctx context.Context, db *store.DB, dry bool) (store.Applied, error) {
		c := store.Change{Actor: "ada", Reason: reason, IdempotencyKey: key, Expect: expect, DryRun: dry}
		switch a.Do {
		case "revert":
			return db.Revert(ctx, c, a.from(), revision)
		case "restore":
			return db.Restore(ctx, c, a.from(), revision)
		case "promote":
			return db.Promote(ctx, c, a.from(), a.to(), []eval.Name{a.promoted()})
		case "copy":
			return db.Copy(ctx, c, a.from(), a.to())
		}
		cs := store.ChangeSet{Actor: c.Actor, Reason: c.Reason, IdempotencyKey: key, Expect: expect, DryRun: dry}
		for _, e := range a.Edits {
			cs.Operations = append(cs.Operations, e.operation())
		}
		return db.Apply(ctx, cs)
	}
}

// forecast is what should come of an act.
type forecast struct {
	next      *world
	refused   []error     // each of them, and no other
	changed   []eval.Name // of a conflict: what is in the way
	revisions map[string]int64
	unchanged bool
}

// perform says what should come of an act.
func (w *world) perform(a act) forecast {
	f := forecast{next: w.begin(), revisions: map[string]int64{}}
	rows, refused := w.derive(a) // of one environment, by name
	switch {
	case refused != nil:
		f.refused = []error{refused}
	case w.conflict(a, &f):
	default:
		f.next.carryOut(w, a, rows, &f)
	}
	if len(f.refused) > 0 {
		return f
	}
	f.unchanged = !f.next.publish(w)
	for name := range f.revisions {
		f.revisions[name] = int64(len(f.next.places[name].history))
	}
	return f
}

// conflict compares what the actor saw with what there is.
func (w *world) conflict(a act, f *forecast) bool {
	expect := a.expect(w)
	for _, name := range slices.Sorted(maps.Keys(expect)) {
		history := w.places[name].history
		if int(expect[name]) == len(history) {
			continue
		}
		f.refused = []error{store.ErrConflict}
		for i := int(expect[name]); i < len(history); i++ {
			f.changed = append(f.changed, differing(history[i-1], history[i])...)
		}
		slices.SortFunc(f.changed, compareNames)
		f.changed = slices.Compact(f.changed)
		return true
	}
	return false
}

// target is one row that a derived change puts, or takes away.
type target struct {
	name     eval.Name
	was, row modelRow
}

// derive is what a revert, a restore, a promotion or a copy writes.
func (w *world) derive(a act) (out []target, refused error) {
	here, there := w.places[a.from()], w.places[a.to()]
	into := here.newest()
	change := func(from, to modelRows, wanted func(eval.Name) bool) {
		for _, name := range differing(from, to) {
			if name.Kind != eval.KindEmergency && (wanted == nil || wanted(name)) {
				out = append(out, target{name, from[name], to[name]})
			}
		}
	}
	switch revision := a.revision(w); a.Do {
	case "revert":
		if revision > 1 {
			change(here.history[revision-1], here.history[revision-2], nil)
		}
		if len(out) == 0 {
			return nil, eval.ErrInvalid
		}
	case "restore":
		change(into, here.history[revision-1], nil)
	case "promote":
		name := a.promoted()
		if here == there {
			return nil, eval.ErrInvalid
		} else if into[name] == nil && name != settingsName {
			return nil, store.ErrNotFound
		} else if f, _ := into[name].(modelFlag); f.archived {
			return nil, store.ErrArchived
		}
		wanted := into.closure(name)
		change(there.newest(), into, func(n eval.Name) bool { return wanted[n] })
	case "copy":
		if here == there || len(there.history) > 1 {
			return nil, eval.ErrInvalid
		}
		change(there.newest(), into, func(n eval.Name) bool {
			f, _ := into[n].(modelFlag)
			return into[n] != nil && !f.archived
		})
	}
	return out, nil
}

// into is the environment that a derived change writes.
func (a act) into() string {
	if a.Do == "promote" || a.Do == "copy" {
		return a.to()
	}
	return a.from()
}

func (w *world) carryOut(was *world, a act, targets []target, f *forecast) {
	if a.NoReason && w.asksReason(a, targets) {
		f.refused = []error{eval.ErrInvalid}
		return
	}
	for _, e := range a.Edits {
		touched, refused := w.edit(e)
		for _, env := range touched {
			f.revisions[env] = 0
		}
		if refused != nil {
			f.refused = append(f.refused, refused)
		}
	}
	p := w.places[a.into()]
	for _, t := range targets {
		f.revisions[a.into()] = 0
		now := p.rows[t.name]
		switch {
		case p.archived:
			f.refused = append(f.refused, store.ErrArchivedEnvironment)
		case same(now, t.row):
		case !same(now, t.was):
			f.changed = append(f.changed, t.name)
		default:
			w.putBack(p, t)
		}
	}
	if len(f.changed) > 0 {
		f.refused = []error{store.ErrConflict}
	}
	if len(f.refused) == 0 {
		f.refused = w.check(was)
	}
}

func (w *world) putBack(p *place, t target) {
	delete(p.rows, t.name)
	if t.row == nil {
		return
	}
	p.rows[t.name] = t.row
	if flag, ok := t.row.(modelFlag); ok {
		known := w.keys[t.name.Name]
		if !flag.archived {
			known.lifecycle = "active"
		} else if known.lifecycle == "deleted" {
			known.lifecycle = "archived"
		}
		w.keys[t.name.Name] = known
	}
}

// asksReason tells whether an act is for a protected environment.
func (w *world) asksReason(a act, targets []target) bool {
	var reached []string
	for _, e := range a.Edits {
		if e.everywhere() {
			reached = append(reached, w.having(e.key())...)
		} else {
			reached = append(reached, e.env())
		}
	}
	if len(targets) > 0 {
		reached = append(reached, a.into())
	}
	return slices.ContainsFunc(reached, func(env string) bool { return w.places[env].protected })
}

// update is an act on an environment itself.
func (a act) update() store.EnvironmentUpdate {
	u := store.EnvironmentUpdate{Name: a.from(), Actor: "ada", Reason: a.Do}
	if a.NoReason {
		u.Reason = ""
	}
	switch on := a.Num/3%4 == 3; a.Num % 3 {
	case 0:
		u.Protected = &on
	case 1:
		days := []int{29, 30, 90, 3650}[a.Num/3%4]
		u.Retention = &days
	default:
		u.Archived = &on
	}
	return u
}

func (w *world) update(u store.EnvironmentUpdate) (changed bool, refused error) {
	p := w.places[u.Name]
	if u.Retention != nil && *u.Retention < 30 || p.protected && u.Reason == "" {
		return false, eval.ErrInvalid
	}
	before := *p
	if u.Protected != nil {
		p.protected = *u.Protected
	}
	if u.Retention != nil {
		p.retention = *u.Retention
	}
	if u.Archived != nil {
		p.archived = *u.Archived
	}
	if before.protected == p.protected && before.retention == p.retention && before.archived == p.archived {
		return false, nil
	}
	w.entries++
	return true, nil
}

var modelEdits = rapid.Custom(func(t *rapid.T) edit {
	return edit{
		Do: rapid.SampledFrom([]string{
			"put", "put", "put", "put", "state", "default", "archive", "unarchive", "delete", "remove", "describe", "schema",
			"segment", "segment", "drop segment", "settings", "kill", "unkill",
		}).Draw(t, "do"),
		Env: rapid.IntRange(0, 2).Draw(t, "env"), Key: rapid.IntRange(0, 3).Draw(t, "key"),
		Segment: rapid.IntRange(0, 3).Draw(t, "segment"), Other: rapid.IntRange(0, 4).Draw(t, "other"),
		Num: rapid.IntRange(0, 4).Draw(t, "num"), On: rapid.Bool().Draw(t, "on"),
	}
})

// settled is the act that every history begins with, so that there is something
// to do for the others.
func settled() act {
	a := act{Do: "change"}
	for env := range places[:2] {
		a.Edits = append(a.Edits, edit{Do: "segment", Env: env, Segment: 0}, edit{Do: "segment", Env: env, Segment: 1, Other: 3})
		for key := range modelKeys {
			a.Edits = append(a.Edits, edit{Do: "put", Env: env, Key: key, On: true, Segment: key, Other: 2 * (key % 2)})
		}
	}
	return a
}

var modelActs = rapid.Custom(func(t *rapid.T) act {
	a := act{
		Do: rapid.SampledFrom([]string{
			"change", "change", "change", "change", "change", "change", "revert", "revert", "restore", "promote", "promote", "copy", "environment", "again",
		}).Draw(t, "do"),
		Env: rapid.IntRange(0, 2).Draw(t, "env"), To: rapid.IntRange(0, 2).Draw(t, "to"), Num: rapid.IntRange(0, 60).Draw(t, "num"),
		Expect:   rapid.SampledFrom([]string{"", "", "newest", "stale"}).Draw(t, "expect"),
		NoReason: rapid.IntRange(0, 9).Draw(t, "reason") == 0, Dry: rapid.IntRange(0, 4).Draw(t, "dry") == 0,
		Crash: crashes.Draw(t, "crash"),
	}
	if a.Do == "change" {
		a.Edits = rapid.SliceOfN(modelEdits, 1, 4).Draw(t, "edits")
	}
	return a
})
