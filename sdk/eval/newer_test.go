package eval_test

import (
	"testing"

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

func namesOf(rows []eval.Row) (names []eval.Name) {
	for _, r := range rows {
		names = append(names, eval.Name{Kind: r.Kind, Name: r.Name})
	}
	return names
}
