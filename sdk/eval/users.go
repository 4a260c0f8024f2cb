package eval

import (
	"maps"
	"slices"
)

// Users returns what reads a row: the flags that need it, directly or through
// segments and prerequisites, and the segments that refer to it themselves;
// sorted. Of the settings, and of a row that is not there, nobody.
func (s *Snapshot) Users(n Name) []Name {
	var users []Name
	for _, key := range slices.Sorted(slices.Values(s.users[n])) {
		users = append(users, Name{KindFlag, key})
	}
	if n.Kind != KindSegment {
		return users
	}
	for _, name := range slices.Sorted(maps.Keys(s.segments)) {
		refers := false
		_ = s.segments[name].rule.references(func(to string) error {
			refers = refers || to == n.Name
			return nil
		})
		if refers {
			users = append(users, Name{KindSegment, name})
		}
	}
	return users
}

// Segments returns the names of all segments, sorted.
func (s *Snapshot) Segments() []string { return slices.Sorted(maps.Keys(s.segments)) }

// Requires returns the flag's prerequisites, each with the variants of which it
// must have one, in the order of the definition.
func (f *Flag) Requires() []Requirement {
	out := make([]Requirement, len(f.attributes.requires))
	for i, r := range f.attributes.requires {
		out[i] = Requirement{r.flag, slices.Clone(r.variants)}
	}
	return out
}

// Requirement is a prerequisite: Flag must resolve to one of Variants.
type Requirement struct {
	Flag     string
	Variants []string
}
