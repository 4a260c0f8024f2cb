package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store/audit"
)

// step is an operation made ready: checked as far as that goes without the
// database, and reduced to an edit of one row per environment.
type step struct {
	action      string
	environment string // "" for every environment that has the row
	name        eval.Name
	creates     bool   // may be for a row that is not there
	owner       string // that the flag is given; "" for none
	describes   bool   // may write what the installation's chain records
	size        int    // bytes of definition, for the limit of the change set
	schema      *schema
	edit        func(*target) error
	// key edits what the installation knows of a flag, in the place of edit.
	key func(*flagDraft) error
}

// target is the row that a step edits, as earlier steps of the change set
// left it.
type target struct {
	environment string
	revision    int64  // that the change set would make
	document    []byte // canonical; nil if there is no such row
	definition  []byte // of an emergency: the document of its flag
	flag        *flagDraft
	isolate     bool
}

func (o PutFlag) step() (step, error) {
	s := step{
		action: audit.ActionPutFlag, environment: o.Environment, creates: true, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}, size: len(o.Definition),
		owner: o.Owner, describes: o.Owner != "" || o.Description != "" || len(o.Tags) > 0,
	}
	if err := o.check(); err != nil {
		return s, err
	}
	definition, err := canonicalMember("flag", o.Definition)
	if err != nil {
		return s, err
	}
	inferred, typeErr := eval.InferType(definition)
	s.edit = func(t *target) error {
		if o.CreateOnly && t.document != nil {
			return nil
		}
		claimed, err := t.flag.claim(o, inferred, typeErr, t.isolate)
		if err != nil {
			return err
		}
		if t.flag.Lifecycle == lifecycleArchived {
			return ErrArchived
		}
		t.flag.flagRow = claimed
		d, err := readDocument(t.document)
		if err != nil {
			return err
		}
		d.set("flag", definition)
		d.attribute("project", t.flag.Project)
		d.attribute("kind", t.flag.Kind)
		d.attribute("type", t.flag.Type)
		d.attribute("scope", t.flag.Scope)
		delete(d.guidon, "archived") // in this environment, when the key was taken back into use
		d.treat(o.Attach, o.Overridable, o.ClientVisible, o.Pierce, o.PinUnavailable)
		d.require(o.Requires)
		if t.document, err = d.canonical(); err != nil {
			return err
		}
		t.flag.describe(o.Owner, o.Description, o.Tags)
		return nil
	}
	return s, nil
}

func checkKey(field, key string) error {
	if !eval.ValidKey(key) {
		return &FieldError{field, "must be a letter, then up to 127 letters, digits, '.', '_' or '-'"}
	}
	return nil
}

func (o PutFlag) check() error {
	if err := checkKey("key", o.Key); err != nil {
		return err
	}
	if o.Project != "" && !validProject(o.Project) {
		return &FieldError{"project", "must be 1 to 64 letters, digits, '.', '_' or '-'"}
	}
	if o.Kind != "" && !slices.Contains(flagKinds, o.Kind) {
		return &FieldError{"kind", fmt.Sprintf("%.128q is not one of %s", o.Kind, strings.Join(flagKinds, ", "))}
	}
	if o.Scope != "" && o.Scope != "request" && o.Scope != "local" {
		return &FieldError{"scope", fmt.Sprintf("%.128q is neither request nor local", o.Scope)}
	}
	if o.Type != "" {
		if t, err := eval.ParseType(o.Type); err != nil || t == eval.Any {
			return &FieldError{"type", fmt.Sprintf("%.128q is not one of boolean, string, integer, float, object", o.Type)}
		}
	}
	if err := cmp.Or(checkPierce(o.Pierce), checkPinUnavailable(o.PinUnavailable), checkRequires(o.Requires), checkTags(o.Tags)); err != nil {
		return err
	}
	if err := checkText("owner", o.Owner, MaxNameBytes); err != nil {
		return err
	}
	return checkText("description", o.Description, MaxTextBytes)
}

func (o SetState) step() (step, error) {
	s := step{action: audit.ActionSetState, environment: o.Environment, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	if o.State != "ENABLED" && o.State != "DISABLED" {
		return s, &FieldError{"state", fmt.Sprintf("%.128q is neither ENABLED nor DISABLED", o.State)}
	}
	s.edit = func(t *target) error {
		if _, err := t.editable(); err != nil {
			return err
		}
		return t.editDefinition(func(_ document, definition map[string]json.RawMessage) {
			definition["state"] = quote(o.State)
		})
	}
	return s, nil
}

func (o SetDefaultVariant) step() (step, error) {
	s := step{action: audit.ActionSetDefault, environment: o.Environment, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := checkKey("key", o.Key); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		if _, err := t.editable(); err != nil {
			return err
		}
		var unknown error
		err := t.editDefinition(func(_ document, definition map[string]json.RawMessage) {
			if o.Variant == "" {
				delete(definition, "defaultVariant")
				return
			}
			var variants map[string]json.RawMessage
			_ = json.Unmarshal(definition["variants"], &variants) // an isolated flag may have none
			if _, ok := variants[o.Variant]; !ok {
				unknown = &FieldError{"variant", fmt.Sprintf("the flag has no variant %.128q", o.Variant)}
			}
			definition["defaultVariant"] = quote(o.Variant)
		})
		return cmp.Or(unknown, err)
	}
	return s, nil
}

func (o SetAttributes) step() (step, error) {
	s := step{action: audit.ActionSetAttributes, environment: o.Environment, name: eval.Name{Kind: eval.KindFlag, Name: o.Key}}
	if err := cmp.Or(checkKey("key", o.Key), checkPierce(o.Pierce), checkPinUnavailable(o.PinUnavailable)); err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		d, err := t.editable()
		if err != nil {
			return err
		}
		d.treat(o.Attach, o.Overridable, o.ClientVisible, o.Pierce, o.PinUnavailable)
		t.document, err = d.canonical()
		return err
	}
	return s, nil
}

// checkRequires leaves it to the evaluator whether the flags exist.
func checkRequires(requires *[]Requirement) error {
	if requires == nil {
		return nil
	}
	if len(*requires) > MaxRequires {
		return &FieldError{"requires", fmt.Sprintf("more than %d", MaxRequires)}
	}
	for i, r := range *requires {
		path := fmt.Sprintf("requires[%d]", i)
		if err := checkKey(path+".flag", r.Flag); err != nil {
			return err
		}
		if n := len(r.Variants); n == 0 || n > MaxRequires {
			return &FieldError{path + ".variants", fmt.Sprintf("must name 1 to %d variants", MaxRequires)}
		}
		for _, v := range r.Variants {
			if err := checkText(path+".variants", v, MaxNameBytes); v == "" || err != nil {
				return cmp.Or[error](err, &FieldError{path + ".variants", "a name is empty"})
			}
		}
	}
	return nil
}

// pierceNever keeps kills away from requests that are under way.
const pierceNever = "never"

func checkPierce(pierce *string) error {
	if pierce == nil || *pierce == "" || *pierce == pierceNever {
		return nil
	}
	return &FieldError{"pierce", fmt.Sprintf("%.128q is neither %s nor empty", *pierce, pierceNever)}
}

// pinNearest asks for the oldest revision kept in place of a pin that is not.
const pinNearest = "nearest"

func checkPinUnavailable(instead *string) error {
	if instead == nil || *instead == "" || *instead == pinNearest {
		return nil
	}
	return &FieldError{"pin_unavailable", fmt.Sprintf("%.128q is neither %s nor empty", *instead, pinNearest)}
}

func (o PutSegment) step() (step, error) {
	s := step{action: audit.ActionPutSegment, environment: o.Environment, creates: true, name: eval.Name{Kind: eval.KindSegment, Name: o.Name}, size: len(o.Condition)}
	if err := checkKey("name", o.Name); err != nil {
		return s, err
	}
	if o.Project != "" && !validProject(o.Project) {
		return s, &FieldError{"project", "must be 1 to 64 letters, digits, '.', '_' or '-'"}
	}
	condition, err := canonicalMember("segment", o.Condition)
	if err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		if o.CreateOnly && t.document != nil {
			return nil
		}
		d, err := readDocument(t.document)
		if err != nil {
			return err
		}
		d.set("segment", condition)
		if _, owned := d.guidon["project"]; o.Project != "" || !owned {
			d.attribute("project", cmp.Or(o.Project, defaultProject))
		}
		t.document, err = d.canonical()
		return err
	}
	return s, nil
}

func (o PutSettings) step() (step, error) {
	s := step{action: audit.ActionPutSettings, environment: o.Environment, creates: true, name: eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}}
	doc, err := settingsDocument(o.Settings)
	if err != nil {
		return s, err
	}
	byDefault, err := settingsDocument(eval.Settings{})
	if err != nil {
		return s, err
	}
	s.edit = func(t *target) error {
		if t.document != nil || !bytes.Equal(doc, byDefault) { // no row says the same
			t.document = doc
		}
		return nil
	}
	return s, nil
}

// editable returns the document of a flag that is not archived.
func (t *target) editable() (document, error) {
	d, err := readDocument(t.document)
	if err == nil && (t.flag.Lifecycle == lifecycleArchived || d.guidon["archived"] != nil) {
		err = ErrArchived
	}
	return d, err
}

// editDefinition changes the flagd definition of a flag that must be there.
func (t *target) editDefinition(edit func(document, map[string]json.RawMessage)) error {
	d, err := readDocument(t.document)
	if err != nil {
		return err
	}
	var definition map[string]json.RawMessage
	if err := json.Unmarshal(d.members["flag"], &definition); err != nil || definition == nil {
		return invalidError("the stored definition is not an object")
	}
	edit(d, definition)
	raw, err := json.Marshal(definition)
	if err != nil {
		return err
	}
	d.set("flag", raw)
	t.document, err = d.canonical()
	return err
}

// document is a row's document taken apart. Attributes that this package does
// not know are kept.
type document struct {
	members map[string]json.RawMessage
	guidon  map[string]json.RawMessage
}

func readDocument(raw []byte) (document, error) {
	d := document{map[string]json.RawMessage{}, map[string]json.RawMessage{}}
	if raw == nil {
		return d, nil
	}
	if err := json.Unmarshal(raw, &d.members); err != nil {
		return d, fmt.Errorf("stored document: %w", err)
	}
	if err := json.Unmarshal(d.members["guidon"], &d.guidon); err != nil {
		return d, fmt.Errorf("stored document: %w", err)
	}
	return d, nil
}

func (d document) set(member string, value []byte) { d.members[member] = value }

func (d document) attribute(name, value string) {
	if value != "" {
		d.guidon[name] = quote(value)
	}
}

// mark sets an attribute that is true or left out.
func (d document) mark(name string, on bool) {
	if on {
		d.guidon[name] = json.RawMessage("true")
	} else {
		delete(d.guidon, name)
	}
}

// treat sets what an operation says of how the flag is treated; nil says
// nothing.
func (d document) treat(attach, overridable, client *bool, pierce, pinUnavailable *string) {
	if attach != nil {
		d.mark("attach", *attach)
	}
	if overridable != nil {
		d.mark("overridable", *overridable)
	}
	if client != nil {
		d.mark("client", *client)
	}
	if pierce != nil {
		delete(d.guidon, "pierce")
		d.attribute("pierce", *pierce)
	}
	if pinUnavailable != nil {
		delete(d.guidon, "pinUnavailable")
		d.attribute("pinUnavailable", *pinUnavailable)
	}
}

// require sets the prerequisites; nil says nothing.
func (d document) require(requires *[]Requirement) {
	if requires == nil {
		return
	}
	delete(d.guidon, "requires")
	if len(*requires) > 0 {
		raw, err := json.Marshal(*requires)
		if err != nil {
			panic(err) // strings always encode
		}
		d.guidon["requires"] = raw
	}
}

func (d document) canonical() ([]byte, error) {
	guidon, err := json.Marshal(d.guidon)
	if err != nil {
		return nil, err
	}
	d.members["guidon"] = guidon
	raw, err := json.Marshal(d.members)
	if err != nil {
		return nil, err
	}
	return canonical(raw)
}

// canonicalMember returns value in canonical form. An error names the place as
// seen from the document that will hold it as a member.
func canonicalMember(member string, value []byte) ([]byte, error) {
	if len(bytes.TrimSpace(value)) == 0 {
		return nil, invalidError("$." + member + ": is empty")
	}
	if !json.Valid(value) { // else it could close the object around it
		if _, err := eval.Canonical(value); err != nil {
			return nil, invalidError(err.Error())
		}
		return nil, invalidError("$." + member + ": is not JSON")
	}
	raw, err := canonical(fmt.Appendf(nil, `{%q:%s}`, member, value))
	if err != nil {
		return nil, err
	}
	return raw[len(member)+4 : len(raw)-1], nil
}

func canonical(raw []byte) ([]byte, error) {
	doc, err := eval.Canonical(raw)
	if err != nil {
		return nil, invalidError(err.Error())
	}
	if len(doc) > MaxDocumentBytes {
		return nil, invalidError(fmt.Sprintf("$: is %d bytes, more than %d", len(doc), MaxDocumentBytes))
	}
	return doc, nil
}

// wireName is what the guidon header can carry as the name of an attribute.
var wireName = regexp.MustCompile(`^[a-z0-9_]{1,32}$`)

func settingsDocument(s eval.Settings) ([]byte, error) {
	type travel struct {
		Attribute string `json:"attribute"`
		As        string `json:"as,omitempty"`
		MaxBytes  int    `json:"maxBytes,omitempty"`
	}
	out := struct {
		Travel     []travel `json:"travel"`
		Fractional string   `json:"fractional"`
	}{[]travel{}, cmp.Or(s.Fractional, eval.FractionalV2)}
	seen := map[string]bool{}
	for i, t := range s.Travel {
		path := fmt.Sprintf("travel[%d]", i)
		wire := t.Wire()
		switch {
		case t.Attribute == "" || strings.ContainsAny(t.Attribute, ".$") || len(t.Attribute) > MaxNameBytes:
			return nil, &FieldError{path + ".attribute", fmt.Sprintf("%.128q is not the name of a top-level attribute", t.Attribute)}
		case !wireName.MatchString(wire):
			return nil, &FieldError{path, fmt.Sprintf("%.128q cannot travel under this name: give it an alias of up to 32 lower-case letters, digits and '_'", wire)}
		case t.MaxBytes < 0 || t.MaxBytes > eval.MaxTravelBytes:
			return nil, &FieldError{path + ".max_bytes", fmt.Sprintf("is %d, want 1 to %d, or 0 for %d", t.MaxBytes, eval.MaxTravelBytes, eval.DefaultTravelBytes)}
		case seen["attribute "+t.Attribute] || seen["wire "+wire]:
			return nil, &FieldError{path, fmt.Sprintf("%.128q is there twice", t.Attribute)}
		}
		seen["attribute "+t.Attribute], seen["wire "+wire] = true, true
		out.Travel = append(out.Travel, travel(t))
	}
	slices.SortFunc(out.Travel, func(a, b travel) int { return strings.Compare(a.Attribute, b.Attribute) })
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return canonical(raw)
}

func quote(s string) json.RawMessage {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always encodes
	}
	return raw
}
