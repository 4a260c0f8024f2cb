package propagate

import (
	"maps"
	"reflect"
	"slices"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// contextOf is the evaluation context that travels, the same at every hop:
// wire names are read with the allow-list of the pin's revision.
func contextOf(h *Header, listed []eval.Travel) *eval.Context {
	attributes := make(map[string]any, len(h.Attributes)+1)
	for _, a := range h.Attributes {
		if name := attributeName(listed, a.Name); name != "" {
			attributes[name] = a.Value()
		}
	}
	if h.HasSubject {
		attributes[targetingKey] = h.Subject
	}
	c, _ := eval.NewContext(attributes) // strings, booleans and finite numbers are always usable
	return c
}

// travellingAt returns the travelling context of a sealed State, which every
// hop must read with the allow-list of the pin's revision. That is the newest
// list if the settings have not changed since; if they may have, the newest
// still serves as long as it knows every name in the header. It reports false
// if the names cannot be read.
func (s *State) travellingAt(newest *eval.Snapshot) (*eval.Context, bool) {
	if c := s.travelling.Load(); c != nil {
		return c, true
	}
	listed, ok := s.allowList(newest)
	if !ok {
		return nil, false
	}
	c := contextOf(&s.pin, listed)
	s.travelling.Store(c) // there is but one such context: whoever stores it, stores the same
	return c, true
}

func (s *State) allowList(newest *eval.Snapshot) ([]eval.Travel, bool) {
	if s.snapshot != nil {
		newest = s.snapshot
	}
	if newest == nil {
		return nil, len(s.pin.Attributes) == 0
	}
	listed := newest.Settings().Travel
	for _, a := range s.pin.Attributes {
		if attributeName(listed, a.Name) == "" {
			return nil, false
		}
	}
	return listed, true
}

// known returns a copy of all this process knows of the request: at the root
// everything the application said, elsewhere what travelled.
func (s *State) known(newest *eval.Snapshot) map[string]any {
	if !s.sealed.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if s.full != nil {
		return maps.Clone(s.full)
	}
	c, _ := s.travellingAt(newest)
	return c.Map()
}

// merged is the full local context: what this process knows of the request,
// and over it what the call says. s may be nil.
func (s *State) merged(call map[string]any, newest *eval.Snapshot) (*eval.Context, error) {
	if s == nil || s.off {
		return eval.NewContext(call)
	}
	if len(call) == 0 && s.sealed.Load() {
		if s.full != nil {
			return s.fullCtx, nil
		}
		if c, ok := s.travellingAt(newest); ok {
			return c, nil
		}
	}
	attributes := s.known(newest)
	maps.Copy(attributes, call)
	return eval.NewContext(attributes)
}

// otherSubject reports whether a call is about somebody else than the request.
func (s *State) otherSubject(call map[string]any) bool {
	key, ok := call[targetingKey].(string)
	return ok && key != "" && (!s.pin.HasSubject || key != s.pin.Subject)
}

// ignored names what a call passed in vain: attributes that the request's
// context, settled before, does not have or has differently.
func (p *Propagator) ignored(s *State, call map[string]any, flag string) []string {
	if len(call) == 0 {
		return nil
	}
	travelling := s.travelling.Load()
	var names []string
	for name, value := range call {
		if name == targetingKey {
			continue // the same, or otherSubject
		}
		known, ok := s.full[name]
		if s.full == nil {
			known, ok = travelling.Value(name)
		}
		if !ok || !equal(known, value) {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	slices.Sort(names)
	p.counters.flag(IgnoredAttributes, flag)
	return names
}

// equal compares attribute values as evaluation would: all Go numbers read as
// float64.
func equal(known, value any) bool {
	switch v := value.(type) {
	case string:
		k, ok := known.(string)
		return ok && k == v
	case bool:
		k, ok := known.(bool)
		return ok && k == v
	case nil:
		return known == nil
	}
	if reflect.DeepEqual(known, value) {
		return true
	}
	a, err := eval.NewContext(map[string]any{"v": known})
	if err != nil {
		return false
	}
	b, err := eval.NewContext(map[string]any{"v": value})
	if err != nil {
		return false
	}
	return reflect.DeepEqual(a.Map(), b.Map())
}

func travels(listed []eval.Travel, attribute string) bool {
	return slices.ContainsFunc(listed, func(t eval.Travel) bool { return t.Attribute == attribute })
}
