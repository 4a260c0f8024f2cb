package main

import (
	"strings"
	"testing"
)

// TestCheckerFindsWhatIsWrong breaks each promise in turn: a checker that finds
// nothing proves nothing.
func TestCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	outcomes := map[string]event{
		"acked":   {Type: "ok", Environment: "staging", Revision: 2},
		"refused": {Type: "fail"},
		"open":    {Type: "invoke"},
		"unknown": {Type: "unknown"},
	}
	good := []committed{{"acked", "staging", 2}, {"unknown", "staging", 3}}
	counted := numbers{Name: "staging", Revision: 3, Seq: 2, Revisions: 3, Newest: 3, Entries: 2, Made: 2}
	change := func(f func(*numbers)) []numbers {
		n := counted
		f(&n)
		return []numbers{n}
	}
	same := []numbers{counted}
	for name, c := range map[string]struct {
		there   []committed
		numbers []numbers
		want    string
	}{
		"nothing":           {good, same, ""},
		"lost":              {good[1:], same, "acked was acknowledged at staging/2 and is lost"},
		"moved":             {[]committed{{"acked", "staging", 3}}, same, "is at staging/3"},
		"duplicated":        {append(good[:2:2], good[0]), same, "acked is there 2 times"},
		"duplicated in two": {append(good[:2:2], committed{"acked", "production", 2}), same, "acked is there 2 times"},
		"refused and there": {append(good[:2:2], committed{"refused", "staging", 4}), same, "refused was refused and is there"},
		"from nowhere":      {append(good[:2:2], committed{"other", "staging", 4}), same, "nobody asked for it"},
		"a gap":             {good, change(func(n *numbers) { n.Revisions-- }), "has 2, the newest"},
		"a missing entry":   {good, change(func(n *numbers) { n.Entries-- }), "has 1 entries of 2"},
		"a revision twice":  {good, change(func(n *numbers) { n.Made-- }), "made 1 revisions of 2"},
		"a stray":           {good, change(func(n *numbers) { n.Strays++ }), "versions that no revision made"},
	} {
		var v verdict
		v.checkChanges(outcomes, c.there)
		v.checkNumbers(c.numbers)
		if got := strings.Join(v.Problems, "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: problems %q, want %q", name, got, c.want)
		}
	}
}
