package store

import (
	"encoding/json"
	"fmt"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// The lifecycle of a flag key.
const (
	lifecycleActive   = "active"
	lifecycleArchived = "archived"
	lifecycleDeleted  = "deleted"
)

func (o ArchiveFlag) step() (step, error) {
	s := step{action: audit.ActionArchiveFlag, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		t.flag.Lifecycle = lifecycleArchived
		// The definition says so too, for providers that know only flagd.
		return t.editDefinition(func(d document, definition map[string]json.RawMessage) {
			d.mark("archived", true)
			definition["state"] = quote("DISABLED")
		})
	}
	return s, nil
}

func (o RestoreFlag) step() (step, error) {
	s := step{action: audit.ActionRestoreFlag, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		t.flag.Lifecycle = lifecycleActive
		return t.editDefinition(func(d document, _ map[string]json.RawMessage) { d.mark("archived", false) })
	}
	return s, nil
}

func (o DeleteFlag) step() (step, error) {
	s := step{action: audit.ActionDeleteFlag, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		if t.flag.Lifecycle == lifecycleActive {
			return fmt.Errorf("%w: archive it first", ErrNotArchived)
		}
		t.flag.Lifecycle, t.document = lifecycleDeleted, nil
		return nil
	}
	return s, nil
}

func (o RemoveFlag) step() (step, error) {
	s := step{action: audit.ActionRemoveFlag, environment: o.Environment, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		if _, err := t.editable(); err != nil {
			return err
		}
		t.document = nil
		return nil
	}
	return s, nil
}

func (o DeleteSegment) step() (step, error) {
	s := step{action: audit.ActionDeleteSegment, environment: o.Environment, name: eval.Name{Kind: eval.KindSegment, Name: o.Name}}
	if err := checkKey("name", o.Name); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		t.document = nil
		return nil
	}
	return s, nil
}
