package flagdoracle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// exceptions are the scenarios where Guidon answers otherwise than flagd on
// purpose, with the reason.
var exceptions = map[string]string{
	"static-null": "a targeting of null is no targeting; flagd runs it, to DEFAULT",
	`{"fractional":[{"var":"l"},["a",1]]} {"l":["b",1000],"targetingKey":"bob"}`: "data names no variant; flagd takes a list of the context for a share",
}

// TestScenarios holds flagd to the scenarios of package eval, but for those
// that name a time, which flagd takes from the clock, or fractional v3, which
// it does not know.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "testdata", "scenarios", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	theirs := newFlagd(t)
	compared, stumbled := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sections := map[string]string{}
		for _, section := range txtar.Parse(text).Files {
			sections[section.Name] = string(section.Data)
		}
		if sections["settings.json"] != "" {
			continue
		}
		for line := range strings.Lines(sections["rules"] + sections["cases"]) {
			given, want, ok := strings.Cut(strings.TrimSpace(line), " -> ")
			if !ok || strings.Contains(given, "@") && !strings.Contains(given, "@example") || strings.Contains(given, " as ") {
				continue
			}
			document, key, context := []byte(sections["flags.json"]), "flag", map[string]any{}
			rest := given
			if document == nil || sections["flags.json"] == "" {
				var rule json.RawMessage
				decoder := json.NewDecoder(strings.NewReader(given))
				if err := decoder.Decode(&rule); err != nil {
					t.Fatal(err)
				}
				document, rest = oneFlag(t, rule, want), given[decoder.InputOffset():]
			} else {
				key, rest, _ = strings.Cut(given, " ")
			}
			if rest = strings.TrimSpace(rest); rest != "" {
				if err := json.Unmarshal([]byte(rest), &context); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			theirs.load(t, document)
			got := theirs.evaluate(t, key, context)
			if got.Code == "PARSE_ERROR" && !strings.Contains(want, "PARSE_ERROR") {
				stumbled++
				t.Logf("%s: flagd's engine stumbles at %s", filepath.Base(file), line)
				continue
			}
			compared++
			if reason := exceptions[given]; reason != "" {
				t.Logf("%s: %s: %s", filepath.Base(file), given, reason)
				continue
			}
			if shown := got.shown(sections["cases"] != ""); !strings.HasPrefix(squeezed(want), shown) {
				t.Errorf("%s: %s\tflagd says %s", filepath.Base(file), line, shown)
			}
		}
	}
	t.Logf("compared %d scenarios; flagd's engine stumbled in %d", compared, stumbled)
	if compared < 400 {
		t.Errorf("only %d scenarios were compared", compared)
	}
}

// shown writes an outcome as the scenarios do, of a whole flag without its value.
func (o outcome) shown(whole bool) string {
	switch {
	case whole && o.Variant == "":
		return strings.TrimSpace("- " + o.Reason + " " + o.Code)
	case whole:
		return o.Variant + " " + o.Reason
	case o.Code != "":
		return o.Code
	default:
		return o.Variant
	}
}

// squeezed takes the value out of what a case wants.
func squeezed(want string) string {
	words := strings.Fields(want)
	if len(words) < 3 {
		return want
	}
	return strings.Join(append(words[:1], words[2:]...), " ")
}

func oneFlag(t *testing.T, rule json.RawMessage, want string) []byte {
	t.Helper()
	variants := map[string]any{}
	for _, name := range []string{"default", "true", "false", "on", "off", "a", "b", "c", want} {
		variants[name] = name
	}
	document, err := json.Marshal(map[string]any{"flags": map[string]any{
		"flag": map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": "default", "targeting": rule},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return document
}
