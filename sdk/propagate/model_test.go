package propagate_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The model is the rules of propagation without the code: four processes that
// lag behind a server and restart, requests that branch and join, changes, kills,
// lost revisions. It holds the promises after every evaluation:
//
//   - C: all evaluations of a flag under one root give one value, or an error;
//   - K1, K2: but for kills, and then the value goes forward only, along every
//     edge, to what the kill says;
//   - K3: who knows of a kill never serves an older value;
//   - N: the value of another revision than the pin's is served only where the
//     flag asks for that and the pin was collected. C does not hold then.
//
// Each mutant loosens one rule. That the promises break then, for every one of
// them, is what says that the model would notice.
type mutant string

const (
	noMutant           mutant = "none"
	newestNotPin       mutant = "newest local revision instead of the pin"
	noMaxOnKnown       mutant = "k is not raised to what is known locally"
	unkillEnds         mutant = "an un-kill ends the emergency for pinned requests"
	localKillsIgnored  mutant = "emergencies that only this process knows are ignored"
	callAttributes     mutant = "attributes of the call are used"
	clockNotPinned     mutant = "now is not the root's clock"
	expiryByAge        mutant = "a header expires by age"
	firstMetDecides    mutant = "whoever meets a flag first below the root decides it"
	enrichSealed       mutant = "a sealed State is enriched"
	logWithGaps        mutant = "the emergency log is not prefix-closed"
	allowListNewest    mutant = "the allow-list is not versioned"
	revisionsReused    mutant = "revisions are used again after a restore"
	recoverKeepsAges   mutant = "after a restore flags claim to be as old as before"
	missingMarksAreNo  mutant = "marks that were left out count as none"
	valueOfDefinition  mutant = "the value of a kill comes from the definition at the pin"
	lostKillsForgotten mutant = "a kill that the log has lost is forgotten"
	joinsIgnored       mutant = "what answers tell is not joined"
	nearestUnasked     mutant = "a pin that is not kept is replaced unasked"
	nearestForLost     mutant = "a lost revision is replaced"
	nearestRepins      mutant = "kills up to the revision that replaces the pin do not count"
)

var mutants = []mutant{
	newestNotPin, noMaxOnKnown, unkillEnds, localKillsIgnored, callAttributes, clockNotPinned, expiryByAge, firstMetDecides, enrichSealed,
	logWithGaps, allowListNewest, revisionsReused, recoverKeepsAges, missingMarksAreNo, valueOfDefinition, lostKillsForgotten, joinsIgnored,
	nearestUnasked, nearestForLost, nearestRepins,
}

const (
	modelFlags     = 3
	modelInstances = 4
	modelMarks     = 1    // the most that a header names
	modelEpoch     = 1000 // what revisions go on from after a restore
)

type (
	attributes map[string]string

	modelFlag struct {
		version int    // of the values behind the variants
		reads   string // an attribute, "clock" or nothing
		from    int    // effectiveFrom
		nearest bool   // asks for the oldest revision kept where the pin is not
	}

	modelKill struct{ flag, revision, value int }

	modelSnapshot struct {
		revision int
		flags    [modelFlags]modelFlag
		travel   attributes // wire names by attribute
		active   [modelFlags]bool
		log      []modelKill
	}

	// modelInstance is a process: its newest snapshot, and the log it has, which
	// may have been fetched ahead.
	modelInstance struct {
		snapshot *modelSnapshot
		log      []modelKill
		logTo    int
	}

	// modelRoot is what the world knows of a request, to judge its answers.
	modelRoot struct {
		answers [modelFlags]map[int]string // by the kill that gave them, 0 for the pin
	}

	modelState struct {
		root        *modelRoot
		at          int
		open        bool
		full        attributes
		revision    int
		clock       int
		attributes  attributes // by wire name
		decisions   [modelFlags]string
		known, sent int         // k now, and when it arrived
		marks       map[int]int // revision by flag; nil: left out, or none
		reached     [modelFlags]int
		parent      *modelState
	}

	model struct {
		mutant    mutant
		bytes     []byte
		clock     int
		head      *modelSnapshot
		history   map[int]*modelSnapshot // nil for those that were lost or collected
		collected map[int]bool
		kills     map[modelKill]bool // all there ever were
		instances [modelInstances]*modelInstance
		states    []*modelState
		broken    string

		answers, errors, afterKill, pinned, replaced int
	}
)

func newModel(m mutant, history []byte) *model {
	first := &modelSnapshot{revision: 1, travel: attributes{"plan": "p", "tier": "q"}}
	for i := range first.flags {
		first.flags[i] = modelFlag{version: 1, reads: []string{"plan", "cart", "clock"}[i], from: 1}
	}
	w := &model{mutant: m, bytes: history, head: first, history: map[int]*modelSnapshot{1: first}, collected: map[int]bool{}, kills: map[modelKill]bool{}}
	for i := range w.instances {
		w.instances[i] = &modelInstance{snapshot: first, logTo: 1}
	}
	return w
}

func (w *model) pick(n int) int {
	if len(w.bytes) == 0 {
		return 0
	}
	b := w.bytes[0]
	w.bytes = w.bytes[1:]
	return int(b) % n
}

// run plays the history to its end or to the first broken promise.
func (w *model) run() string {
	for len(w.bytes) > 0 && w.broken == "" {
		switch w.pick(16) {
		case 0, 1:
			w.publish()
		case 2:
			w.emergency()
		case 3:
			w.unkill()
		case 4, 5:
			w.deliver()
		case 6:
			w.rooted()
		case 7, 8:
			w.call()
		case 9:
			w.answer()
		case 10:
			w.others()
		default:
			w.evaluate()
		}
	}
	return w.broken
}

// others are the rare steps: time passes, a process restarts, revisions are
// collected or lost, an application enriches.
func (w *model) others() {
	switch w.pick(5) {
	case 0:
		w.clock++
	case 1: // what was fetched ahead is gone; the last known good remains
		i := w.instances[w.pick(modelInstances)]
		i.logTo = i.snapshot.revision
		i.log = w.logOf(i.snapshot, i)
	case 2:
		if r := w.pick(w.head.revision%modelEpoch + 1); w.history[r] != nil && r != w.head.revision {
			delete(w.history, r)
			w.collected[r] = true
		}
	case 3:
		w.restore()
	case 4:
		if s := w.state(); s != nil && s.open {
			s.full["plan"] = w.value()
		} else if s != nil && w.mutant == enrichSealed {
			s.attributes = maps.Clone(s.attributes)
			s.attributes["p"] = w.value()
		}
	}
}

func (w *model) value() string { return []string{"gold", "silver", "tin"}[w.pick(3)] }

func (w *model) state() *modelState {
	if len(w.states) == 0 {
		return nil
	}
	return w.states[len(w.states)-1-w.pick(min(len(w.states), 6))]
}

// next is a draft of the following revision.
func (w *model) next() *modelSnapshot {
	n := *w.head
	n.revision++
	n.log = slices.Clone(n.log)
	return &n
}

func (w *model) commit(n *modelSnapshot) { w.head, w.history[n.revision] = n, n }

func (w *model) publish() {
	n := w.next()
	if w.pick(4) == 0 {
		n.travel = []attributes{{"plan": "p", "tier": "q"}, {"plan": "q", "tier": "p"}, {"plan": "p"}, {}}[w.pick(4)]
		for i := range n.flags {
			n.flags[i].from = n.revision
		}
	} else {
		n.flags[w.pick(modelFlags)] = modelFlag{n.revision, []string{"plan", "tier", "cart", "clock", ""}[w.pick(5)], n.revision, w.pick(2) == 0}
	}
	w.commit(n)
}

func (w *model) emergency() {
	n := w.next()
	k := modelKill{w.pick(modelFlags), n.revision, n.revision + 5000}
	n.log = append(n.log, k)
	n.active[k.flag], n.flags[k.flag].from = true, n.revision
	w.kills[k] = true
	w.commit(n)
}

func (w *model) unkill() {
	n := w.next()
	flag := w.pick(modelFlags)
	n.active[flag], n.flags[flag].from = false, n.revision
	w.commit(n)
}

// restore sets the server back a few revisions, which are lost.
func (w *model) restore() {
	lost := w.pick(4)
	was := w.head
	base := was
	for range lost {
		if before := w.history[base.revision-1]; before != nil && before.revision > 0 {
			base = before
		}
	}
	if base == was {
		return
	}
	for r := range w.history {
		if r > base.revision {
			delete(w.history, r)
		}
	}
	n := *base
	n.log = slices.Clone(base.log)
	n.revision = (was.revision/modelEpoch + 1) * modelEpoch
	if w.mutant == revisionsReused {
		n.revision = base.revision + 1
		n.flags[0] = modelFlag{n.revision + 7, "", n.revision, false}
	}
	if w.mutant != recoverKeepsAges {
		for i := range n.flags {
			n.flags[i].from = n.revision
		}
	}
	w.commit(&n)
}

// deliver brings a process to the newest revision or to one on the way.
func (w *model) deliver() {
	i := w.instances[w.pick(modelInstances)]
	to := w.head
	if between := w.history[i.snapshot.revision+1+w.pick(3)]; between != nil && w.pick(2) == 0 {
		to = between
	}
	if to.revision <= i.snapshot.revision {
		return
	}
	i.log = w.logOf(to, i)
	i.snapshot = to
	i.logTo = max(i.logTo, to.revision)
}

// logOf is the log of a snapshot that arrives, or the one that is there if that
// was fetched ahead of it.
func (w *model) logOf(s *modelSnapshot, i *modelInstance) []modelKill {
	if w.mutant == logWithGaps {
		log := slices.Clone(i.log)
		if n := len(s.log); n > 0 && !slices.Contains(log, s.log[n-1]) {
			log = append(log, s.log[n-1])
		}
		return log
	}
	if i.logTo > s.revision {
		return i.log
	}
	return s.log
}

func (w *model) rooted() {
	s := &modelState{root: &modelRoot{}, at: w.pick(modelInstances), open: true, clock: w.clock}
	s.revision = w.instances[s.at].snapshot.revision
	s.full = attributes{"plan": w.value(), "tier": w.value(), "cart": w.value()}
	w.states = append(w.states, s)
}

func (f modelFlag) derivable(travel attributes) bool {
	_, travels := travel[f.reads]
	return f.reads == "" || f.reads == "clock" || travels
}

// seal settles what travels. Flags that cannot be derived from it are decided.
func (w *model) seal(s *modelState, call attributes) {
	s.open = false
	maps.Copy(s.full, call)
	snapshot := w.instances[s.at].snapshot
	s.revision = snapshot.revision // pinned at the latest now, as a State without a snapshot is
	s.attributes = attributes{}
	for name, wire := range snapshot.travel {
		s.attributes[wire] = s.full[name]
	}
	for i, f := range snapshot.flags {
		if !f.derivable(snapshot.travel) && w.mutant != firstMetDecides {
			s.decisions[i] = s.full[f.reads]
		}
	}
}

// outgoing is k and the marks that a call under s carries.
func (w *model) outgoing(s *modelState) (known int, marks map[int]int) {
	i := w.instances[s.at]
	newest := 0
	for _, k := range i.log {
		newest = max(newest, k.revision)
	}
	if newest <= max(s.known, s.revision) || w.mutant == noMaxOnKnown || w.lost(s) {
		return s.known, s.marks
	}
	return newest, marksSince(i.log, s.revision)
}

// lost reports whether the log of the process contradicts what the request has
// met, which takes a restore that lost a kill: it is then of no use for that
// request.
func (w *model) lost(s *modelState) bool {
	i := w.instances[s.at]
	if s.known <= s.revision || w.mutant == lostKillsForgotten {
		return false
	}
	told, reaches, whole := len(s.marks) > 0, i.logTo >= s.known, false
	newest := map[int]int{}
	for _, k := range i.log {
		newest[k.flag] = max(newest[k.flag], k.revision)
		whole = whole || k.revision == s.known
		if told && k.revision > s.revision && k.revision <= s.known && s.marks[k.flag] < k.revision {
			return true
		}
	}
	for flag, revision := range s.marks {
		if revision <= i.logTo && newest[flag] < revision {
			return true
		}
	}
	return reaches && !told && !whole
}

func marksSince(log []modelKill, revision int) map[int]int {
	marks := map[int]int{}
	for _, k := range log {
		if k.revision > revision {
			marks[k.flag] = max(marks[k.flag], k.revision)
		}
	}
	if len(marks) > modelMarks {
		return nil
	}
	return marks
}

func (w *model) call() {
	s := w.state()
	if s == nil {
		return
	}
	if s.open {
		w.seal(s, nil)
	}
	s.known, s.marks = w.outgoing(s)
	c := *s
	c.parent, c.at, c.full = s, w.pick(modelInstances), nil
	c.sent = c.known
	if w.mutant == expiryByAge && w.clock-s.clock > 1 {
		c.revision, c.clock = w.instances[c.at].snapshot.revision, w.clock
	}
	w.states = append(w.states, &c)
}

// answer lets a call return: what it has met its caller has met.
func (w *model) answer() {
	s := w.state()
	if s == nil || s.parent == nil {
		return
	}
	known, marks := w.outgoing(s)
	if known > max(s.sent, s.revision) && known > s.parent.known && w.mutant != joinsIgnored {
		s.parent.known, s.parent.marks = known, marks
	}
	for i := range s.reached {
		s.parent.reached[i] = max(s.parent.reached[i], s.reached[i])
		// What an answer tells comes from another log, which may have lost what
		// this request has met. That a lost kill is not forgotten is promised
		// along calls only.
		if !slices.ContainsFunc(w.head.log, func(k modelKill) bool { return k.flag == i && k.revision == s.parent.reached[i] }) {
			s.parent.reached[i] = 0
		}
	}
}

// nearest is the revision that replaces one that is not kept, for a flag that
// asks for it; 0 if none does.
func (w *model) nearest(i *modelInstance, flag, revision int) int {
	asked := i.snapshot.flags[flag].nearest || w.mutant == nearestUnasked
	if !asked || w.history[revision] != nil || !w.collected[revision] && w.mutant != nearestForLost {
		return 0
	}
	oldest := 0
	for r := range w.history {
		if r > revision && (oldest == 0 || r < oldest) {
			oldest = r
		}
	}
	return oldest
}

// flagAt finds a flag at a revision as seen from a process.
func (w *model) flagAt(i *modelInstance, flag, revision int) (f modelFlag, travel attributes, ok bool) {
	s := i.snapshot
	if w.mutant != newestNotPin && (revision > s.revision || s.flags[flag].from > revision) {
		if s = w.history[revision]; s == nil || w.pick(8) == 0 { // collected, lost or out of reach
			return f, nil, false
		}
	}
	travel = s.travel
	if w.mutant == allowListNewest {
		travel = i.snapshot.travel
	}
	return s.flags[flag], travel, true
}

func (w *model) evaluate() {
	s := w.state()
	if s == nil {
		return
	}
	flag := w.pick(modelFlags)
	call := attributes{}
	if w.pick(2) == 0 {
		call["plan"], call["cart"] = w.value(), w.value()
	}
	if s.open {
		w.seal(s, call)
	}
	if value, kill, ok := w.resolve(s, flag, call); ok {
		w.judge(s, flag, value, kill)
	} else {
		w.errors++
	}
}

// resolve applies the rules; false is an error.
func (w *model) resolve(s *modelState, flag int, call attributes) (value string, kill int, ok bool) {
	i := w.instances[s.at]
	marked := s.marks[flag]
	told := len(s.marks) > 0 // of all flags that had a kill
	if w.mutant == missingMarksAreNo {
		told = true
	}
	if s.known > max(s.revision, i.logTo) && (!told || marked > i.logTo) {
		if w.head.revision < s.known || w.pick(8) == 0 {
			return "", 0, false
		}
		i.log, i.logTo = w.head.log, w.head.revision
	}
	if w.lost(s) {
		return "", 0, false
	}
	var found modelKill
	for _, k := range i.log {
		if k.flag == flag && k.revision > s.revision && (w.mutant != localKillsIgnored || k.revision <= s.known) {
			found = k
		}
	}
	near := 0
	if f := i.snapshot.flags[flag]; s.revision > i.snapshot.revision || f.from > s.revision {
		near = w.nearest(i, flag, s.revision)
	}
	if w.mutant == nearestRepins && found.revision <= near {
		found = modelKill{}
	}
	if w.mutant == unkillEnds && !i.snapshot.active[flag] {
		found = modelKill{}
	}
	if found.revision > 0 {
		if w.mutant != noMaxOnKnown {
			s.known, s.marks = w.outgoing(s)
		}
		if w.mutant == valueOfDefinition {
			if f, _, ok := w.flagAt(i, flag, s.revision); ok {
				found.value = f.version
			}
		}
		return fmt.Sprint("killed ", found.value), found.revision, true
	}
	f, travel, ok := w.flagAt(i, flag, cmp.Or(near, s.revision))
	if !ok {
		return "", 0, false
	}
	if near > 0 {
		w.replaced++
		if !i.snapshot.flags[flag].nearest || !w.collected[s.revision] {
			w.broken = fmt.Sprintf("N: flag %d is served as of %d, which nobody asked for", flag, near)
		}
		return fmt.Sprint("as of ", near), 0, true
	}
	read := ""
	switch wire, travels := travel[f.reads]; {
	case f.reads == "clock" && w.mutant == clockNotPinned:
		read = strconv.Itoa(w.clock)
	case f.reads == "clock":
		read = strconv.Itoa(s.clock)
	case w.mutant == callAttributes && call[f.reads] != "":
		read = call[f.reads]
	case travels:
		read = s.attributes[wire]
	case f.reads != "":
		if w.mutant == firstMetDecides && s.decisions[flag] == "" {
			s.decisions[flag] = call[f.reads]
		}
		read = s.decisions[flag]
	}
	return fmt.Sprint(f.version, " ", read), 0, true
}

// judge holds an answer against the promises.
func (w *model) judge(s *modelState, flag int, value string, kill int) {
	w.answers++
	if s.revision != w.instances[s.at].snapshot.revision {
		w.pinned++
	}
	if kill > 0 {
		w.afterKill++
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.kills)), func(k modelKill) bool {
			return k.flag == flag && k.revision == kill && fmt.Sprint("killed ", k.value) == value
		}) {
			w.broken = fmt.Sprintf("K1: flag %d is %q by the kill of %d, which says otherwise", flag, value, kill)
		}
	}
	answers := &s.root.answers[flag]
	if *answers == nil {
		*answers = map[int]string{}
	}
	replaced := strings.HasPrefix(value, "as of ")
	if before, ok := (*answers)[kill]; ok && before != value && !replaced {
		w.broken = fmt.Sprintf("C: flag %d is %q here and %q elsewhere", flag, value, before)
	}
	if !replaced {
		(*answers)[kill] = value
	}
	if kill < s.reached[flag] {
		w.broken = fmt.Sprintf("K2: flag %d goes back from the kill of %d to that of %d", flag, s.reached[flag], kill)
	}
	s.reached[flag] = max(s.reached[flag], kill)
	for _, k := range w.instances[s.at].snapshot.log {
		// A kill that the server has lost binds only the requests that have met it.
		if k.flag == flag && k.revision > s.revision && kill < k.revision && slices.Contains(w.head.log, k) {
			w.broken = fmt.Sprintf("K3: flag %d is served as of %d where the kill of %d is known", flag, kill, k.revision)
		}
	}
}

// TestModel holds the promises over random histories, which rapid shrinks.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(noMutant, rapid.SliceOfN(rapid.Byte(), 40, 600).Draw(t, "history"))
		if broken := w.run(); broken != "" {
			t.Fatal(broken)
		}
	})
}

// modelHistories is how many random histories each mutant has to break its
// promises, and the rules to keep them.
const modelHistories = 20_000

// TestModelCatches holds that the model keeps its promises as it is, and that
// no rule can be loosened without breaking one.
func TestModelCatches(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	histories := make([][]byte, modelHistories)
	for i := range histories {
		histories[i] = make([]byte, 100+random.IntN(400))
		for j := range histories[i] {
			histories[i][j] = byte(random.Uint32())
		}
	}
	t.Run("as it is", func(t *testing.T) {
		t.Parallel()
		var answers, errors, pinned, killed, replaced int
		for _, history := range histories {
			w := newModel(noMutant, history)
			if broken := w.run(); broken != "" {
				t.Fatal(broken)
			}
			answers, errors, pinned, killed = answers+w.answers, errors+w.errors, pinned+w.pinned, killed+w.afterKill
			replaced += w.replaced
		}
		t.Logf("%d answers, %d from another revision than the newest, %d by kills, %d as of the nearest, %d errors", answers, pinned, killed, replaced, errors)
		if replaced < answers/1000 || pinned < answers/4 || killed < answers/50 || errors > answers/2 {
			t.Errorf("%d answers, %d pinned, %d by kills, %d as of the nearest, %d errors: too few cases", answers, pinned, killed, replaced, errors)
		}
	})
	for _, m := range mutants {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			for i, history := range histories {
				if broken := newModel(m, history).run(); broken != "" {
					t.Logf("caught in history %d: %s", i, broken)
					return
				}
			}
			t.Errorf("not caught in %d histories", len(histories))
		})
	}
}
