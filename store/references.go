package store

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// references returns what a document names besides itself: the segments that
// its rule refers to and the flags that it requires, sorted, each once.
func references(document []byte) []eval.Name {
	if !bytes.Contains(document, []byte(`"$ref"`)) && !bytes.Contains(document, []byte(`"requires"`)) {
		return nil
	}
	var d struct {
		Flag struct {
			Targeting any `json:"targeting"`
		} `json:"flag"`
		Segment any `json:"segment"`
		Guidon  struct {
			Requires []Requirement `json:"requires"`
		} `json:"guidon"`
	}
	if json.Unmarshal(document, &d) != nil {
		return nil // isolated, and refers to nothing
	}
	var out []eval.Name
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if name, ok := v["$ref"].(string); ok && eval.ValidKey(name) {
				out = append(out, eval.Name{Kind: eval.KindSegment, Name: name})
			}
			for _, member := range v {
				walk(member)
			}
		case []any:
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(d.Flag.Targeting)
	walk(d.Segment)
	for _, r := range d.Guidon.Requires {
		if eval.ValidKey(r.Flag) {
			out = append(out, eval.Name{Kind: eval.KindFlag, Name: r.Flag})
		}
	}
	slices.SortFunc(out, compareNames)
	return slices.Compact(out)
}

// refers writes references as the table has them.
func refers(names []eval.Name) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n.String()
	}
	return out
}

// complete reads what a change touches besides the rows that operations name:
// the flags that read what changed, directly or through others, and what those
// need to be compiled. It notes on the draft which rows are affected.
func (e *environmentDraft) complete(ctx context.Context, tx pgx.Tx) error {
	e.affected = map[eval.Name]bool{}
	for _, name := range e.changed() {
		if name.Kind == eval.KindSettings && !e.whole {
			e.whole = true
			rows, err := writing[openRow](ctx, tx, selectOpenFlags, pgx.StrictNamedArgs{"environment": e.Name})
			if err != nil {
				return err
			}
			if err := e.holdAll(rows); err != nil {
				return err
			}
		}
		e.affected[name] = true
		if flag := flagOf(name); e.rows[flag] != nil {
			e.affected[flag] = true
		}
	}
	if e.whole {
		for name := range e.rows {
			e.affected[name] = name.Kind == eval.KindFlag || e.affected[name]
		}
	}
	for {
		e.spread()
		referred, flags := e.unasked()
		if len(referred) == 0 && len(flags) == 0 {
			return nil
		}
		rows, err := writing[openRow](ctx, tx, selectRelated, pgx.StrictNamedArgs{
			"environment": e.Name, "refers": refers(referred), "flags": flags,
		})
		if err != nil {
			return err
		}
		for _, name := range referred {
			e.asked[name] = true
		}
		for _, key := range flags {
			e.sought[key] = true
		}
		if err := e.holdAll(rows); err != nil {
			return err
		}
	}
}

// spread follows references among the rows that are held from what is affected
// to what reads it.
func (e *environmentDraft) spread() {
	for again := true; again; {
		again = false
		for name, r := range e.rows {
			if e.affected[name] || r.document == nil {
				continue
			}
			if slices.ContainsFunc(r.references(), func(n eval.Name) bool { return e.affected[n] }) {
				e.affected[name], again = true, true
			}
		}
	}
}

// unasked returns what was not looked for yet: who refers to affected rows,
// and the flags that affected flags require.
func (e *environmentDraft) unasked() (referred []eval.Name, flags []string) {
	for name := range e.affected {
		if !e.affected[name] || name.Kind != eval.KindFlag && name.Kind != eval.KindSegment {
			continue
		}
		if !e.asked[name] && !e.whole {
			referred = append(referred, name)
		}
	}
	for name, r := range e.rows { // also those that are needed by what is affected
		if name.Kind != eval.KindFlag || r.document == nil {
			continue
		}
		for _, n := range r.references() {
			if n.Kind == eval.KindFlag && e.rows[n] == nil && !e.sought[n.Name] {
				flags = append(flags, n.Name)
			}
		}
	}
	slices.SortFunc(referred, compareNames)
	slices.Sort(flags)
	return referred, slices.Compact(flags)
}

func (r *rowDraft) references() []eval.Name {
	if !bytes.Equal(r.referring, r.document) || r.referring == nil {
		r.referring, r.refersTo = r.document, references(r.document)
	}
	return r.refersTo
}

// keepUsed refuses to take away what others read: a segment that is deleted, a
// flag that is deleted or archived. It reports whether anything was refused.
func (d *draft) keepUsed(e *environmentDraft) bool {
	refused := false
	var usersOf map[eval.Name][]eval.Name
	for _, name := range e.changed() {
		r := e.rows[name]
		archived := name.Kind == eval.KindFlag && isArchived(r.document) && !isArchived(r.before)
		if r.document != nil && !archived {
			continue
		}
		if usersOf == nil {
			usersOf = e.users()
		}
		users := slices.DeleteFunc(slices.Clone(usersOf[name]), func(n eval.Name) bool {
			return n == name || archived && isArchived(e.rows[n].document)
		})
		if len(users) > 0 {
			slices.SortFunc(users, compareNames)
			d.refused.add(&OperationError{Index: r.step, Environment: e.Name, Name: name, Err: &InUseError{users}})
			refused = true
		}
	}
	return refused
}

// users says which rows that are held name each row.
func (e *environmentDraft) users() map[eval.Name][]eval.Name {
	out := map[eval.Name][]eval.Name{}
	for user, r := range e.rows {
		if r.document == nil {
			continue
		}
		for _, name := range r.references() {
			out[name] = append(out[name], user)
		}
	}
	return out
}

func isArchived(document []byte) bool {
	if !bytes.Contains(document, []byte(`"archived":true`)) {
		return false
	}
	d, err := readDocument(document)
	return err == nil && string(d.guidon["archived"]) == "true"
}

// InUseError says who reads what was to be taken away. It matches [ErrInUse].
type InUseError struct {
	// Users are sorted.
	Users []eval.Name
}

func (e *InUseError) Error() string {
	names := make([]string, len(e.Users))
	for i, n := range e.Users {
		names[i] = n.Kind.String() + " " + n.Name
	}
	return ErrInUse.Error() + ": " + listed(names)
}

// Is reports whether target is ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }
