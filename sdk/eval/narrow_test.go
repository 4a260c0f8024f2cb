package eval_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestNarrowIsWhatItsRowsCompileTo: a snapshot of some projects, made of a whole
// one after any changes, is the one that its rows alone make: same digest, same
// answers, same emergencies; and goes on with Since and With to the next one.
func TestNarrowIsWhatItsRowsCompileTo(t *testing.T) {
	t.Parallel()
	projects := []string{"shop", "core", "ads"}
	segments := []string{"s0", "s1", "s2"}
	flag := func(rt *rapid.T, i int, revision int64) eval.Row {
		require, rule := "", "{}"
		if i > 0 && rapid.Bool().Draw(rt, "requires") {
			require = fmt.Sprintf(`,"requires":[{"flag":"f%d","variants":["on"]}]`, rapid.IntRange(0, i-1).Draw(rt, "prerequisite"))
		}
		if rapid.Bool().Draw(rt, "refers") {
			rule = fmt.Sprintf(`{"if":[{"$ref":%q},"on","off"]}`, rapid.SampledFrom(segments).Draw(rt, "segment"))
		}
		return eval.Row{Kind: eval.KindFlag, Name: fmt.Sprintf("f%d", i), From: revision, Document: canonical(t, json.RawMessage(fmt.Sprintf(
			`{"flag":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":%q,"targeting":%s},"guidon":{"project":%q,"type":"boolean"%s}}`,
			rapid.SampledFrom([]string{"on", "off"}).Draw(rt, "default"), rule, projects[i%len(projects)], require)))}
	}
	on := 0
	rapid.Check(t, func(rt *rapid.T) {
		rows := []eval.Row{settingsRow(t, `{"travel":[{"attribute":"plan"}]}`)}
		for i, name := range segments {
			row := segmentRow(t, name, map[string]any{"==": []any{map[string]any{"var": "plan"}, strconv.Itoa(i)}})
			row.From = 1
			rows = append(rows, row)
		}
		for i := range 9 {
			rows = append(rows, flag(rt, i, 1))
		}
		whole, err := eval.Compile(1, rows)
		if err != nil {
			rt.Fatal(err)
		}
		chosen := rapid.SampledFrom([][]string{{"shop"}, {"core", "ads"}, {"nothing"}}).Draw(rt, "projects")
		has := func(project string) bool { return slices.Contains(chosen, project) }
		before := whole.Narrow(has)
		for revision := int64(2); revision < 6; revision++ {
			i := rapid.IntRange(0, 8).Draw(rt, "flag")
			upserts, deletes := []eval.Row{flag(rt, i, revision)}, []eval.Name(nil)
			name := fmt.Sprintf("f%d", i)
			switch rapid.IntRange(0, 3).Draw(rt, "change") {
			case 0:
				upserts = []eval.Row{{Kind: eval.KindEmergency, Name: name, From: revision, Document: canonical(t, json.RawMessage(fmt.Sprintf(
					`{"active":true,"log":[{"revision":%d,"value":false,"variant":"off"}],"project":%q}`, revision, projects[i%len(projects)])))}}
			case 1:
				upserts, deletes = nil, []eval.Name{{Kind: eval.KindFlag, Name: name}}
			}
			if whole, err = whole.With(revision, upserts, deletes); err != nil {
				rt.Fatal(err)
			}
			narrow := whole.Narrow(has)
			alone, err := eval.Compile(revision, slices.Collect(narrow.Rows()))
			if err != nil {
				rt.Fatal(err)
			}
			upserts, deletes = narrow.Since(before)
			stepped, err := before.With(revision, upserts, deletes)
			if err != nil {
				rt.Fatal(err)
			}
			for name, other := range map[string]*eval.Snapshot{"its rows": alone, "the steps to it": stepped} {
				if narrow.Digest() != other.Digest() {
					rt.Fatalf("the digest is not that of %s", name)
				}
				for i := range 9 {
					key := fmt.Sprintf("f%d", i)
					a, b := narrow.Evaluate(key, nil, 0), other.Evaluate(key, nil, 0)
					if a.Variant() == "on" {
						on++
					}
					if a.Variant() != b.Variant() || a.ErrorCode() != b.ErrorCode() {
						rt.Fatalf("%s is %q %s, by %s %q %s", key, a.Variant(), a.ErrorCode(), name, b.Variant(), b.ErrorCode())
					}
				}
				if !slices.Equal(revisions(narrow), revisions(other)) {
					rt.Fatalf("the emergencies are not those of %s", name)
				}
			}
			for f := range whole.Flags() {
				if has(f.Project()) && narrow.Flag(f.Key()) != f {
					rt.Fatalf("%s is not the one that was compiled", f.Key())
				}
			}
			for e := range whole.Emergencies().All() {
				if _, ok := narrow.Emergencies().After(e.Flag, e.Revision-1); has(projectOf(e.Flag, projects)) && !ok {
					rt.Fatalf("the emergency of %s is gone", e.Flag)
				}
			}
			before = narrow
		}
	})
	if on == 0 {
		t.Error("no flag was ever on")
	}
}

func revisions(s *eval.Snapshot) (out []int64) {
	for e := range s.Emergencies().All() {
		out = append(out, e.Revision)
	}
	return out
}

func projectOf(flag string, projects []string) string {
	return projects[int(flag[1]-'0')%len(projects)]
}
