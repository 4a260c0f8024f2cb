package store_test

import (
	"errors"
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
		"not a config flag": {"plain", `{}`, "only a flag of kind config"},
	} {
		_, err := db.Apply(t.Context(), change(store.SetSchema{Key: c.key, Schema: []byte(c.schema)}))
		if !errors.Is(err, eval.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want ErrInvalid saying %q", name, err, c.says)
		}
	}
}
