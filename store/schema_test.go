package store_test

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/guidon-flags/guidon/sdk/eval"
	"github.com/guidon-flags/guidon/store"
	"github.com/guidon-flags/guidon/store/storetest"
)

func config(env, key, variants string) store.PutFlag {
	op := put(env, key, `{"state":"ENABLED","variants":`+variants+`,"defaultVariant":"default"}`)
	op.Kind = "config"
	return op
}

const poolSchema = `{"type":"object","properties":{"size":{"type":"integer","minimum":1}},"required":["size"],"additionalProperties":false}`

func TestSchemaHoldsEveryVariant(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, config("development", "pool", `{"default":{"size":5}}`), store.SetSchema{Key: "pool", Schema: []byte(poolSchema)})
	before := state(t, db, "development")
	_, err := db.Apply(t.Context(), change(config("development", "pool", `{"default":{"size":0},"large":{"size":50,"unknown":1},"small":{}}`)))
	refused, ok := errors.AsType[*store.RefusedError](err)
	if !ok || !errors.Is(err, eval.ErrInvalid) {
		t.Fatalf("values that do not meet the schema: %v, want a refusal", err)
	}
	paths := names(refused.Operations, func(o *store.OperationError) string { return o.Environment + " " + o.Path })
	want := []string{`development $.flag.variants["default"]["size"]`, `development $.flag.variants["large"]`, `development $.flag.variants["small"]`}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("failures (-want +got):\n%s\n%v", diff, err)
	}
	if got := state(t, db, "development"); got != before {
		t.Errorf("the refusal left %+v, want %+v", got, before)
	}
	apply(t, db, config("development", "pool", `{"default":{"size":6}}`), config("staging", "pool", `{"default":{"size":7}}`))
}

func TestSchemaIsCheckedAgainstAllThatIsStored(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, config("development", "pool", `{"default":{"size":5}}`), config("production", "pool", `{"default":{"size":500}}`))
	_, err := db.Apply(t.Context(), change(store.SetSchema{Key: "pool", Schema: []byte(`{"properties":{"size":{"maximum":100}}}`)}))
	refused, ok := errors.AsType[*store.RefusedError](err)
	if !ok || len(refused.Operations) != 1 || refused.Operations[0].Environment != "production" {
		t.Fatalf("a schema that production does not meet: %v, want that refusal", err)
	}
	apply(t, db, config("production", "pool", `{"default":{"size":50}}`), store.SetSchema{Key: "pool", Schema: []byte(`{"properties":{"size":{"maximum":100}}}`)})
	f, err := db.Flag(t.Context(), "development", "pool", 0)
	if err != nil || string(f.Schema) != `{"properties":{"size":{"maximum":100}}}` {
		t.Errorf("schema = %s, %v", f.Schema, err)
	}
	apply(t, db, store.SetSchema{Key: "pool"})
	apply(t, db, config("production", "pool", `{"default":{"size":500}}`))
}

func TestBadSchemas(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	apply(t, db, config("development", "pool", `{"default":{"size":5}}`), put("development", "plain", onOff))
	for name, c := range map[string]struct{ key, schema, says string }{
		"not JSON":          {"pool", `{`, "schema"},
		"not a schema":      {"pool", `{"type":"colour"}`, "schema"},
		"a bad pattern":     {"pool", `{"pattern":"("}`, "schema"},
		"another document":  {"pool", `{"$ref":"https://example.com/schema.json"}`, "another document"},
		"a file":            {"pool", `{"$ref":"file:///etc/passwd"}`, "another document"},
		"too large":         {"pool", `{"description":"` + strings.Repeat("x", store.MaxSchemaBytes) + `"}`, "more than 65536"},
		"too many parts":    {"pool", `{"allOf":[true` + strings.Repeat(",true", 4000) + `]}`, "more than 4000"},
		"not a config flag": {"plain", `{}`, "only a flag of kind config"},
	} {
		_, err := db.Apply(t.Context(), change(store.SetSchema{Key: c.key, Schema: []byte(c.schema)}))
		if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want ErrInvalid saying %q", name, err, c.says)
		}
	}
}

// bomb is a schema of a few lines that asks for 2^levels steps: each level leads
// to the one below it twice, by what.
func bomb(levels int, leaf, what string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"$defs":{"a0":%s`, leaf)
	for i := range levels {
		ref := fmt.Sprintf(`{"$ref":"#/$defs/a%d"}`, i)
		fmt.Fprintf(&b, `,"a%d":%s`, i+1, strings.ReplaceAll(what, "_", ref))
	}
	fmt.Fprintf(&b, `},"$ref":"#/$defs/a%d"}`, levels)
	return b.String()
}

// TestSchemaCannotTakeForever: what a schema of a few lines asks for is bounded,
// whichever way it asks.
func TestSchemaCannotTakeForever(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	numbers := make([]string, 2000)
	for i := range numbers {
		numbers[i] = strconv.Itoa(i)
	}
	list := "[" + strings.Join(numbers, ",") + "]"
	tooLong, good := "takes more steps", ""
	for name, c := range map[string]struct{ schema, value, says string }{
		"both of two":             {bomb(40, `{"type":"string"}`, `{"allOf":[_,_]}`), `5`, tooLong},
		"both of two, met":        {bomb(40, `{"type":"number"}`, `{"allOf":[_,_]}`), `5`, tooLong},
		"one of two":              {bomb(40, `{"type":"string"}`, `{"anyOf":[_,_]}`), `5`, tooLong},
		"exactly one of two":      {bomb(40, `{"type":"string"}`, `{"oneOf":[_,_]}`), `5`, tooLong},
		"not, and none of two":    {bomb(40, `{"type":"string"}`, `{"not":{"not":{"anyOf":[_,_]}}}`), `5`, tooLong},
		"if, and else":            {bomb(40, `{"type":"string"}`, `{"if":_,"else":_}`), `5`, tooLong},
		"names of members":        {bomb(40, `{"pattern":"x"}`, `{"propertyNames":{"anyOf":[_,_]}, "anyOf":[_,_]}`), `{"a":1}`, tooLong},
		"an older draft":          {strings.Replace(bomb(40, `{"type":"string"}`, `{"allOf":[_,_]}`), `{`, `{"$schema":"http://json-schema.org/draft-07/schema#",`, 1), `5`, tooLong},
		"a dynamic reference":     {strings.ReplaceAll(bomb(40, `{"type":"string"}`, `{"allOf":[_,_]}`), `"$ref"`, `"$dynamicRef"`), `5`, tooLong},
		"itself, for each member": {`{"$defs":{"n":{"properties":{"a":{"allOf":[{"$ref":"#/$defs/n"},{"$ref":"#/$defs/n"}]}}}},"$ref":"#/$defs/n"}`, strings.Repeat(`{"a":`, 25) + `1` + strings.Repeat(`}`, 25), tooLong},
		"itself, once":            {`{"$defs":{"n":{"properties":{"a":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}`, strings.Repeat(`{"a":`, 25) + `1` + strings.Repeat(`}`, 25), good},
		"a long list":             {`{"additionalProperties":{"items":{"enum":` + list + `}}}`, `{"list":` + list + `}`, tooLong},
		"one of a long list":      {`{"enum":` + list + `}`, `1999`, good},
		"none of a long list":     {`{"enum":` + list + `}`, `2000`, "must be one of"},
		"a pattern":               {`{"pattern":"^(a|aa)*$"}`, `"` + strings.Repeat("a", 5000) + `"`, good},
		"a large pattern":         {`{"pattern":"(` + strings.Repeat("a", 100) + `){900}"}`, `"a"`, "patterns are longer"},
		"many patterns":           {`{"anyOf":[{"pattern":"a{900}"}` + strings.Repeat(`,{"pattern":"b{900}"}`, 200) + `,{"pattern":"c{900}"}]}`, `"` + strings.Repeat("abc", 5000) + `"`, tooLong},
		"many objects":            {`{"additionalProperties":{"items":{"type":"object","properties":{"id":{"type":"integer"},"name":{"type":"string"}},"required":["id"]}}}`, `{"list":[` + strings.Repeat(`{"id":1,"name":"x"},`, 2999) + `{"id":2}]}`, good},
	} {
		t.Run(name, func(t *testing.T) {
			op := config("development", "pool", `{"default":`+c.value+`}`)
			_, err := db.Apply(t.Context(), store.ChangeSet{
				Actor: "ada", DryRun: true, Operations: []store.Operation{op, store.SetSchema{Key: "pool", Schema: []byte(c.schema)}},
			})
			if c.says == good {
				if err != nil {
					t.Errorf("%v, want no error", err)
				}
				return
			}
			if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%.500v, want a refusal that says %q", err, c.says)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("the refusal is of %d bytes", len(err.Error()))
			}
		})
	}
}

// TestFailuresAreToldOnce: in the same order each time, however often a schema
// comes upon them.
func TestFailuresAreToldOnce(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	schema := bomb(8, `{"additionalProperties":{"type":"string"}}`, `{"allOf":[_,_]}`)
	var first string
	for range 5 {
		_, err := db.Apply(t.Context(), change(
			config("development", "pool", `{"default":{"a":1,"b":2,"c":3}}`), store.SetSchema{Key: "pool", Schema: []byte(schema)}))
		refused, ok := errors.AsType[*store.RefusedError](err)
		if !ok || len(refused.Operations) != 3 || refused.More != 0 {
			t.Fatalf("%v, want three refusals", err)
		}
		if first == "" {
			first = err.Error()
		}
		if err.Error() != first {
			t.Fatalf("%v\nafter\n%s", err, first)
		}
	}
}

// TestMuchIsJudgedWithoutTheLocks: what takes long to hold to its schema is
// applied all the same, alone or in a group.
func TestMuchIsJudgedWithoutTheLocks(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	numbers := `{"list":[` + strings.Repeat("1,", 7000) + "1]}"
	apply(t, db, config("development", "pool", `{"default":`+numbers+`}`), config("staging", "pool", `{"default":`+numbers+`}`),
		store.SetSchema{Key: "pool", Schema: []byte(`{"properties":{"list":{"items":{"type":"integer"}}}}`)})
	apply(t, db, config("development", "pool", `{"default":`+numbers+`,"other":`+strings.Replace(numbers, "1", "2", 1)+`}`)) // in a group
	_, err := db.Apply(t.Context(), change(config("development", "pool", `{"default":`+strings.Replace(numbers, "1", "1.5", 1)+`}`)))
	if refused, ok := errors.AsType[*store.RefusedError](err); !ok || len(refused.Operations) != 1 {
		t.Errorf("a number that is no integer: %v, want that refusal", err)
	}
}

// TestRefusalsOfAllEnvironmentsAreShown: of more than can be shown, some of each.
func TestRefusalsOfAllEnvironmentsAreShown(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	var variants strings.Builder
	variants.WriteString(`{"default":0`)
	for i := range 150 {
		fmt.Fprintf(&variants, `,"v%03d":%d`, i, i)
	}
	variants.WriteString("}")
	_, err := db.Apply(t.Context(), change(config("development", "pool", variants.String()), config("staging", "pool", variants.String()),
		store.SetSchema{Key: "pool", Schema: []byte(`{"maximum":-1}`)}))
	refused, ok := errors.AsType[*store.RefusedError](err)
	if !ok {
		t.Fatalf("%v, want a refusal", err)
	}
	shown := map[string]int{}
	for _, o := range refused.Operations {
		shown[o.Environment]++
	}
	if want := map[string]int{"development": 50, "staging": 50}; !maps.Equal(shown, want) || refused.More != 202 {
		t.Errorf("shown %v and %d more, want %v and 202", shown, refused.More, want)
	}
}
