package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// draft is a change set in the making: what the transaction read under its
// locks, and what the steps have made of it so far.
type draft struct {
	at           time.Time
	environments map[string]*environmentDraft
	flags        map[string]*flagDraft
	describes    []audit.Operation // for the installation's chain
	changes      []Changed
	warnings     []string
	refused      refusals
	owners       map[string]audit.Hash // of flags, those that are new
	// failed are the keys of flags of which an operation was refused.
	failed map[string]bool
	// conflicts are rows that are not as a change set needs them, by environment.
	conflicts map[string][]eval.Name
}

// conflict is that of the first environment in which there is one.
func (d *draft) conflict(r request) error {
	name := slices.Sorted(maps.Keys(d.conflicts))[0]
	return rowConflict(d.environments[name], r.Expect[name], d.conflicts[name])
}

type environmentDraft struct {
	lockedEnvironment
	rows       map[eval.Name]*rowDraft
	operations []audit.Operation
	// affected are the rows that changed and those that read what changed.
	affected map[eval.Name]bool
	// asked and sought are what was read already: who refers to a row, and the
	// flag of a key. whole says that all flags were, surveyed that their number
	// and size was looked at.
	asked    map[eval.Name]bool
	sought   map[string]bool
	whole    bool
	surveyed bool
	grown    int64          // bytes
	compiled *eval.Snapshot // of the rows as they are to be, since validate
}

// rowDraft is a row that a step may edit, validation needs, or both.
type rowDraft struct {
	from     int64  // the revision of before
	before   []byte // nil if there was no such row
	document []byte
	step     int // index of the last operation that edited it
	// refersTo are the references of referring, a document.
	referring []byte
	refersTo  []eval.Name
}

func (r *rowDraft) changed() bool { return !bytes.Equal(r.before, r.document) }

// flagDraft is what the installation knows of a key.
type flagDraft struct {
	flagRow
	stored    *flagRow // nil for a new key
	described bool
	step      int // index of the last operation on the key itself
}

const defaultProject = "default"

var flagKinds = []string{"release", "experiment", "ops", "permission", "config"}

// reasoned refuses a change set without a reason that is for an environment
// which asks for one.
func (d *draft) reasoned(r request) error {
	if strings.TrimSpace(r.Reason) != "" {
		return nil
	}
	for _, s := range r.steps {
		for _, name := range d.reach(s) {
			if e := d.environments[name]; e != nil && e.Protected {
				return &FieldError{"reason", fmt.Sprintf("is required: environment %q is protected", name)}
			}
		}
	}
	return nil
}

// run carries out one step in the environments it is for.
func (d *draft) run(index int, s step, isolate bool) {
	if s.key != nil {
		err := d.editKey(index, s)
		if errors.Is(err, ErrNotFound) && d.failed[s.name.Name] {
			return // it would be there
		}
		if err != nil {
			d.refused.add(operationError(index, "", s.name, err))
		}
		return
	}
	environments := d.reach(s)
	if len(environments) == 0 {
		d.refused.add(&OperationError{Index: index, Name: flagOf(s.name), Err: ErrNotFound})
	}
	for _, name := range environments {
		err := d.edit(index, s, name, isolate)
		if errors.Is(err, errRowChanged) {
			if d.conflicts == nil {
				d.conflicts = map[string][]eval.Name{}
			}
			d.conflicts[name] = append(d.conflicts[name], s.name)
		} else if err != nil {
			if d.failed == nil {
				d.failed = map[string]bool{}
			}
			d.failed[s.name.Name] = true
			d.refused.add(operationError(index, name, flagOf(s.name), err))
		}
	}
}

// reach returns the environments that a step is for: the one it names, which
// may not exist, or those that have its row, sorted.
func (d *draft) reach(s step) []string {
	if s.environment != "" {
		return []string{s.environment}
	}
	var out []string
	for env, e := range d.environments {
		if r := e.rows[s.name]; r != nil && r.document != nil {
			out = append(out, env)
		}
	}
	slices.Sort(out)
	return out
}

func (d *draft) edit(index int, s step, environment string, isolate bool) error {
	env := d.environments[environment]
	if env == nil {
		return fmt.Errorf("environment %.128q: %w", environment, ErrNotFound)
	}
	if env.Archived && s.environment != "" {
		return fmt.Errorf("%w: %q", ErrArchivedEnvironment, environment)
	}
	row := env.rows[s.name]
	if row == nil {
		row = &rowDraft{}
	}
	if row.document == nil && !s.creates && s.name.Kind != eval.KindEmergency {
		return ErrNotFound
	}
	t := target{environment: environment, revision: env.Revision + 1, document: row.document, isolate: isolate}
	if s.name.Kind == eval.KindEmergency {
		flag := env.rows[flagOf(s.name)]
		if flag == nil || flag.document == nil {
			return ErrNotFound
		}
		t.definition = flag.document
	}
	if s.name.Kind == eval.KindFlag {
		t.flag = d.flag(s.name.Name)
		if _, back := restores[s.action]; t.flag.Lifecycle == lifecycleDeleted && row.document == nil && !back {
			return fmt.Errorf("%w: the key was deleted and is not used again", ErrExists)
		}
	}
	if err := s.edit(&t); err != nil {
		return err
	}
	d.note(s, env, row, t)
	row.document, row.step = t.document, index
	env.rows[s.name] = row
	return nil
}

// restores are the actions that may bring a deleted key back: on purpose.
var restores = map[string]struct{}{
	audit.ActionRevert: {}, audit.ActionRestore: {}, audit.ActionPromote: {}, audit.ActionCopy: {},
}

// note records what a step did, for the caller and for the audit log.
func (d *draft) note(s step, env *environmentDraft, row *rowDraft, t target) {
	c := Changed{Environment: env.Name, Kind: s.name.Kind, Name: s.name.Name, Action: ActionChanged, Before: row.document, After: t.document}
	switch {
	case bytes.Equal(row.document, t.document):
		c.Action = ActionUnchanged
	case row.document == nil:
		c.Action = ActionCreated
	case t.document == nil:
		c.Action = ActionDeleted
	case s.action == audit.ActionArchiveFlag:
		c.Action = ActionArchived
	case s.action == audit.ActionRestoreFlag:
		c.Action = ActionRestored
	}
	if s.name.Kind == eval.KindEmergency && c.Action != ActionUnchanged {
		c.Action = ActionKilled
		if s.action == audit.ActionUnkillFlag {
			c.Action = ActionUnkilled
		}
	}
	if c.Action != ActionUnchanged {
		env.operations = append(env.operations, audit.Operation{
			Action: s.action, Kind: s.name.Kind.String(), Name: s.name.Name, Before: row.document, After: t.document,
		})
	}
	if f := t.flag; f != nil && f.described {
		f.described = false
		if c.Action == ActionUnchanged {
			c.Action = ActionChanged
		}
	}
	d.changes = append(d.changes, c)
}

func (d *draft) flag(key string) *flagDraft {
	f := d.flags[key]
	if f == nil {
		f = &flagDraft{flagRow: flagRow{Key: key, Tags: []string{}, Links: []string{}, Lifecycle: lifecycleActive}}
		d.flags[key] = f
	}
	return f
}

// claim checks a put against what the key is already, and returns what it will
// be: a new key is settled by its first put.
func (f *flagDraft) claim(o PutFlag, inferred eval.Type, typeErr error, isolate bool) (flagRow, error) {
	row := f.flagRow
	if row.Project != "" && o.Project != "" && row.Project != o.Project {
		return row, fmt.Errorf("%w: the key belongs to project %.128q", ErrExists, row.Project)
	}
	for _, c := range []struct{ field, is, asked string }{{"kind", row.Kind, o.Kind}, {"scope", row.Scope, o.Scope}, {"type", row.Type, o.Type}} {
		if c.is != "" && c.asked != "" && c.is != c.asked {
			return row, &FieldError{c.field, fmt.Sprintf("of an existing flag cannot change from %s to %s: use a new key", c.is, c.asked)}
		}
	}
	declared := cmp.Or(row.Type, o.Type)
	switch {
	case typeErr != nil && !isolate:
		return row, invalidError(strings.Replace(typeErr.Error(), "$", "$.flag", 1))
	case typeErr != nil || declared == inferred.String() || declared == eval.Float.String() && inferred == eval.Integer:
	case declared == "":
		declared = inferred.String()
	case row.Type != "":
		return row, &FieldError{"type", fmt.Sprintf("of an existing flag cannot change from %s to %s: use a new key", declared, inferred)}
	default:
		return row, &FieldError{"type", fmt.Sprintf("is given as %s but the variants are of type %s", declared, inferred)}
	}
	row.Type = declared
	row.Project = cmp.Or(row.Project, o.Project, defaultProject)
	row.Kind = cmp.Or(row.Kind, o.Kind, "release")
	if row.Scope = cmp.Or(row.Scope, o.Scope); row.Scope == "" {
		row.Scope = "request"
		if row.Kind == "ops" {
			row.Scope = "local"
		}
	}
	return row, nil
}

// finish settles what is to be written: the keys that are new or changed, in
// order, and the environments that get a revision.
func (d *draft) finish() (flags []*flagDraft, environments []*environmentDraft) {
	for _, key := range slices.Sorted(maps.Keys(d.flags)) {
		f := d.flags[key]
		var before []byte
		switch {
		case f.Project == "": // named in vain
			continue
		case f.stored == nil:
			before = undescribed.record()
		case f.stored.Lifecycle != f.Lifecycle || f.stored.Type != f.Type || !bytes.Equal(f.stored.description(), f.description()):
			before = f.stored.record()
		default:
			continue
		}
		if f.stored == nil || f.stored.Owner != f.Owner {
			f.OwnerHash = nil
			if hash, ok := d.owners[f.Owner]; ok {
				f.OwnerHash = hash[:]
			}
		}
		flags = append(flags, f)
		if after := f.record(); !bytes.Equal(before, after) {
			d.describes = append(d.describes, audit.Operation{
				Action: audit.ActionDescribeFlag, Kind: eval.KindFlag.String(), Name: key, Before: before, After: after,
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.environments)) {
		if e := d.environments[name]; len(e.changed()) > 0 {
			environments = append(environments, e)
		}
	}
	return flags, environments
}

// changed returns the names of the rows that differ from what was read, sorted.
func (e *environmentDraft) changed() []eval.Name {
	var out []eval.Name
	for name, r := range e.rows {
		if r.changed() {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, compareNames)
	return out
}

func compareNames(a, b eval.Name) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
}

// settle reads what else a change touches in an environment, and refuses what
// must not be.
func (d *draft) settle(ctx context.Context, tx pgx.Tx, e *environmentDraft, isolate bool) error {
	if err := e.complete(ctx, tx); err != nil {
		return err
	}
	if err := d.validate(e, isolate); err != nil {
		return err
	}
	if err := d.boundRoots(ctx, tx, e); err != nil {
		return err
	}
	return d.dependentsKilled(e)
}

// validate compiles and evaluates what changed in an environment, and the
// flags that read it, with the same code that will serve them.
func (d *draft) validate(e *environmentDraft, isolate bool) error {
	if err := e.fits(); err != nil {
		return err
	}
	if d.keepUsed(e) {
		return nil // what would not compile without it says the same again
	}
	snapshot, err := e.compile()
	if err != nil {
		return err
	}
	e.compiled = snapshot
	var names []eval.Name
	for name := range e.affected {
		if r := e.rows[name]; e.affected[name] && r != nil && r.document != nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareNames)
	problems := snapshot.Validate(names...)
	if problems == nil {
		// A kill hides what would be wrong when it is lifted.
		living, err := alive(snapshot)
		if err != nil {
			return err
		}
		problems = living.Validate(slices.DeleteFunc(slices.Clone(names), func(n eval.Name) bool { return n.Kind == eval.KindEmergency })...)
	}
	if err := d.judge(e, problems, isolate); err != nil {
		return err
	}
	for _, name := range names {
		f := snapshot.Flag(name.Name)
		if name.Kind != eval.KindFlag || f == nil || f.Err() != nil || f.Scope() != "request" || f.Archived() {
			continue
		}
		if missing := f.NotTravelling(); len(missing) > 0 {
			d.warnings = append(d.warnings, fmt.Sprintf("%s in %s reads %s, which does not travel: it is decided at the root of each request",
				name, e.Name, strings.Join(missing, ", ")))
		}
	}
	if e.affected[settingsName] {
		d.warnTravel(e.Name, snapshot.Settings())
	}
	d.warnPromoted(e, names)
	return nil
}

// warnPromoted says which flags of the environment read what a promotion changes
// there, a segment that several share for one, and are as they were themselves.
func (d *draft) warnPromoted(e *environmentDraft, affected []eval.Name) {
	if len(e.operations) == 0 || e.operations[0].Action != audit.ActionPromote {
		return
	}
	readers := map[eval.Name][]string{}
	for _, n := range affected {
		if n.Kind != eval.KindFlag || e.rows[n].changed() {
			continue
		}
		seen := map[eval.Name]bool{n: true}
		for open := []eval.Name{n}; len(open) > 0; open = open[1:] {
			r := e.rows[open[0]]
			if r == nil || r.document == nil {
				continue
			}
			if r.changed() && r.before != nil {
				readers[open[0]] = append(readers[open[0]], n.Name)
			}
			for _, next := range r.references() {
				if !seen[next] {
					seen[next] = true
					open = append(open, next)
				}
			}
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(readers), compareNames) {
		d.warnings = append(d.warnings, fmt.Sprintf("%s %s in %s is read there by flags that are not changed themselves: %s",
			name.Kind, name.Name, e.Name, listed(readers[name])))
	}
}

// listed joins names, as many as people read.
func listed(names []string) string {
	const shown = 20
	if len(names) > shown {
		names = append(slices.Clone(names[:shown]), fmt.Sprintf("and %d more", len(names)-shown))
	}
	return strings.Join(names, ", ")
}

// settingsName names the settings' row.
var settingsName = eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}

// warnTravel says when the attributes that travel come near what they may be.
func (d *draft) warnTravel(environment string, s eval.Settings) {
	if bytes := s.TravelBytes(); bytes > eval.MaxTravelBytes*3/4 {
		d.warnings = append(d.warnings, fmt.Sprintf("the attributes that travel in %s may take %d of the %d bytes that the header has for them",
			environment, bytes, eval.MaxTravelBytes))
	}
}

// fits refuses what would make the environment larger than an SDK takes.
func (e *environmentDraft) fits() error {
	e.grown = 0
	for _, name := range e.changed() {
		r := e.rows[name]
		if r.before != nil {
			e.grown -= int64(len(name.Name) + len(r.before))
		}
		if r.document != nil {
			e.grown += int64(len(name.Name) + len(r.document))
		}
	}
	if size := e.Bytes + e.grown; e.grown > 0 && size > MaxEnvironmentBytes {
		return &FieldError{"operations", fmt.Sprintf("environment %q would be of %d bytes, more than %d", e.Name, size, MaxEnvironmentBytes)}
	}
	return nil
}

// alive is a snapshot as it would be if no flag were killed.
func alive(s *eval.Snapshot) (*eval.Snapshot, error) {
	var emergencies []eval.Name
	for row := range s.EmergencyRows() {
		emergencies = append(emergencies, eval.Name{Kind: row.Kind, Name: row.Name})
	}
	if len(emergencies) == 0 {
		return s, nil
	}
	return s.With(s.Revision(), nil, emergencies)
}

// compile makes a snapshot of the rows that are held as they will be.
func (e *environmentDraft) compile() (*eval.Snapshot, error) {
	rows := make([]eval.Row, 0, len(e.rows))
	for name, r := range e.rows {
		if r.document == nil {
			continue
		}
		from := r.from
		if r.changed() {
			from = e.Revision + 1
		}
		rows = append(rows, eval.Row{Kind: name.Kind, Name: name.Name, From: from, Document: r.document})
	}
	return eval.Compile(e.Revision+1, rows)
}

// judge turns the problems of an environment into refusals, or into warnings
// where the flag is isolated: by this change set, or by an earlier one so that
// it is nothing new.
func (d *draft) judge(e *environmentDraft, problems error, isolate bool) error {
	invalid, ok := errors.AsType[*eval.InvalidError](problems)
	if !ok {
		return problems
	}
	earlier := sync.OnceValues(e.compileBefore)
	wasInvalid := func(name eval.Name) bool {
		snapshot, err := earlier()
		if err == nil {
			snapshot, err = alive(snapshot)
		}
		return err != nil || snapshot.Validate(name) != nil
	}
	for _, p := range invalid.Problems {
		r := e.rows[p.Name]
		if r != nil && p.Name.Kind == eval.KindFlag && isArchived(r.document) {
			continue // nobody evaluates it
		}
		isolated := p.Name.Kind == eval.KindFlag && (isolate || r != nil && !r.changed() && wasInvalid(p.Name))
		if isolated {
			d.warnings = append(d.warnings, fmt.Sprintf("%s in %s is isolated: %s: %s", p.Name, e.Name, p.Path, p.Message))
			continue
		}
		d.refused.add(&OperationError{Index: e.blame(p.Name), Environment: e.Name, Name: p.Name, Path: p.Path, Err: invalidError(p.Message)})
	}
	return nil
}

// compileBefore compiles the rows as they were before the change set.
func (e *environmentDraft) compileBefore() (*eval.Snapshot, error) {
	var rows []eval.Row
	for n, r := range e.rows {
		if r.before != nil {
			rows = append(rows, eval.Row{Kind: n.Kind, Name: n.Name, From: r.from, Document: r.before})
		}
	}
	return eval.Compile(e.Revision, rows)
}

// blame returns the operation to name for a problem of a row: the last one
// that edited it, else the last one that edited what it may read.
func (e *environmentDraft) blame(name eval.Name) int {
	if r := e.rows[name]; r != nil && r.changed() {
		return r.step
	}
	nearest, any := -1, 0
	for n, r := range e.rows {
		if !r.changed() {
			continue
		}
		any = max(any, r.step)
		if user := e.rows[name]; user != nil && (n.Kind == eval.KindSettings || slices.Contains(user.references(), n)) {
			nearest = max(nearest, r.step)
		}
	}
	if nearest >= 0 {
		return nearest
	}
	return any
}

// operationError places an error of a step: a field of the operation or a JSON
// path that the message begins with becomes the path.
func operationError(index int, environment string, name eval.Name, err error) *OperationError {
	e := &OperationError{Index: index, Environment: environment, Name: name, Err: err}
	switch cause := err.(type) { //nolint:errorlint // a step's own error, not wrapped
	case *FieldError:
		e.Path, e.Err = cause.Field, invalidError(cause.Message)
	case invalidError:
		if path, message, ok := strings.Cut(string(cause), ": "); ok && strings.HasPrefix(path, "$") {
			e.Path, e.Err = path, invalidError(message)
		}
	}
	return e
}
