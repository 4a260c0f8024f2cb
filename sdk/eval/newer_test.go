package eval_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// What a newer server says and this evaluator does not know makes the flags that
// depend on it errors, and no others: nothing is evaluated as if it were not
// there. Digests, which cover bytes, do not depend on what is understood.
func TestNewerThanThis(t *testing.T) {
	t.Parallel()
	on := `"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}}`
	good := eval.Row{Kind: eval.KindFlag, Name: "good", From: 1, Document: []byte(`{` + on + `,"guidon":{}}`)}
	for name, c := range map[string]struct {
		row eval.Row
		all bool // flags depend on it
	}{
		"operator":         {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{"flag":{"defaultVariant":"on","state":"ENABLED","targeting":{"if":[{"novel":[1]},"off"]},"variants":{"off":false,"on":true}},"guidon":{}}`)}},
		"attribute":        {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{` + on + `,"guidon":{"novel":false,"project":"p","scope":"local"}}`)}},
		"value of one":     {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{` + on + `,"guidon":{"pinUnavailable":"newest"}}`)}},
		"requirement":      {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{` + on + `,"guidon":{"requires":[{"flag":"good","novel":1,"variants":["on"]}]}}`)}},
		"member":           {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{` + on + `,"guidon":{},"novel":{}}`)}},
		"level":            {row: eval.Row{Kind: eval.KindFlag, Document: []byte(`{` + on + `,"guidon":{"level":2}}`)}},
		"setting":          {row: eval.Row{Kind: eval.KindSettings, Document: []byte(`{"novel":1}`)}, all: true},
		"way to travel":    {row: eval.Row{Kind: eval.KindSettings, Document: []byte(`{"travel":[{"attribute":"plan","novel":1}]}`)}, all: true},
		"way to bucket":    {row: eval.Row{Kind: eval.KindSettings, Document: []byte(`{"fractional":"v4"}`)}, all: true},
		"kind of row":      {row: eval.Row{Kind: "flag/novel", Document: []byte(`{"novel":1}`)}},
		"part of the kill": {row: eval.Row{Kind: eval.KindEmergency, Document: []byte(`{"active":true,"log":[{"novel":1,"revision":2,"value":true,"variant":"on"}]}`)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newer := c.row
			newer.Name, newer.From = "odd", 2
			if newer.Kind == eval.KindSettings {
				newer.Name = eval.SettingsName
			}
			rows := []eval.Row{good, newer}
			if newer.Kind != eval.KindFlag {
				rows = append(rows, eval.Row{Kind: eval.KindFlag, Name: "odd", From: 1, Document: good.Document})
			}
			s := compile(t, rows...)
			odd := s.Evaluate("odd", nil, 0)
			if odd.ErrorCode() != eval.CodeParseError || odd.Value() != nil || odd.Message() == "" {
				t.Errorf("what is not known: %v, %s %q, want no value and PARSE_ERROR", odd.Value(), odd.ErrorCode(), odd.Message())
			}
			if got := s.Evaluate("good", nil, 0); (got.ErrorCode() == eval.CodeParseError) != c.all {
				t.Errorf("another flag: %s %q", got.ErrorCode(), got.Message())
			}
			base := compile(t, good)
			later, err := base.With(2, rows[1:], nil)
			if err != nil || later.Digest() != s.Digest() {
				t.Errorf("by delta the digest is %s, %v, want %s", later.Digest(), err, s.Digest())
			}
			back, err := later.With(3, nil, namesOf(rows[1:]))
			if err != nil || back.Digest() != base.Digest() || back.Evaluate("good", nil, 0).Variant() != "on" {
				t.Errorf("and without it again %s, %v, want %s", back.Digest(), err, base.Digest())
			}
		})
	}
	s := compile(t, eval.Row{Kind: eval.KindFlag, Name: "odd", From: 1, Document: []byte(`{` + on + `,"guidon":{"novel":1,"project":"p","scope":"local"}}`)})
	if f := s.Flag("odd"); f.Scope() != "local" || f.Project() != "p" {
		t.Errorf("scope %q and project %q are lost with what is not known", f.Scope(), f.Project())
	}
}

// Rows of a kind that nobody's values depend on change nothing but the digest;
// those that may change any value are refused.
func TestKindsOfNewerVersions(t *testing.T) {
	t.Parallel()
	on := `{"flag":{"defaultVariant":"on","state":"ENABLED","variants":{"off":false,"on":true}},"guidon":{"project":"%s"%s}}`
	flag := func(key, project, more string) eval.Row {
		return eval.Row{Kind: eval.KindFlag, Name: key, From: 1, Document: fmt.Appendf(nil, on, project, more)}
	}
	rows := []eval.Row{
		flag("good", "p", ""), flag("odd", "p", ""), flag("reader", "p", `,"requires":[{"flag":"odd","variants":["on"]}]`), flag("other", "q", ""),
	}
	before := compile(t, rows...)
	newer := []eval.Row{
		{Kind: "note/b", Name: "z", From: 2, Document: []byte(`{}`)},
		{Kind: "note/a", Name: "good", From: 2, Document: []byte(`{}`)},
		{Kind: "flag/novel", Name: "odd", From: 2, Document: []byte(`1`)},
		{Kind: "flag/novel", Name: "gone", From: 2, Document: []byte(`1`)},
	}
	s, err := before.With(2, newer, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, code := range map[string]eval.ErrorCode{
		"good": eval.CodeNone, "other": eval.CodeNone, "odd": eval.CodeParseError, "reader": eval.CodeParseError, "gone": eval.CodeFlagNotFound,
	} {
		if got := s.Evaluate(key, nil, 0); got.ErrorCode() != code {
			t.Errorf("%s is %s %q, want %s", key, got.ErrorCode(), got.Message(), code)
		}
		if f := s.Flag(key); code == eval.CodeParseError && f.EffectiveFrom() != 2 || code == eval.CodeNone && f != before.Flag(key) {
			t.Errorf("%s was compiled anew, or is not of revision 2", key)
		}
	}
	var order []string
	for row := range s.Rows() {
		order = append(order, row.Kind.String()+" "+row.Name)
	}
	want := []string{"flag good", "flag odd", "flag other", "flag reader", "flag/novel gone", "flag/novel odd", "note/a good", "note/b z"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("Rows (-want +got):\n%s", diff)
	}
	if again := compile(t, slices.Collect(s.Rows())...); again.Digest() != s.Digest() {
		t.Error("the rows have another digest at once than step by step")
	}
	// A part of it has what its flags read, and of what belongs to nobody nothing.
	narrow := s.Narrow(func(project string) bool { return project == "p" })
	if _, ok := narrow.Row(eval.Name{Kind: "flag/novel", Name: "odd"}); !ok || narrow.Evaluate("reader", nil, 0).ErrorCode() != eval.CodeParseError {
		t.Error("a part of the flags does not know what this version does not")
	}
	if again := compile(t, slices.Collect(narrow.Rows())...); again.Digest() != narrow.Digest() || slices.Collect(narrow.Rows())[3].Kind != "flag/novel" {
		t.Errorf("its rows %v do not compile to it", slices.Collect(narrow.Rows()))
	}
	// So it is with a flag that cannot be read, and with its kill.
	unread := flag("unread", "p", `,"novel":1`)
	withUnread, err := s.With(3, []eval.Row{unread}, nil)
	if err != nil {
		t.Fatal(err)
	}
	narrow = withUnread.Narrow(func(project string) bool { return project == "p" })
	if again := compile(t, slices.Collect(narrow.Rows())...); narrow.Evaluate("unread", nil, 0).ErrorCode() != eval.CodeParseError || again.Digest() != narrow.Digest() {
		t.Errorf("a flag that cannot be read is %s in a part of the flags, want a parse error", narrow.Evaluate("unread", nil, 0).ErrorCode())
	}
	stopped, err := withUnread.With(4, []eval.Row{{Kind: eval.KindEmergency, Name: "unread", From: 4, Document: []byte(`{"active":true,"log":[{"revision":4,"value":true,"variant":"on"}]}`)}}, nil)
	if err != nil || stopped.Evaluate("unread", nil, 0).Variant() != "on" || stopped.Flag("unread").EffectiveFrom() != 4 {
		t.Errorf("killed, it is %s as of %d, %v", stopped.Evaluate("unread", nil, 0).Message(), stopped.Flag("unread").EffectiveFrom(), err)
	}
	// A kill stands above what is not known, and without the row all is well.
	killed, err := s.With(3, []eval.Row{{Kind: eval.KindEmergency, Name: "odd", From: 3, Document: []byte(`{"active":true,"log":[{"revision":3,"value":true,"variant":"on"}]}`)}}, nil)
	if err != nil || killed.Evaluate("odd", nil, 0).Variant() != "on" || killed.Evaluate("reader", nil, 0).Variant() != "on" {
		t.Errorf("a killed flag is %s %q, %v", killed.Evaluate("odd", nil, 0).ErrorCode(), killed.Evaluate("odd", nil, 0).Message(), err)
	}
	upserts, deletes := before.Since(s)
	back, err := s.With(3, upserts, deletes)
	if err != nil || back.Digest() != before.Digest() || back.Evaluate("reader", nil, 0).Variant() != "on" {
		t.Errorf("without them: %v, %v", back.Evaluate("reader", nil, 0).Message(), err)
	}
	for _, kind := range []eval.Kind{"spell", "flag/", "flag/Novel", "flags/novel", "note", "Flag", ""} {
		if _, err := before.With(2, []eval.Row{{Kind: kind, Name: "odd", From: 2, Document: []byte(`{}`)}}, nil); !errors.Is(err, eval.ErrUnknownKind) {
			t.Errorf("a row of kind %q: %v, want ErrUnknownKind", kind, err)
		}
		if _, err := eval.ParseKind(kind.String()); !errors.Is(err, eval.ErrUnknownKind) {
			t.Errorf("ParseKind(%q) = %v, want ErrUnknownKind", kind, err)
		}
	}
}

func namesOf(rows []eval.Row) (names []eval.Name) {
	for _, r := range rows {
		names = append(names, eval.Name{Kind: r.Kind, Name: r.Name})
	}
	return names
}
