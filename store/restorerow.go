package store

import (
	"bytes"
	"errors"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// restoreRow puts a row back to a document that was there before, here or in
// another environment. It is what revert, restore, promote and copy are made of.
type restoreRow struct {
	Action      string
	Environment string
	Name        eval.Name
	// Document is canonical; nil takes the row away.
	Document []byte
	// Was is the document that the row must have, if Checked; one that is as
	// wanted already is fine.
	Was     []byte
	Checked bool
}

// errRowChanged says that a row is not what the change set was made for.
var errRowChanged = errors.New("changed meanwhile")

func (o restoreRow) step() (step, error) {
	s := step{action: o.Action, environment: o.Environment, name: o.Name, creates: true, size: len(o.Document)}
	s.edit = func(t *target) error {
		if bytes.Equal(t.document, o.Document) {
			return nil
		}
		if o.Checked && !bytes.Equal(t.document, o.Was) {
			return errRowChanged
		}
		t.document = o.Document
		if t.flag != nil && o.Document != nil && !isArchived(o.Document) {
			t.flag.Lifecycle = lifecycleActive
		}
		if t.flag != nil && o.Document != nil && t.flag.Lifecycle == lifecycleDeleted {
			t.flag.Lifecycle = lifecycleArchived
		}
		return nil
	}
	return s, nil
}

// changedRows adds what leads from one set of rows to another, kills apart:
// they are ended by letting the flag live, and their log only grows.
func changedRows(action, environment string, from, to []eval.Row) []Operation {
	before := map[eval.Name][]byte{}
	for _, r := range from {
		before[eval.Name{Kind: r.Kind, Name: r.Name}] = r.Document
	}
	var out []Operation
	put := func(name eval.Name, document []byte) {
		if was := before[name]; name.Kind != eval.KindEmergency && !bytes.Equal(was, document) {
			out = append(out, restoreRow{Action: action, Environment: environment, Name: name, Document: document, Was: was, Checked: true})
		}
	}
	for _, r := range to {
		name := eval.Name{Kind: r.Kind, Name: r.Name}
		put(name, r.Document)
		delete(before, name)
	}
	for _, r := range from {
		if name := (eval.Name{Kind: r.Kind, Name: r.Name}); before[name] != nil {
			put(name, nil)
		}
	}
	return out
}
