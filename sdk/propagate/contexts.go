package propagate

import (
	"maps"
	"reflect"
	"slices"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// travelling is the evaluation context that travels, the same at every hop.
type travelling struct {
	attributes map[string]any // "targetingKey" among them
	context    *eval.Context
}

// travellingOf reads the wire names of a header with an allow-list.
func travellingOf(h *Header, listed []eval.Travel) *travelling {
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
	return &travelling{attributes, c}
}

// travellingUnder returns the travelling context of a sealed State. listed is
// the allow-list at the pin, by which every hop must read the header's names.
func (s *State) travellingUnder(listed []eval.Travel) *travelling {
	if known := s.travelling.Load(); known != nil {
		return known
	}
	read := travellingOf(&s.pin, listed)
	s.travelling.Store(read) // there is but one such context: whoever stores it, stores the same
	return read
}

// arrived is the travelling context for flags of local scope, which are not
// pinned: until the allow-list at the pin was met, the newest one reads it.
func (s *State) arrived(newest *eval.Snapshot) *travelling {
	if known := s.travelling.Load(); known != nil {
		return known
	}
	var listed []eval.Travel
	if newest != nil {
		listed = newest.Settings().Travel
	}
	return travellingOf(&s.pin, listed)
}

// known is all this process knows of a sealed State's request: at the root
// everything the application said, elsewhere what travelled. It is shared.
func (s *State) known(newest *eval.Snapshot) map[string]any {
	if s.full == nil {
		return s.arrived(newest).attributes
	}
	if all := s.fullMap.Load(); all != nil {
		return *all
	}
	all := s.full.Map()
	s.fullMap.Store(&all) // whoever stores it, stores the same
	return all
}

// copied is known for a State that may still be open, in a map of its own.
func (s *State) copied(newest *eval.Snapshot) map[string]any {
	if !s.sealed.Load() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if s.full != nil {
		return s.full.Map()
	}
	return maps.Clone(s.arrived(newest).attributes)
}

// merged is the full local context: what this process knows of the request,
// and over it what the call says. s may be nil.
func (s *State) merged(call map[string]any, newest *eval.Snapshot) (*eval.Context, error) {
	if s == nil {
		return eval.NewContext(call)
	}
	if len(call) == 0 && s.sealed.Load() {
		if s.full != nil {
			return s.full, nil
		}
		return s.arrived(newest).context, nil
	}
	attributes := s.copied(newest)
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
func (s *State) ignored(newest *eval.Snapshot, call map[string]any) (names []string) {
	settled := s.known(newest)
	for name, value := range call {
		if name == targetingKey {
			continue // the same, or otherSubject
		}
		if had, ok := settled[name]; !ok || !equal(had, value) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// equal compares attribute values as evaluation would: all Go numbers read as
// float64.
func equal(settled, value any) bool {
	switch v := value.(type) {
	case string:
		k, ok := settled.(string)
		return ok && k == v
	case bool:
		k, ok := settled.(bool)
		return ok && k == v
	case float64:
		if k, ok := settled.(float64); ok {
			return k == v
		}
	}
	a, err := eval.NewContext(map[string]any{"v": settled})
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
