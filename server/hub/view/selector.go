package view

import (
	"fmt"
	"strings"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/server/hub"
	"github.com/guidon-flags/guidon/store"
)

// SelectorHeader is flagd's header that narrows a request to some flags.
const SelectorHeader = "Flagd-Selector"

// The keys of a selector. A project is what flagd calls a flag set; flagd's
// sources are taken for projects too, since Guidon is one source.
const (
	FlagSetID = "flagSetId"
	Source    = "source"
)

// Selector narrows an environment to the flags of one project. The zero value
// is no selector: all flags.
type Selector struct {
	// Key is FlagSetID or Source, as the caller wrote it.
	Key string
	// Project is whose flags are meant.
	Project string

	within hub.Projects
}

// Within narrows s to what a caller sees, whatever else it names.
func (s Selector) Within(p hub.Projects) Selector {
	s.within = p
	return s
}

// ParseSelector reads flagd's selectors: "flagSetId=X", "source=X", or "X" for
// "source=X". Empty is none.
func ParseSelector(text string) (Selector, error) {
	if text = strings.TrimSpace(text); text == "" {
		return Selector{}, nil
	}
	key, project, pair := strings.Cut(text, "=")
	key, project = strings.TrimSpace(key), strings.TrimSpace(project)
	switch {
	case !pair && strings.Contains(key, ","):
		return Selector{}, &store.FieldError{Field: "selector", Message: "names more than one project"}
	case !pair:
		return Selector{Key: Source, Project: key}, nil
	case key != FlagSetID && key != Source:
		return Selector{}, &store.FieldError{Field: "selector", Message: fmt.Sprintf("key %.64q is not one of flagSetId, source", key)}
	case strings.ContainsAny(project, "=,"):
		return Selector{}, &store.FieldError{Field: "selector", Message: "has more than one pair"}
	}
	return Selector{Key: key, Project: project}, nil
}

// String is the selector as flagd would write it.
func (s Selector) String() string {
	if s.Key == "" {
		return ""
	}
	return s.Key + "=" + s.Project
}

// Selects reports whether f is among the flags meant.
func (s Selector) Selects(f *eval.Flag) bool {
	return (s.Key == "" || f.Project() == s.Project) && s.within.Has(f.Project())
}
