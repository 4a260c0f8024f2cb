package eval_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/guidon-flags/guidon/sdk/eval"
)

var update = flag.Bool("update", false, "rewrite what the scenarios want")

// TestScenarios runs testdata/scenarios. A file has a section "rules", lines of
// rule, context and outcome, or sections "flags.json" and "cases", lines of flag key,
// context, type, and variant, value, reason, code. "settings.json" is optional.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	total, reached := 0, map[string]bool{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sections := map[string][]byte{}
		for _, section := range archive.Files {
			sections[section.Name] = section.Data
		}
		changed := false
		for i, section := range archive.Files {
			if section.Name != "rules" && section.Name != "cases" {
				continue
			}
			lines := strings.SplitAfter(string(section.Data), "\n")
			for j, text := range lines {
				if strings.HasPrefix(text, "#") || strings.TrimSpace(text) == "" {
					continue
				}
				total++
				c := parseScenario(t, file, text, section.Name == "rules")
				got := c.run(t, sections)
				for word := range strings.FieldsSeq(got) {
					reached[word] = true
				}
				if got != c.want {
					changed = true
					lines[j] = strings.TrimSuffix(text, c.want+"\n") + got + "\n"
					if !*update {
						t.Errorf("%s: %s\t got %s", filepath.Base(file), text, got)
					}
				}
			}
			archive.Files[i].Data = []byte(strings.Join(lines, ""))
		}
		if changed && *update {
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if total < 400 {
		t.Errorf("only %d cases", total)
	}
	for _, outcome := range []fmt.Stringer{
		eval.ReasonStatic, eval.ReasonDefault, eval.ReasonTargetingMatch, eval.ReasonDisabled, eval.ReasonError,
		eval.CodeFlagNotFound, eval.CodeParseError, eval.CodeTypeMismatch, eval.CodeGeneral,
	} {
		if !reached[outcome.String()] {
			t.Errorf("no case comes to %s", outcome)
		}
	}
}

// scenario is one line.
type scenario struct {
	rule    json.RawMessage // of a line of rules
	key     string          // of a line of cases
	context []byte
	time    int64
	as      eval.Type
	want    string
}

func parseScenario(t *testing.T, file, line string, isRule bool) (s scenario) {
	t.Helper()
	given, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
	if !ok {
		t.Fatalf("%s: no outcome in %s", file, line)
	}
	s.want = want
	if isRule {
		decoder := json.NewDecoder(strings.NewReader(given))
		if err := decoder.Decode(&s.rule); err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		given = given[decoder.InputOffset():]
	} else {
		s.key, given, _ = strings.Cut(given, " ")
	}
	if given = strings.TrimSpace(given); strings.HasPrefix(given, "{") {
		var context json.RawMessage
		decoder := json.NewDecoder(strings.NewReader(given))
		if err := decoder.Decode(&context); err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		s.context, given = context, strings.TrimSpace(given[decoder.InputOffset():])
	}
	for word := range strings.FieldsSeq(given) {
		var err error
		switch {
		case word == "as":
		case word[0] == '@':
			s.time, err = strconv.ParseInt(word[1:], 10, 64)
		default:
			s.as, err = eval.ParseType(word)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
	}
	return s
}

func (s scenario) run(t *testing.T, sections map[string][]byte) string {
	t.Helper()
	c, err := eval.ContextFromJSON(s.context)
	if err != nil {
		t.Fatal(err)
	}
	var rows []eval.Row
	if settings := sections["settings.json"]; settings != nil {
		rows = append(rows, settingsRow(t, string(settings)))
	}
	if s.rule == nil {
		rows = append(rows, documentRows(t, sections["flags.json"])...)
		r := compile(t, rows...).Evaluate(s.key, c, s.time).As(s.as)
		variant := r.Variant()
		if variant == "" {
			variant = "-"
		}
		value, err := json.Marshal(r.Value())
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", variant, bytes.ReplaceAll(value, []byte("e+"), []byte("e")), r.Reason(), r.ErrorCode()))
	}
	definition := map[string]any{"state": "ENABLED", "defaultVariant": "default", "variants": scenarioVariants(s.want), "targeting": s.rule}
	r := compile(t, append(rows, flagRow(t, "flag", definition))...).Evaluate("flag", c, s.time)
	s.runNaive(t, definition, rows != nil, r)
	if r.ErrorCode() != eval.CodeNone {
		return r.ErrorCode().String()
	}
	return r.Variant()
}

// runNaive holds the naive evaluator to the same outcome.
func (s scenario) runNaive(t *testing.T, definition map[string]any, v3 bool, r eval.Resolution) {
	t.Helper()
	if r.ErrorCode() == eval.CodeParseError {
		return
	}
	var context map[string]any
	var decoded map[string]any
	text, err := json.Marshal(definition)
	if err == nil {
		err = json.Unmarshal(text, &decoded)
	}
	if err == nil && s.context != nil {
		err = json.Unmarshal(s.context, &context)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := outcome{r.Variant(), string(r.Reason()), string(r.ErrorCode())}
	if want := (naive{flagKey: "flag", v3: v3}).evaluate(decoded, context, s.time); got != want {
		t.Errorf("%s in %s = %+v, the naive evaluator says %+v", s.rule, s.context, got, want)
	}
}

// scenarioVariants are the variants of the flag that a rule is put in.
func scenarioVariants(want string) map[string]any {
	variants := map[string]any{}
	for _, name := range []string{"default", "true", "false", "on", "off", "a", "b", "c", want} {
		variants[name] = name
	}
	return variants
}

// documentRows are the rows of a flagd document, all of one project.
func documentRows(t testing.TB, document []byte) []eval.Row {
	t.Helper()
	d, err := eval.ParseDocument(document)
	if err != nil {
		t.Fatal(err)
	}
	var rows []eval.Row
	for _, f := range d.Flags {
		rows = append(rows, flagRow(t, f.Key, f.Definition))
	}
	for name, rule := range d.Evaluators {
		rows = append(rows, segmentRow(t, name, rule))
	}
	return rows
}

func segmentRow(t testing.TB, name string, rule any) eval.Row {
	t.Helper()
	return eval.Row{Kind: eval.KindSegment, Name: name, From: 1, Document: canonical(t, map[string]any{"segment": rule, "guidon": map[string]any{"project": "default"}})}
}
