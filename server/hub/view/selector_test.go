package view_test

import (
	"testing"

	"github.com/guidon-flags/guidon/server/hub/view"
)

func TestParseSelector(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]view.Selector{
		"":                   {},
		" ":                  {},
		"flagSetId=shop":     {Key: view.FlagSetID, Project: "shop"},
		" flagSetId = shop ": {Key: view.FlagSetID, Project: "shop"},
		"flagSetId=":         {Key: view.FlagSetID},
		"source=shop":        {Key: view.Source, Project: "shop"},
		"shop":               {Key: view.Source, Project: "shop"},
	} {
		if got, err := view.ParseSelector(text); err != nil || got != want {
			t.Errorf("ParseSelector(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"color=red", "flagSetId=a,source=b", "source=a=b", "=", "=shop"} {
		if got, err := view.ParseSelector(text); err == nil {
			t.Errorf("ParseSelector(%q) = %+v, want an error", text, got)
		}
	}
}

// FuzzFlagdSelector: what is read is read again from how it is written.
func FuzzFlagdSelector(f *testing.F) {
	for _, seed := range []string{"", "flagSetId=shop", "source=a", "a", "=", "flagSetId=,", "\x00=\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := view.ParseSelector(text)
		if err != nil {
			return
		}
		if again, err := view.ParseSelector(s.String()); err != nil || again != s {
			t.Errorf("%q is %+v, and again %+v, %v", text, s, again, err)
		}
	})
}
