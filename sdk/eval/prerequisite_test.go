package eval_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// switchable is a boolean flag with a targeting.
func switchable(targeting string) map[string]any {
	return map[string]any{
		"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
		"targeting": json.RawMessage(targeting),
	}
}

const requiresPayments = `{"requires":[{"flag":"payments","variants":["on"]}]}`

// TestPrerequisiteInlined holds that the definition served to flagd providers,
// which knows nothing of prerequisites, and Guidon's own agree, and that both
// are what evaluating the prerequisite apart says.
func TestPrerequisiteInlined(t *testing.T) {
	t.Parallel()
	rules := []string{
		`null`, `{}`,
		`{"fractional":[["on",10],["off",90]]}`,
		`{"fractional":[null,["on",50],["off",50]]}`,
		`{"fractional":[{"var":"email"},["on",50],["off",50]]}`,
		`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},["on",50],["off",50]]}`,
		`{"if":[{"==":[{"var":"plan"},"pro"]},"on"]}`,
		`{"if":[{"==":[{"var":"plan"},"pro"]},"on",{"fractional":[["on",20],[null,80]]}]}`,
		`{"if":[{"==":[{"var":"$flagd.flagKey"},"payments"]},"on"]}`,
		`{"if":[{"some":[{"var":"roles"},{"==":[{"var":""},"admin"]}]},"on","off"]}`,
		`{"if":[{"some":[{"var":"roles"},{"==":[{"var":"$flagd.flagKey"},"payments"]}]},"on","off"]}`,
		`{"if":[{"in":["payments",{"map":[{"var":"roles"},{"var":"$flagd.flagKey"}]}]},"on","off"]}`,
		`{"if":[{"<":[{"var":"$flagd.timestamp"},100]},"on"]}`,
		`{"if":[{"$ref":"staff"},"on"]}`,
		`{"if":[{"==":[{"var":["plan",{"var":"$flagd.flagKey"}]},"payments"]},"on"]}`,
		`{"if":[{"==":[{"var":["nope",{"var":"$flagd.flagKey"}]},"payments"]},"on"]}`,
		`{"if":[{"or":[{"var":5},{"var":["nope"]},{"none":[[1,2],{"==":[{"var":["$flagd.flagKey",1]},"checkout"]}]}]},"on"]}`,
		`{"if":[{"==":[{"reduce":[[1,2],{"+":[{"var":"accumulator"},{"var":"current"}]},0]},3]},"on"]}`,
		`{"fractional":["fixed",["on",50],["off",50]]}`,
		`{"==":[{"var":"plan"},"pro"]}`,
	}
	staff := segmentRow(t, "staff", json.RawMessage(`{"ends_with":[{"var":"email"},"@example.com"]}`))
	for _, rule := range rules {
		for _, byDefault := range []any{"on", "off", nil} {
			payments := switchable(rule)
			payments["variants"] = map[string]any{"on": 1, "off": 2, "true": 3, "false": 4}
			payments["defaultVariant"] = byDefault
			s := compile(t, staff,
				flagRow(t, "payments", payments),
				flagRow(t, "checkout", switchable(`{"fractional":[["on",100]]}`), `{"requires":[{"flag":"payments","variants":["on","true"]}]}`))
			checkout := s.Flag("checkout")
			if err := checkout.Err(); err != nil {
				t.Fatalf("%s: %v", rule, err)
			}
			served := compile(t, eval.Row{Kind: eval.KindFlag, Name: "checkout", From: 1, Document: canonical(t, map[string]any{"flag": json.RawMessage(checkout.Definition())})}).Flag("checkout")
			for i := range 100 {
				c, err := eval.NewContext(map[string]any{
					"targetingKey": fmt.Sprint("key", i), "email": []any{nil, fmt.Sprint(i, "@example.com"), 5, fmt.Sprint(i, "@example.org")}[i%4],
					"plan": []string{"pro", "free"}[i%2], "roles": []any{"admin", "user"}[i%2:],
				})
				if err != nil {
					t.Fatal(err)
				}
				want := "off"
				if v := s.Evaluate("payments", c, int64(i)).Variant(); v == "on" || v == "true" {
					want = "on"
				}
				if got := checkout.Evaluate(c, int64(i)).Variant(); got != want {
					t.Errorf("payments %s, default %v, %v: checkout is %q, want %q", rule, byDefault, c.Map(), got, want)
				}
				if got := served.Evaluate(c, int64(i)).Variant(); got != want {
					t.Errorf("payments %s, default %v, %v: checkout as served is %q, want %q\n%s", rule, byDefault, c.Map(), got, want, checkout.Definition())
				}
			}
		}
	}
}

func TestPrerequisiteOff(t *testing.T) {
	t.Parallel()
	disabled := switchable(`{"if":[true,"on"]}`)
	disabled["state"] = "DISABLED"
	released := switchable(`null`)
	released["defaultVariant"] = "on"
	text := map[string]any{"state": "ENABLED", "variants": map[string]any{"blue": "b", "red": "r"}, "defaultVariant": "blue", "targeting": json.RawMessage(`{"if":[true,"red"]}`)}
	for _, test := range []struct {
		name           string
		payments, flag map[string]any
		want           outcome
	}{
		{"disabled", disabled, switchable(`{"if":[true,"on"]}`), outcome{"off", "DEFAULT", ""}},
		{"off by default", switchable(`null`), switchable(`{"if":[true,"on"]}`), outcome{"off", "DEFAULT", ""}},
		{"the false variant beats the default", disabled, released, outcome{"off", "TARGETING_MATCH", ""}},
		{"no boolean has no off", disabled, text, outcome{"blue", "DEFAULT", ""}},
		{"met", released, switchable(`{"if":[true,"on"]}`), outcome{"on", "TARGETING_MATCH", ""}},
		{"met without targeting", released, released, outcome{"on", "DEFAULT", ""}},
	} {
		s := compile(t, flagRow(t, "payments", test.payments), flagRow(t, "checkout", test.flag, requiresPayments))
		r := s.Evaluate("checkout", nil, 0)
		if got := (outcome{r.Variant(), string(r.Reason()), string(r.ErrorCode())}); got != test.want {
			t.Errorf("%s: checkout = %+v, want %+v (%v)", test.name, got, test.want, s.Flag("checkout").Err())
		}
	}
}

func TestPrerequisiteChain(t *testing.T) {
	t.Parallel()
	s := compile(t,
		segmentRow(t, "staff", json.RawMessage(`{"var":"staff"}`)),
		flagRow(t, "c", switchable(`{"fractional":[["on",1]]}`), `{"requires":[{"flag":"b","variants":["on"]}]}`),
		flagRow(t, "b", switchable(`{"if":[{"var":"b"},"on"]}`), `{"requires":[{"flag":"a","variants":["on"]}]}`),
		flagRow(t, "a", switchable(`{"if":[{"$ref":"staff"},"on"]}`)))
	c, err := eval.NewContext(map[string]any{"staff": true, "b": 1, "targetingKey": "x"})
	if err != nil {
		t.Fatal(err)
	}
	f := s.Flag("c")
	if got := f.Evaluate(c, 0).Variant(); got != "on" {
		t.Errorf("with all prerequisites met c = %q, want on (%v)", got, f.Err())
	}
	if got, want := f.Reads(), []string{"b", "staff", "targetingKey"}; !slices.Equal(got, want) {
		t.Errorf("c reads %q, want %q", got, want)
	}
	want := []eval.Name{
		{eval.KindFlag, "a"},
		{eval.KindFlag, "b"},
		{eval.KindFlag, "c"},
		{eval.KindSegment, "staff"},
		{eval.KindEmergency, "a"},
		{eval.KindEmergency, "b"},
		{eval.KindEmergency, "c"},
	}
	if got := f.Dependencies(); !slices.Equal(got, want) {
		t.Errorf("c depends on %v, want %v", got, want)
	}
	// A change at the end of the chain reaches its start.
	next, err := s.With(5, []eval.Row{{Kind: eval.KindSegment, Name: "staff", From: 5, Document: []byte(`{"segment":{"!":[{"var":"staff"}]}}`)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Flag("c").Evaluate(c, 0).Variant(); got != "off" {
		t.Errorf("after the segment changed c = %q, want off", got)
	}
	if got := next.Flag("c").EffectiveFrom(); got != 5 {
		t.Errorf("after the segment changed at 5 c is effective from %d", got)
	}
}

func TestPrerequisiteRefused(t *testing.T) {
	t.Parallel()
	plain := `{"if":[{"var":"x"},"on"]}`
	archived := switchable(plain)
	archived["state"] = "DISABLED"
	for _, test := range []struct {
		name, want string
		rows       []eval.Row
	}{
		{"missing", `requires flag "payments", which does not exist`, nil},
		{"cycle", "requires itself", []eval.Row{flagRow(t, "payments", switchable(plain), `{"requires":[{"flag":"checkout","variants":["on"]}]}`)}},
		{"unknown variant", `requires variant "on" of flag "payments"`, []eval.Row{flagRow(t, "payments", map[string]any{"state": "ENABLED", "variants": map[string]any{"a": 1}})}},
		{"invalid", "is not valid", []eval.Row{flagRow(t, "payments", switchable(`{"nonsense":[]}`))}},
		{"reads everything", "reads the whole evaluation context", []eval.Row{flagRow(t, "payments", switchable(`{"if":[{"in":["x",{"map":[{"var":""},1]}]},"on"]}`))}},
		{"reads $flagd", "reads the whole of $flagd", []eval.Row{flagRow(t, "payments", switchable(`{"if":[{"var":"$flagd"},"on"]}`))}},
		{"computes shares", "computes the operands of fractional", []eval.Row{flagRow(t, "payments", switchable(`{"fractional":{"var":"l"}}`))}},
		{"computes a path", "computes the name of an attribute", []eval.Row{flagRow(t, "payments", switchable(`{"if":[{"var":{"cat":["a","b"]}},"on"]}`))}},
		{"v3 default bucketing", "which v3 cannot write out", []eval.Row{flagRow(t, "payments", switchable(`{"fractional":[["on",1],["off",1]]}`)), settingsRow(t, `{"fractional":"v3"}`)}},
		{"archived", "is archived", []eval.Row{flagRow(t, "payments", archived, `{"archived":true}`)}},
		{"scope", "must be of scope request", []eval.Row{flagRow(t, "payments", switchable(plain), `{"scope":"local"}`)}},
	} {
		s := compile(t, append(test.rows, flagRow(t, "checkout", switchable(plain), requiresPayments))...)
		err := s.Validate(eval.Name{Kind: eval.KindFlag, Name: "checkout"})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "$.guidon.requires[0]") {
			t.Errorf("%s: Validate = %v, want %q at $.guidon.requires[0]", test.name, err, test.want)
		}
	}
}

func TestPrerequisiteV3(t *testing.T) {
	t.Parallel()
	s := compile(t, settingsRow(t, `{"fractional":"v3"}`),
		flagRow(t, "payments", switchable(`{"fractional":[{"var":"account"},["on",1],["off",1]]}`)),
		flagRow(t, "checkout", switchable(`{"if":[true,"on"]}`), requiresPayments))
	for i := range 100 {
		c, err := eval.NewContext(map[string]any{"account": i})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Evaluate("checkout", c, 0).Variant(), s.Evaluate("payments", c, 0).Variant(); got != want {
			t.Errorf("account %d: checkout %q, payments %q", i, got, want)
		}
	}
}

func TestTwoPrerequisites(t *testing.T) {
	t.Parallel()
	s := compile(t, flagRow(t, "a", switchable(`{"if":[{"var":"a"},"on"]}`)), flagRow(t, "b", switchable(`{"if":[{"var":"b"},"on"]}`)),
		flagRow(t, "c", switchable(`{"if":[true,"on"]}`), `{"requires":[{"flag":"a","variants":["on"]},{"flag":"b","variants":["off"]}]}`))
	served := compile(t, eval.Row{Kind: eval.KindFlag, Name: "c", From: 1, Document: canonical(t, map[string]any{"flag": json.RawMessage(s.Flag("c").Definition())})})
	for _, a := range []bool{false, true} {
		for _, b := range []bool{false, true} {
			c, err := eval.NewContext(map[string]any{"a": a, "b": b})
			if err != nil {
				t.Fatal(err)
			}
			want := "off"
			if a && !b {
				want = "on"
			}
			if got := s.Evaluate("c", c, 0).Variant(); got != want {
				t.Errorf("a=%v b=%v: %q, want %q", a, b, got, want)
			}
			if got := served.Evaluate("c", c, 0).Variant(); got != want {
				t.Errorf("a=%v b=%v: as served %q, want %q", a, b, got, want)
			}
		}
	}
	e := s.Flag("c").Explain(nil, 0)
	if len(e.Trace) != 1 || e.Trace[0].Path != "$.guidon.requires[0]" || e.Trace[0].Outcome != "false" {
		t.Errorf("Explain = %+v, want the first requirement to fail", e.Trace)
	}
}
