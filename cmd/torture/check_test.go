package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestCheckerFindsWhatIsWrong breaks each promise in turn: a checker that finds
// nothing proves nothing.
func TestCheckerFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	outcomes := map[string]event{
		"acked":   {Type: "ok", Chains: []string{"staging", ""}, Revisions: map[string]int64{"staging": 2}},
		"refused": {Type: "fail"},
		"open":    {Type: "invoke"},
		"unknown": {Type: "unknown", Chains: []string{"staging", "production"}},
	}
	good := []committed{{"acked", "staging", 2}, {"acked", "", 0}, {"unknown", "staging", 3}, {"unknown", "production", 2}}
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
		"lost":              {good[2:], same, "acked was acknowledged at map[:0 staging:2] and is lost"},
		"lost in part":      {good[1:], same, "acked was acknowledged at map[:0 staging:2] and is at map[:0]"},
		"unknown in part":   {good[:3], same, "unknown is there in part"},
		"moved":             {[]committed{{"acked", "staging", 3}, good[1]}, same, "is at map[:0 staging:3]"},
		"duplicated":        {append(slices.Clone(good), good[0]), same, "acked is there 3 times"},
		"and elsewhere":     {append(slices.Clone(good), committed{"acked", "production", 2}), same, "is at map[:0 production:2 staging:2]"},
		"refused and there": {append(slices.Clone(good), committed{"refused", "staging", 4}), same, "refused was refused and is there"},
		"from nowhere":      {append(slices.Clone(good), committed{"other", "staging", 4}), same, "nobody asked for it"},
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

// TestValuesAreHeldAgainstTheHistory: what an application saw is the newest that
// was acknowledged at or before its revision.
func TestValuesAreHeldAgainstTheHistory(t *testing.T) {
	t.Parallel()
	h, err := newHistory(filepath.Join(t.TempDir(), "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []event{
		{Type: "ok", Key: "7-0-2", Chains: []string{watchedEnvironment}, Revisions: map[string]int64{watchedEnvironment: 4}},
		{Type: "ok", Key: "7-0-5", Chains: []string{watchedEnvironment}, Revisions: map[string]int64{watchedEnvironment: 9}},
		{Type: "ok", Key: "7-0-3", Chains: []string{"production"}, Revisions: map[string]int64{"production": 5}},
		{Type: "ok", Key: "7-1-1", Chains: []string{watchedEnvironment}, Revisions: map[string]int64{watchedEnvironment: 6}},
		{Type: "fail", Key: "7-0-8", Chains: []string{watchedEnvironment}},
	} {
		h.add(e)
	}
	for name, c := range map[string]struct {
		values map[int64]int64
		want   string
	}{
		"right":       {map[int64]int64{4: 2, 8: 2, 9: 5, 12: 5}, ""},
		"late":        {map[int64]int64{9: 2}, "at revision 9 the probe was worth 2, published was 5"},
		"early":       {map[int64]int64{8: 5}, "at revision 8 the probe was worth 5, published was 2"},
		"from before": {map[int64]int64{3: 2}, "before it was published"},
		"refused":     {map[int64]int64{10: 8}, "was worth 8"},
	} {
		var i invariant
		if compared := h.compare(&i, 7, c.values); compared != len(c.values) {
			t.Errorf("%s: %d of %d values were compared", name, compared, len(c.values))
		}
		if got := strings.Join(i.Problems, "; "); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: problems %q, want %q", name, got, c.want)
		}
	}
	h.add(event{Type: "unknown", Key: "7-0-11", Chains: []string{watchedEnvironment}})
	if compared := h.compare(new(invariant), 7, map[int64]int64{9: 2}); compared != 0 {
		t.Errorf("%d values were compared though nobody knows what was published", compared)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
}

// TestNamesLeadWhereTheyAreTold asks the DNS server as applications do.
func TestNamesLeadWhereTheyAreTold(t *testing.T) {
	t.Parallel()
	n, err := newNames(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", n.address())
	}}
	n.say("two.test", dnsmessage.RCodeSuccess, deadHost, localhost)
	n.say("broken.test", dnsmessage.RCodeServerFailure)
	if got, err := resolver.LookupHost(t.Context(), "two.test."); err != nil || strings.Join(got, " ") != deadHost+" "+localhost {
		t.Errorf("two.test leads to %v, %v", got, err)
	}
	for name, temporary := range map[string]bool{"nowhere.test.": false, "broken.test.": true} {
		_, err := resolver.LookupHost(t.Context(), name)
		if failed, ok := errors.AsType[*net.DNSError](err); !ok || failed.IsNotFound == temporary {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n.queries()["two.test"] == 0 {
		t.Error("questions are not counted")
	}
}
