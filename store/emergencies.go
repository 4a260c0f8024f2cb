package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// KillFlag makes a flag of one environment serve one of its variants from the
// next revision on, whatever its definition says, for requests that are pinned
// to older revisions too. Killing a flag again, to another variant or after it
// was let live, is another emergency; killing it to what it serves already
// changes nothing. A flag whose pierce is never is refused with
// [ErrPierceNever]; so is one that others require, unless the same change set
// kills those too.
type KillFlag struct {
	Environment string
	Key         string
	// Variant is one of the flag's variants, as it is now: the value goes with
	// the emergency, so that later edits do not reach it.
	Variant string
}

// UnkillFlag lets a killed flag serve what its definition says again, for new
// requests. Those that were pinned before the kill keep to it. A flag that is
// not killed stays as it is.
type UnkillFlag struct {
	Environment string
	Key         string
}

// maxEmergencies bounds the log of one flag; a new entry drives out the oldest.
// The newest alone decides what a request gets.
const maxEmergencies = 1000

// emergencyLog is the document of a row of [eval.KindEmergency].
type emergencyLog struct {
	Active bool             `json:"active"`
	Log    []emergencyEntry `json:"log"`
	// Project owns the flag, also when that is gone.
	Project string `json:"project,omitempty"`
}

type emergencyEntry struct {
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value"`
	Variant  string          `json:"variant"`
}

func readEmergencies(document []byte) (log emergencyLog, err error) {
	if document == nil {
		return log, nil
	}
	if err := json.Unmarshal(document, &log); err != nil {
		return log, fmt.Errorf("stored emergencies: %w", err)
	}
	return log, nil
}

func (l emergencyLog) canonical() ([]byte, error) {
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return canonical(raw)
}

func (o KillFlag) step() (step, error) {
	s := step{action: audit.ActionKillFlag, environment: o.Environment, name: eval.Name{Kind: eval.KindEmergency, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	if o.Variant == "" {
		return s, &FieldError{"variant", "is required: a killed flag serves one"}
	}
	s.edit = func(t *target) error {
		value, project, err := o.value(t.definition)
		if err != nil {
			return err
		}
		log, err := readEmergencies(t.document)
		if err != nil {
			return err
		}
		if n := len(log.Log); n > 0 && log.Active {
			if last := log.Log[n-1]; last.Variant == o.Variant && string(last.Value) == string(value) {
				return nil
			}
		}
		// One revision holds one emergency of a flag: the last of its change set.
		log.Log = slices.DeleteFunc(log.Log, func(e emergencyEntry) bool { return e.Revision == t.revision })
		log.Log = append(log.Log, emergencyEntry{Revision: t.revision, Value: value, Variant: o.Variant})
		log.Log = log.Log[max(0, len(log.Log)-maxEmergencies):]
		log.Active, log.Project = true, project
		t.document, err = log.canonical()
		return err
	}
	return s, nil
}

// value is that of the variant in the flag's document, in canonical form, and
// project the flag's.
func (o KillFlag) value(document []byte) (value json.RawMessage, project string, err error) {
	var d struct {
		Flag struct {
			Variants map[string]json.RawMessage `json:"variants"`
		} `json:"flag"`
		Guidon struct {
			Pierce  string `json:"pierce"`
			Project string `json:"project"`
		} `json:"guidon"`
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, "", invalidError("the stored definition has no variants: " + err.Error())
	}
	if d.Guidon.Pierce == pierceNever {
		return nil, "", ErrPierceNever
	}
	value, ok := d.Flag.Variants[o.Variant]
	if !ok {
		return nil, "", &FieldError{"variant", fmt.Sprintf("the flag has no variant %.128q", o.Variant)}
	}
	return value, d.Guidon.Project, nil
}

func (o UnkillFlag) step() (step, error) {
	s := step{action: audit.ActionUnkillFlag, environment: o.Environment, name: eval.Name{Kind: eval.KindEmergency, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		log, err := readEmergencies(t.document)
		if err != nil || !log.Active {
			return err
		}
		log.Active = false
		t.document, err = log.canonical()
		return err
	}
	return s, nil
}

// dependentsKilled refuses to kill a flag that others require and that are not
// killed themselves: what they come to would change with it, unnamed.
func (d *draft) dependentsKilled(e *environmentDraft) error {
	var killed []eval.Name
	for _, name := range e.changed() {
		if name.Kind != eval.KindEmergency {
			continue
		}
		if log, err := readEmergencies(e.rows[name].document); err != nil || !log.Active {
			continue
		}
		killed = append(killed, name)
	}
	if len(killed) == 0 {
		return nil
	}
	snapshot, err := e.compile()
	if err != nil {
		return err
	}
	for f := range snapshot.Flags() {
		if _, dead := f.Killed(); dead || f.Archived() {
			continue
		}
		for _, name := range killed {
			if slices.Contains(f.Dependencies(), eval.Name{Kind: eval.KindFlag, Name: name.Name}) {
				d.refused.add(&OperationError{
					Index: e.rows[name].step, Environment: e.Name, Name: flagOf(name), Path: "key",
					Err: invalidError(fmt.Sprintf("flag %q requires it: kill that one too, in the same change", f.Key())),
				})
			}
		}
	}
	return nil
}

// flagOf names the flag that a row is about, for messages.
func flagOf(name eval.Name) eval.Name {
	if name.Kind == eval.KindEmergency {
		name.Kind = eval.KindFlag
	}
	return name
}
