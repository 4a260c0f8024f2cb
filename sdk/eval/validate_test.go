package eval_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/guidon-flags/guidon/sdk/eval"
)

// TestValidateFlag gives each thing that can be wrong with a flag, and where
// the message must say it is.
func TestValidateFlag(t *testing.T) {
	t.Parallel()
	const rest = `"variants":{"on":true,"off":false},"defaultVariant":"off"`
	targeting := func(rule string) string { return `{"state":"ENABLED",` + rest + `,"targeting":` + rule + `}` }
	for _, test := range []struct{ name, definition, path, want string }{
		{"no state", `{` + rest + `}`, "$.flag.state", `must be "ENABLED" or "DISABLED"`},
		{"odd state", `{"state":"ON",` + rest + `}`, "$.flag.state", "must be"},
		{"no variants", `{"state":"ENABLED"}`, "$.flag.variants", "at least one variant"},
		{"empty variants", `{"state":"ENABLED","variants":{}}`, "$.flag.variants", "at least one variant"},
		{"null value", `{"state":"ENABLED","variants":{"a":null}}`, "$.flag.variants.a", "is null"},
		{"list value", `{"state":"ENABLED","variants":{"a":[1]}}`, "$.flag.variants.a", "is a list"},
		{"mixed types", `{"state":"ENABLED","variants":{"a":1,"b":"x"}}`, "$.flag.variants.b", "all variants of a flag have one type"},
		{"variant name", `{"state":"ENABLED","variants":{"a b":1}}`, `$.flag.variants["a b"]`, "is no variant"},
		{"large integer", `{"state":"ENABLED","variants":{"a":9007199254740993}}`, "$.flag.variants.a", "2^53−1"},
		{"large integer inside", `{"state":"ENABLED","variants":{"a":{"x":[1e300]}}}`, "$.flag.variants.a.x[0]", "2^53−1"},
		{"deep value", `{"state":"ENABLED","variants":{"a":{"x":` + nested("[", "1", "]", 40) + `}}}`, "$.flag.variants.a.x" + strings.Repeat("[0]", 31), "nests deeper than 32"},
		{"unknown default", `{"state":"ENABLED","variants":{"a":1},"defaultVariant":"b"}`, "$.flag.defaultVariant", `is "b"`},
		{"default of another type", `{"state":"ENABLED","variants":{"a":1},"defaultVariant":1}`, "$.flag.defaultVariant", "must be a string or null"},
		{"metadata", `{"state":"ENABLED","variants":{"a":1},"metadata":{"x":[1]}}`, "$.flag.metadata.x", "is a list"},
		{"targeting is text", targeting(`"on"`), "$.flag.targeting", "must be an object"},
		{"unknown operator", targeting(`{"if":[{"matches":["a","b"]},"on"]}`), "$.flag.targeting.if[0].matches", `unknown operator "matches"`},
		{"unknown operator in a dead branch", targeting(`{"if":[true,"on",{"abs":[1]}]}`), "$.flag.targeting.if[2].abs", "unknown operator"},
		{"two operators", targeting(`{"if":[{"var":"a","==":[1,1]},"on"]}`), "$.flag.targeting.if[0]", "must have one member"},
		{"no operator", targeting(`{"if":[{},"on"]}`), "$.flag.targeting.if[0]", "must have one member"},
		{"no segment", targeting(`{"if":[{"$ref":"x"},"on"]}`), "$.flag.targeting.if[0]", `segment "x", which does not exist`},
		{"odd reference", targeting(`{"if":[{"$ref":5},"on"]}`), `$.flag.targeting.if[0].$ref`, "must be the name of a segment"},
		{"unknown variant", targeting(`{"if":[{"var":"a"},"on",{"var":"b"},"nope"]}`), "$.flag.targeting.if[3]", `can come to "nope"`},
		{"boolean variant", targeting(`{"==":[{"var":"a"},1]}`), `$.flag.targeting["=="]`, "can come to true"},
		{"and gives false", targeting(`{"and":[{"var":"a"},{"==":[1,1]}]}`), `$.flag.targeting.and[1]["=="]`, "can come to true"},
		{"or gives a text", targeting(`{"or":["maybe","on"]}`), "$.flag.targeting.or[0]", `can come to "maybe"`},
		{"a list", targeting(`{"merge":["on"]}`), "$.flag.targeting.merge", "names no variant"},
		{"default of var", targeting(`{"var":["a","nope"]}`), "$.flag.targeting.var[1]", `can come to "nope"`},
		{"share of nobody", targeting(`{"fractional":[["on",1],["nope",1]]}`), "$.flag.targeting.fractional[1][0]", `can come to "nope"`},
		{"no share", targeting(`{"fractional":[{"var":"a"}]}`), "$.flag.targeting.fractional", "needs at least one"},
		{"odd share", targeting(`{"fractional":[{"var":"a"},"on"]}`), "$.flag.targeting.fractional[1]", "must be [variant]"},
		{"fraction of a weight", targeting(`{"fractional":[["on",0.5]]}`), "$.flag.targeting.fractional[0][1]", "whole number"},
		{"text for a weight", targeting(`{"fractional":[["on","1"]]}`), "$.flag.targeting.fractional[0][1]", "whole number"},
		{"weight", targeting(`{"fractional":[["on",2147483648]]}`), "$.flag.targeting.fractional[0][1]", "whole number"},
		{"sum of weights", targeting(`{"fractional":[["on",2147483647],["off",1]]}`), "$.flag.targeting.fractional", "sum of the weights is 2147483648"},
		{"too few", targeting(`{"if":[{"==":[1]},"on"]}`), `$.flag.targeting.if[0]["=="]`, "takes two operands, not 1"},
		{"too many", targeting(`{"if":[{"<":[1,2,3,4]},"on"]}`), `$.flag.targeting.if[0]["<"]`, "takes 2 to 3 operands, not 4"},
		{"none", targeting(`{"or":[]}`), "$.flag.targeting.or", "takes at least one operand, not 0"},
		{"no list", targeting(`{"if":[{"cat":"a"},"on"]}`), "$.flag.targeting.if[0].cat", "must be a list"},
		{"path", targeting(`{"if":[{"var":true},"on"]}`), "$.flag.targeting.if[0].var", "takes a path"},
		{"three for var", targeting(`{"if":[{"var":["a","b","c"]},"on"]}`), "$.flag.targeting.if[0].var", "takes a path"},
		{"unknown property", targeting(`{"if":[{"var":"$flagd.now"},"on"]}`), "$.flag.targeting.if[0].var", "is not known"},
		{"missing takes texts", targeting(`{"if":[{"missing":[1]},"on"]}`), "$.flag.targeting.if[0].missing[0]", "must be a string"},
		{"missing_some", targeting(`{"if":[{"missing_some":["1",["a"]]},"on"]}`), "$.flag.targeting.if[0].missing_some[0]", "must be a number"},
		{"missing_some of", targeting(`{"if":[{"missing_some":[1,"a"]},"on"]}`), "$.flag.targeting.if[0].missing_some[1]", "must be a list"},
		{"affix", targeting(`{"if":[{"starts_with":[{"var":"a"},1]},"on"]}`), "$.flag.targeting.if[0].starts_with[1]", "must be a string"},
		{"version operator", targeting(`{"if":[{"sem_ver":[{"var":"v"},"==","1.0.0"]},"on"]}`), "$.flag.targeting.if[0].sem_ver[1]", "must be one of"},
		{"version", targeting(`{"if":[{"sem_ver":[{"var":"v"},"=","one"]},"on"]}`), "$.flag.targeting.if[0].sem_ver[2]", "is no version"},
		{"rules as data", targeting(`{"if":[{"some":[[{"var":"a"}],{"var":""}]},"on"]}`), "$.flag.targeting.if[0].some[0]", "there are rules among them"},
		{"loop over text", targeting(`{"if":[{"map":["a",{"var":""}]},"on"]}`), "$.flag.targeting.if[0].map[0]", "must be a list or a rule"},
		{"large number in a rule", targeting(`{"if":[{"==":[{"var":"a"},9007199254740993]},"on"]}`), `$.flag.targeting.if[0]["=="][1]`, "2^53−1"},
		{"no path in a segment", targeting(`{"if":[{"$ref":"bad"},"on"]}`), "$.flag.targeting.if[0].nonsense", "unknown operator"},
	} {
		s := compile(t, segmentRow(t, "bad", json.RawMessage(`{"nonsense":[]}`)),
			eval.Row{Kind: eval.KindFlag, Name: "flag", From: 1, Document: []byte(`{"flag":` + test.definition + `,"guidon":{"project":"default"}}`)})
		problems := problemsOf(t, s, eval.Name{Kind: eval.KindFlag, Name: "flag"})
		if len(problems) == 0 {
			t.Errorf("%s: is valid, want %q", test.name, test.want)
			continue
		}
		if p := problems[0]; p.Path != test.path || !strings.Contains(p.Message, test.want) {
			t.Errorf("%s:\n got %s: %s\nwant %s: … %s", test.name, p.Path, p.Message, test.path, test.want)
		}
	}
}

func TestValidateAttributes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, attributes, path, want string }{
		{"no project", `{}`, "$.guidon.project", "must name the project"},
		{"kind", `{"project":"p","kind":"toggle"}`, "$.guidon.kind", `is "toggle"`},
		{"scope", `{"project":"p","scope":"global"}`, "$.guidon.scope", `is "global"`},
		{"type", `{"project":"p","type":"string"}`, "$.guidon.type", "the variants are of type boolean"},
		{"unknown type", `{"project":"p","type":"date"}`, "$.guidon.type", `is "date"`},
		{"archived", `{"project":"p","archived":true}`, "$.guidon.archived", "must be DISABLED"},
		{"attach", `{"project":"p","attach":1}`, "$.guidon.attach", "must be true or false"},
		{"requires", `{"project":"p","requires":{}}`, "$.guidon.requires", "must be a list"},
		{"requires what", `{"project":"p","requires":[{"variants":["on"]}]}`, "$.guidon.requires[0].flag", "non-empty string"},
		{"requires which", `{"project":"p","requires":[{"flag":"x","variants":[]}]}`, "$.guidon.requires[0].variants", "at least one variant"},
		{"requires how", `{"project":"p","requires":[{"flag":"x","variants":["on"],"unless":true}]}`, "$.guidon.requires[0].unless", "not known here"},
		{"pin unavailable", `{"project":"p","pinUnavailable":"newest"}`, "$.guidon.pinUnavailable", `is "newest"`},
		{"unknown", `{"project":"p","novel":1}`, "$.guidon.novel", "is not an attribute"},
		{"level", `{"project":"p","level":2}`, "$.guidon.level", "up to level 1"},
	} {
		s := compile(t, eval.Row{Kind: eval.KindFlag, Name: "flag", From: 1, Document: []byte(
			`{"flag":{"state":"ENABLED","variants":{"on":true,"off":false}},"guidon":` + test.attributes + `}`)})
		problems := problemsOf(t, s, eval.Name{Kind: eval.KindFlag, Name: "flag"})
		if len(problems) == 0 || problems[0].Path != test.path || !strings.Contains(problems[0].Message, test.want) {
			t.Errorf("%s: %v, want %s: … %s", test.name, problems, test.path, test.want)
		}
	}
	s := compile(t, flagRow(t, "9lives", switchable("null")))
	if problems := problemsOf(t, s, eval.Name{Kind: eval.KindFlag, Name: "9lives"}); len(problems) != 1 || problems[0].Path != "$" {
		t.Errorf("a key that starts with a digit: %v, want one problem at $", problems)
	}
}

// TestValidateCollects holds that one call names all that is wrong, once.
func TestValidateCollects(t *testing.T) {
	t.Parallel()
	s := compile(t, segmentRow(t, "s", json.RawMessage(`{"some":[1]}`)),
		flagRow(t, "flag", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"a b": 1, "on": 1}, "defaultVariant": "nope",
			"targeting": json.RawMessage(`{"if":[{"==":[1]},"x",{"wrong":[]},"y"]}`),
		}),
		flagRow(t, "reader", switchable(`{"if":[{"$ref":"s"},"on"]}`)))
	var got []string
	for _, p := range problemsOf(t, s, eval.Name{Kind: eval.KindSegment, Name: "s"}, eval.Name{Kind: eval.KindFlag, Name: "flag"}, eval.Name{Kind: eval.KindFlag, Name: "gone"}) {
		got = append(got, p.Name.String()+" "+p.Path)
	}
	want := []string{
		"segment/s $.segment.some", "flag/reader $.flag.targeting.if[0].some",
		`flag/flag $.flag.variants["a b"]`, `flag/flag $.flag.targeting.if[0]["=="]`, "flag/flag $.flag.targeting.if[2].wrong", "flag/flag $.flag.defaultVariant",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("Validate found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestValidateSegmentAndSettings(t *testing.T) {
	t.Parallel()
	settings := eval.Name{Kind: eval.KindSettings, Name: eval.SettingsName}
	segment := eval.Name{Kind: eval.KindSegment, Name: "s"}
	row := func(name eval.Name, document string) eval.Row {
		return eval.Row{Kind: name.Kind, Name: name.Name, From: 1, Document: []byte(document)}
	}
	for _, test := range []struct {
		name       eval.Name
		document   string
		path, want string
	}{
		{segment, `{"segment":{}}`, "$.segment", "is empty"},
		{segment, `{"rule":{}}`, "$", `has no "segment"`},
		{segment, `{"segment":{"$ref":"t"}}`, "$.segment", `segment "t", which does not exist`},
		{segment, `{"segment":{"nonsense":[]}}`, "$.segment.nonsense", "unknown operator"},
		{segment, `{"segment":`, "$.segment", "is expected"},
		{settings, `{"fractional":"v1"}`, "$.fractional", `must be "v2" or "v3"`},
		{settings, `{"travel":{}}`, "$.travel", "must be a list"},
		{settings, `{"travel":[{"attribute":""}]}`, "$.travel[0].attribute", "non-empty string"},
		{settings, `{"travel":[{"attribute":"a","as":1}]}`, "$.travel[0].as", "must be a string"},
		{settings, `{"travel":[{"attribute":"a","maxBytes":"1"}]}`, "$.travel[0].maxBytes", "whole number from 1 to 1024"},
		{settings, `{"travel":[{"attribute":"a","maxBytes":0}]}`, "$.travel[0].maxBytes", "whole number"},
		{settings, `{"travel":[{"attribute":"a","maxBytes":1.5}]}`, "$.travel[0].maxBytes", "whole number"},
		{settings, `{"travel":[{"attribute":"a","maxBytes":1025}]}`, "$.travel[0].maxBytes", "whole number"},
		{settings, `{"travel":[{"attribute":"b"},{"attribute":"a"}]}`, "$.travel[1]", "order of attributes"},
		{settings, `{"travel":[{"attribute":"a"},{"attribute":"b","as":"a"}]}`, "$.travel[1]", "name of another attribute"},
		{settings, `{"travel":[{"attribute":"targetingKey"}]}`, "$.travel[0]", "always travels"},
		{settings, `{"colour":"red"}`, "$.colour", "is not a setting"},
	} {
		problems := problemsOf(t, compile(t, row(test.name, test.document)), test.name)
		if len(problems) == 0 || problems[0].Path != test.path || !strings.Contains(problems[0].Message, test.want) {
			t.Errorf("%s %s: %v, want %s: … %s", test.name, test.document, problems, test.path, test.want)
		}
	}
	good := compile(t, row(segment, `{"segment":{"in":[{"var":"c"},["de"]]}}`), row(settings, `{"fractional":"v3","travel":[{"attribute":"a"},{"as":"x","attribute":"b"}]}`))
	if err := good.Validate(segment, settings); err != nil {
		t.Errorf("a good segment and good settings: %v", err)
	}
	// Settings are read by every flag: v3 makes a prerequisite impossible here.
	v3 := compile(t, row(settings, `{"fractional":"v3"}`), flagRow(t, "payments", switchable(`{"fractional":[["on",1],["off",1]]}`)), flagRow(t, "checkout", switchable(`null`), requiresPayments))
	if problems := problemsOf(t, v3, settings); len(problems) != 1 || problems[0].Name.Name != "checkout" {
		t.Errorf("Validate of settings: %v, want a problem of checkout", problems)
	}
	bad := compile(t, row(settings, `{"fractional":"v9"}`), flagRow(t, "flag", switchable(`{"if":[true,"on"]}`)))
	if r := bad.Evaluate("flag", nil, 0); r.ErrorCode() != eval.CodeParseError {
		t.Errorf("under settings that cannot be read a flag is %q %s, want PARSE_ERROR", r.Variant(), r.ErrorCode())
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, rule, attributes string
		want                   []string
	}{
		{"none", `{"if":[{"==":[{"var":"plan"},"pro"]},"on"]}`, `{}`, nil},
		{"does not travel", `{"if":[{"var":"email"},"on",{"var":"user.age"},"off"]}`, `{}`, []string{"$.flag.targeting reads email, user, which does not travel"}},
		{"local", `{"if":[{"var":"email"},"on"]}`, `{"scope":"local"}`, nil},
		{"computed", `{"if":[{"var":"plan"},{"var":"plan"},{"cat":["o","n"]}]}`, `{}`, []string{"$.flag.targeting.if[1].var computes the name", "$.flag.targeting.if[2].cat computes the name"}},
		{"computed share", `{"fractional":[{"var":"plan"},[{"var":"plan"},1]]}`, `{}`, []string{"$.flag.targeting.fractional[1][0].var computes the name"}},
	} {
		s := compile(t, settingsRow(t, `{"travel":[{"attribute":"plan"}]}`), flagRow(t, "flag", switchable(test.rule), test.attributes))
		warnings := s.Flag("flag").Warnings()
		if len(warnings) != len(test.want) {
			t.Errorf("%s: %v, want %q", test.name, warnings, test.want)
			continue
		}
		for i, w := range warnings {
			if got := w.Path + " " + w.Message; !strings.HasPrefix(got, test.want[i]) {
				t.Errorf("%s: %q, want %q", test.name, got, test.want[i])
			}
		}
	}
}
