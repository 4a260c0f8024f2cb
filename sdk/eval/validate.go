package eval

import (
	"errors"
	"strings"
)

// ErrInvalid is what every [InvalidError] is, for errors.Is.
var ErrInvalid = errors.New("invalid definition")

// Problem is one thing wrong with a row.
type Problem struct {
	Name    Name
	Path    string // a JSON path into the document, such as $.flag.targeting.if[0]
	Message string
}

// String returns the problem as one line.
func (p Problem) String() string { return p.Name.String() + " " + p.Path + ": " + p.Message }

// InvalidError lists all that [Snapshot.Validate] found, by name and path.
type InvalidError struct {
	Problems []Problem
}

// Error returns one line per problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Is tells that an InvalidError is [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// Validate checks the rows of those names, and the flags that read them, as a
// write must: it returns nil or an [*InvalidError]. A flag that passes never
// evaluates to PARSE_ERROR, and to GENERAL only if its targeting computes the
// name of a variant. The snapshot must hold what the rows refer to.
func (s *Snapshot) Validate(names ...Name) error {
	var problems []Problem
	for _, name := range names {
		if f := s.flags[name.Name]; name.Kind == KindFlag && f != nil && f.err != nil {
			problems = append(problems, Problem{Name: name, Path: "$", Message: f.err.Error()})
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{Problems: problems}
}
