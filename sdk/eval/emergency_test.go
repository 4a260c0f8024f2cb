package eval_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
)

func emergencyOf(revision int64, variant, value string) string {
	return fmt.Sprintf(`{"revision":%d,"value":%s,"variant":%q}`, revision, value, variant)
}

func emergencyRow(flag string, from int64, active bool, entries ...string) eval.Row {
	document := fmt.Sprintf(`{"active":%t,"log":[%s]}`, active, strings.Join(entries, ","))
	return eval.Row{Kind: eval.KindEmergency, Name: flag, From: from, Document: []byte(document)}
}

func with(t *testing.T, s *eval.Snapshot, revision int64, rows ...eval.Row) *eval.Snapshot {
	t.Helper()
	next, err := s.With(revision, rows, nil)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// TestKill follows a flag through a kill, an edit, another kill and its end.
func TestKill(t *testing.T) {
	t.Parallel()
	name := eval.Name{Kind: eval.KindEmergency, Name: "flag"}
	alive := compile(t, settingsRow(t, `{}`), flagRow(t, "flag", switchable(`{"if":[{"var":"plan"},"on","off"]}`)),
		flagRow(t, "needs", switchable(`{"if":[true,"on"]}`), `{"requires":[{"flag":"flag","variants":["on"]}]}`))
	c, err := eval.NewContext(map[string]any{"plan": true})
	if err != nil {
		t.Fatal(err)
	}
	if got := alive.Evaluate("needs", c, 0).Variant(); got != "on" {
		t.Fatalf("before the kill needs is %q, want on", got)
	}
	first := emergencyOf(2, "off", "false")
	killed := with(t, alive, 2, emergencyRow("flag", 2, true, first))
	f := killed.Flag("flag")
	if r := f.Evaluate(c, 0); r.Variant() != "off" || r.Reason() != eval.ReasonStatic || r.Value() != false {
		t.Errorf("killed, the flag is %q for %s with %v, want off, STATIC, false", r.Variant(), r.Reason(), r.Value())
	}
	if f.Reads() != nil || f.NotTravelling() != nil || !f.Static() || f.EffectiveFrom() != 2 || !slices.Contains(f.Dependencies(), name) {
		t.Errorf("killed, the flag reads %q, static %v, from %d, with %v", f.Reads(), f.Static(), f.EffectiveFrom(), f.Dependencies())
	}
	if got := killed.Flag("needs"); got.Evaluate(c, 0).Variant() != "off" || got.EffectiveFrom() != 2 {
		t.Errorf("what requires a killed flag is %q from %d on", got.Evaluate(c, 0).Variant(), got.EffectiveFrom())
	}
	want := `{"defaultVariant":"off","metadata":{"flagSetId":"default","version":1},"state":"ENABLED","variants":{"off":false,"on":true}}`
	if got := string(f.Definition()); got != want {
		t.Errorf("Definition() = %s, want %s", got, want)
	}
	if steps := f.Explain(c, 0).Trace; len(steps) != 1 || steps[0].Text != "the flag is killed by the emergency of revision 2" {
		t.Errorf("Explain gives %+v", steps)
	}
	if killed.Digest() == alive.Digest() {
		t.Error("a kill does not change the digest")
	}

	// An edit does not end it, even one that takes the variant away, disables
	// the flag or does not compile.
	for _, document := range []string{
		`{"flag":{"state":"DISABLED","variants":{"on":true,"off":false}},"guidon":{"project":"p"}}`,
		`{"flag":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"},"guidon":{"project":"p"}}`, `{"flag":7}`, `not JSON`,
	} {
		edited := with(t, killed, 3, eval.Row{Kind: eval.KindFlag, Name: "flag", From: 3, Document: []byte(document)}).Flag("flag")
		if r := edited.Evaluate(c, 0); r.Variant() != "off" || r.Value() != false || r.ErrorCode() != "" {
			t.Errorf("killed and then edited to %s the flag is %q with %v, %s", document, r.Variant(), r.Value(), r.ErrorCode())
		}
		if _, ok := edited.Killed(); !ok || edited.Type() != eval.Boolean || !json.Valid(edited.Definition()) {
			t.Errorf("edited to %s the flag is killed %v, of type %s, defined as %s", document, ok, edited.Type(), edited.Definition())
		}
	}

	// A second kill has the last word, with a variant that the flag never had.
	second := emergencyOf(4, "stop", "true")
	again := with(t, killed, 4, emergencyRow("flag", 4, true, first, second))
	if r := again.Evaluate("flag", c, 0); r.Variant() != "stop" || r.Value() != true {
		t.Errorf("killed again the flag is %q with %v, want stop, true", r.Variant(), r.Value())
	}

	// Alive again, the log remains.
	end := with(t, again, 5, emergencyRow("flag", 5, false, first, second))
	f = end.Flag("flag")
	if r := f.Evaluate(c, 0); r.Variant() != "on" || f.EffectiveFrom() != 5 {
		t.Errorf("alive again the flag is %q from %d on, want on from 5", r.Variant(), f.EffectiveFrom())
	}
	log := end.Emergencies()
	for revision, want := range []string{"stop", "stop", "stop", "stop", "", ""} {
		if e, _ := log.After("flag", int64(revision)); e.Variant != want {
			t.Errorf("After(flag, %d) = %q, want %q", revision, e.Variant, want)
		}
	}
	if _, ok := log.After("needs", 0); ok || log.Newest() != 4 || log.Revision() != 5 {
		t.Errorf("the log ends with %d, known up to %d, and has other flags: %v", log.Newest(), log.Revision(), ok)
	}
	if back := with(t, end, 6); back.Emergencies().Revision() != 6 || back.Flag("flag") != f {
		t.Error("the next revision does not share the flag, or its log is not complete")
	}
}

func TestEmergencies(t *testing.T) {
	t.Parallel()
	var none eval.Emergencies
	if _, ok := none.After("a", 0); ok || none.Newest() != 0 || none.Between(0, 9) != nil || none.Has(0) || len(slices.Collect(none.All())) != 0 {
		t.Error("the zero Emergencies has some")
	}
	s := with(t, compile(t), 9,
		emergencyRow("b", 7, false, emergencyOf(3, "off", "0.5"), emergencyOf(7, "on", "1")),
		emergencyRow("a", 7, true, emergencyOf(7, "off", `"x"`)),
		emergencyRow("broken", 7, true, emergencyOf(7, "off", `null`)),
		flagRow(t, "broken", switchable(`null`)))
	log := s.Emergencies()
	var got []string
	for e := range log.All() {
		got = append(got, fmt.Sprint(e.Revision, " ", e.Flag, " ", e.Variant, " ", e.Value()))
	}
	if diff := cmp.Diff([]string{"3 b off 0.5", "7 a off x", "7 b on 1"}, got); diff != "" {
		t.Errorf("All() (-want +got):\n%s", diff)
	}
	for revision, want := range map[int64]string{0: "a7 b7", 2: "a7 b7", 3: "a7 b7", 6: "a7 b7", 7: "", 9: ""} {
		var flags []string
		for _, e := range log.Between(revision, 9) {
			flags = append(flags, fmt.Sprint(e.Flag, e.Revision))
		}
		if got := strings.Join(flags, " "); got != want {
			t.Errorf("Between(%d, 9) = %q, want %q", revision, got, want)
		}
	}
	if e := log.Between(0, 6); len(e) != 1 || e[0].Revision != 3 || !log.Has(3) || !log.Has(7) || log.Has(4) {
		t.Errorf("Between(0, 6) = %v, and the log has 3: %v, 7: %v, 4: %v", e, log.Has(3), log.Has(7), log.Has(4))
	}
	e, _ := log.After("b", 3)
	if n, ok := e.Resolution().As(eval.Integer).Integer(); n != 1 || !ok || e.Resolution().Reason() != eval.ReasonStatic {
		t.Errorf("the emergency resolves to %d, %v for %s", n, ok, e.Resolution().Reason())
	}
	if f := s.Flag("broken"); f.Err() == nil || f.Evaluate(nil, 0).ErrorCode() != eval.CodeParseError {
		t.Errorf("a flag with an emergency that is not valid is not isolated: %v", f.Err())
	}
}

func TestValidateEmergency(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ document, want string }{
		{`{"active":true,"log":[{"revision":2,"value":false,"variant":"off"},{"revision":3,"value":{"a":[1]},"variant":"x"}]}`, ``},
		{`{"active":false,"log":[{"revision":2,"value":false,"variant":"off"}]}`, ``},
		{`[]`, `$: must be an object`},
		{`{"log":[]}`, `$.active: must be true or false`},
		{`{"active":true,"log":[]}`, `$.log: must be a list of at least one emergency`},
		{`{"active":true,"log":[{"revision":2,"value":false,"variant":"off"}],"since":1}`, `$.since: is not known here; known are active, log and project`},
		{`{"active":true,"log":[7]}`, `$.log[0]: must be {revision, value, variant}`},
		{`{"active":true,"log":[{"revision":0,"value":false,"variant":"off"}]}`, `$.log[0].revision: must be a whole number from 1 on`},
		{`{"active":true,"log":[{"revision":2,"value":false,"variant":"an off"}]}`, `$.log[0].variant: must be 1 to 64 letters, digits, dots, dashes and underscores`},
		{`{"active":true,"log":[{"revision":2,"variant":"off"}]}`, `$.log[0].value: is null; a value is a boolean, a string, a number or an object`},
		{`{"active":true,"log":[{"revision":2,"value":1,"variant":"off","why":""}]}`, `$.log[0].why: is not known here; known are revision, value and variant`},
		{`{"active":true,"log":[{"revision":2,"value":1,"variant":"a"},{"revision":2,"value":1,"variant":"a"}]}`, `$.log[1].revision: is 2, after 2; revisions ascend`},
		{`{"active":true,"log":[{"revision":10,"value":1,"variant":"a"}]}`, `$.log[0].revision: is 10, but the row is of revision 9`},
		{`{"active":true,"log":[{"revision":2,"value":9007199254740993,"variant":"a"}]}`, `$.log[0].value: `},
	} {
		name := eval.Name{Kind: eval.KindEmergency, Name: "flag"}
		s := compile(t, flagRow(t, "flag", switchable(`null`)), eval.Row{Kind: name.Kind, Name: name.Name, From: 9, Document: []byte(test.document)})
		err := s.Validate(name)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.document, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "emergency/flag "+test.want) {
			t.Errorf("%s: %v, want %s", test.document, err, test.want)
		}
	}
	// What targeting names must be a variant of the flag's own.
	s := compile(t, flagRow(t, "flag", switchable(`{"if":[true,"stop"]}`)), emergencyRow("flag", 1, true, emergencyOf(1, "stop", "true")))
	if err := s.Validate(eval.Name{Kind: eval.KindFlag, Name: "flag"}); err == nil || !strings.Contains(err.Error(), `"stop", which is not a variant`) {
		t.Errorf("targeting that names the variant of an emergency: %v", err)
	}
}

// Two flags that require each other are one invalid flag and one that requires
// it, whichever is compiled first. If one is killed, the other reads nothing
// but its emergency, however the snapshot came about.
func TestKilledFlagInACircle(t *testing.T) {
	t.Parallel()
	requires := func(key string) string { return fmt.Sprintf(`{"requires":[{"flag":%q,"variants":["on"]}]}`, key) }
	for _, killed := range []string{"a", "b"} {
		living := map[string]string{"a": "b", "b": "a"}[killed]
		rows := []eval.Row{flagRow(t, killed, switchable(`null`), requires(living)), flagRow(t, living, switchable(`null`), requires(killed)), flagRow(t, "c", switchable(`null`), requires(living))}
		alive := compile(t, rows...)
		if alive.Flag("a").Err() == nil || alive.Flag("b").Err() == nil {
			t.Errorf("a circle: %v, %v", alive.Flag("a").Err(), alive.Flag("b").Err())
		}
		kill := emergencyRow(killed, 5, true, emergencyOf(5, "on", "true"))
		whole := compile(t, append(rows, kill)...)
		for name, s := range map[string]*eval.Snapshot{
			"whole": whole, "killed later": with(t, alive, 5, kill), "defined later": with(t, compile(t, rows[0], kill), 6, rows[1:]...),
			"again": with(t, whole, 6, rows[1]), "the killed again": with(t, whole, 6, rows[0]),
		} {
			for _, key := range []string{living, "c"} {
				f, want := s.Flag(key), whole.Flag(key)
				if f.Err() != nil || f.EffectiveFrom() != want.EffectiveFrom() || !slices.Equal(f.Dependencies(), want.Dependencies()) {
					t.Errorf("%s is killed, %s: %s is %v from %d of %v; compiled whole from %d of %v",
						killed, name, key, f.Err(), f.EffectiveFrom(), f.Dependencies(), want.EffectiveFrom(), want.Dependencies())
				}
			}
		}
		if got := with(t, whole, 6, emergencyRow(killed, 6, false, emergencyOf(5, "on", "true"))); got.Flag("a").Err() == nil || got.Flag("b").Err() == nil {
			t.Errorf("the circle lives again: %v, %v", got.Flag("a").Err(), got.Flag("b").Err())
		}
	}
}

// Opening a circle anywhere helps all flags in it, and they tell from when.
func TestCircleOpens(t *testing.T) {
	t.Parallel()
	requires := func(key string) string { return fmt.Sprintf(`{"requires":[{"flag":%q,"variants":["on"]}]}`, key) }
	rows := []eval.Row{flagRow(t, "a", switchable(`null`), requires("b")), flagRow(t, "b", switchable(`null`), requires("c")), flagRow(t, "c", switchable(`null`), requires("a"))}
	s := compile(t, rows...)
	for i := range rows {
		open := rows[i]
		open.From, open.Document = 2, flagRow(t, open.Name, switchable(`null`)).Document
		closed := rows[i]
		closed.From = 3
		opened := with(t, s, 2, open)
		again := with(t, opened, 3, closed)
		for _, key := range []string{"a", "b", "c"} {
			if err := s.Flag(key).Err(); err == nil || !strings.Contains(err.Error(), "requires itself") {
				t.Errorf("%s in a circle: %v", key, err)
			}
			if err := opened.Flag(key).Err(); err != nil {
				t.Errorf("%s opened: %s is %v", open.Name, key, err)
			}
			if f := again.Flag(key); f.Err() == nil || f.EffectiveFrom() != 3 {
				t.Errorf("%s closed again: %s is %v from %d, want 3", open.Name, key, f.Err(), f.EffectiveFrom())
			}
		}
	}
}
