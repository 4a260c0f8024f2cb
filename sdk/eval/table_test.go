package eval_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// many are flags of all sorts: some require others, which come before them or
// after, in circles, or not at all; some read segments, are killed or isolated.
func many(t *testing.T, n int) []eval.Row {
	t.Helper()
	rows := []eval.Row{segmentRow(t, "s", json.RawMessage(`{"==":[{"var":"a"},"x"]}`))}
	for i := range n {
		key := func(i int) string { return fmt.Sprintf("flag-%d", i) }
		targeting, attributes := `{"if":[{"var":"b"},"on"]}`, `{}`
		switch i % 7 {
		case 1:
			attributes = fmt.Sprintf(`{"requires":[{"flag":%q,"variants":["on"]}]}`, key(i-1))
		case 2:
			attributes = fmt.Sprintf(`{"requires":[{"flag":%q,"variants":["on"]}]}`, key((i*3)%(n+5)))
		case 3:
			targeting = `{"if":[{"$ref":"s"},"on"]}`
		case 4:
			targeting = `{"nonsense":1}`
		case 5:
			rows = append(rows, emergencyRow(key(i), 1, true, `{"revision":1,"value":true,"variant":"on"}`))
		}
		rows = append(rows, flagRow(t, key(i), switchable(targeting), attributes))
	}
	return rows
}

// TestManyAtOnce holds that many flags, which are compiled on all processors,
// come to what few at a time do.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	rows := many(t, 900)
	stepwise := compile(t)
	for i := 0; i < len(rows); i += 100 {
		next, err := stepwise.With(1, rows[i:min(i+100, len(rows))], nil)
		if err != nil {
			t.Fatal(err)
		}
		stepwise = next
	}
	atOnce := compile(t, rows...)
	if diff := cmp.Diff(describe(atOnce), describe(stepwise)); diff != "" {
		t.Errorf("(-at once +stepwise):\n%s", diff)
	}
	if f := atOnce.Flag("flag-900"); f != nil {
		t.Errorf("a flag that is not there is %v", f.Key())
	}
}

// TestUnshared: a change shares all flags but those it touches, and says which.
func TestUnshared(t *testing.T) {
	t.Parallel()
	s := compile(t, many(t, 300)...)
	changed := flagRow(t, "flag-14", switchable(`null`))
	changed.From = 2
	created := flagRow(t, "flag-1x", switchable(`null`))
	created.From = 2
	next, err := s.With(2, []eval.Row{changed, created}, []eval.Name{{Kind: eval.KindFlag, Name: "flag-0"}, {Kind: eval.KindFlag, Name: "flag-299"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var order []string
	for was, is := range next.Unshared(s) {
		var key string
		what := "changed"
		switch {
		case is == nil:
			key, what = was.Key(), "gone"
		case was == nil:
			key, what = is.Key(), "new"
		default:
			key = is.Key()
		}
		got[key], order = what, append(order, key)
	}
	want := map[string]string{
		"flag-0": "gone", "flag-299": "gone", "flag-1x": "new", "flag-14": "changed", "flag-15": "changed", // requires flag-14
		"flag-1": "changed", // requires flag-0
	}
	for f := range s.Flags() { // those that require one of them in turn
		for _, r := range f.Requires() {
			if want[r.Flag] != "" {
				want[f.Key()] = "changed"
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range order[1:] {
		if order[i] >= order[i+1] {
			t.Errorf("%s before %s", order[i], order[i+1])
		}
	}
	for was, is := range s.Unshared(s) {
		t.Errorf("a snapshot has %v and %v of its own beside itself", was, is)
	}
}
