package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/sdk/eval"
)

const environment = "production"

// A flag is one that the toggler changes and services read.
type flag struct {
	key  string
	kind eval.Type
	// targeting makes a rule, another one each time; nil for none.
	targeting func(*rand.Rand, []string) any
	attach    bool
	// late flags are created in mid-run.
	late bool
}

// flags are of all sorts: what decides them is their default, rules, buckets,
// a segment, the clock, or an attribute that does not travel.
var flags = makeFlags()

func makeFlags() (all []flag) {
	sorts := []struct {
		name      string
		kind      eval.Type
		targeting func(*rand.Rand, []string) any
		count     int
	}{
		{"switch", eval.Boolean, nil, 6},
		{"rule", eval.String, ruleOn("plan", "free", "pro", "team"), 4},
		{"region", eval.Integer, ruleOn("country", "AT", "NZ", "US"), 3},
		{"split", eval.String, split, 4},
		{"segment", eval.Object, bySegment, 3},
		{"clock", eval.Boolean, byClock, 2},
		{"device", eval.String, ruleOn("device", "phone", "desk"), 2},
	}
	for _, sort := range sorts {
		for i := range sort.count {
			all = append(all, flag{key: fmt.Sprintf("mesh.%s-%d", sort.name, i), kind: sort.kind, targeting: sort.targeting})
		}
	}
	all[0].attach = true
	return append(all, flag{key: "mesh.late-0", kind: eval.Boolean, late: true}, flag{key: "mesh.late-1", kind: eval.String, targeting: split, late: true})
}

// ruleOn compares an attribute with one of some values.
func ruleOn(attribute string, values ...string) func(*rand.Rand, []string) any {
	return func(chance *rand.Rand, variants []string) any {
		return map[string]any{"if": []any{
			map[string]any{"==": []any{map[string]any{"var": attribute}, pick(chance, values)}}, pick(chance, variants), pick(chance, variants),
		}}
	}
}

func split(chance *rand.Rand, variants []string) any {
	buckets := []any{map[string]any{"cat": []any{map[string]any{"var": "$flagd.flagKey"}, map[string]any{"var": "targetingKey"}}}}
	for _, v := range variants {
		buckets = append(buckets, []any{v, float64(1 + chance.IntN(9))})
	}
	return map[string]any{"fractional": buckets}
}

func bySegment(chance *rand.Rand, variants []string) any {
	return map[string]any{"if": []any{map[string]any{"$ref": "mesh-segment"}, pick(chance, variants), pick(chance, variants)}}
}

// byClock changes from one second to the next: who evaluates by a clock of his
// own disagrees soon.
func byClock(chance *rand.Rand, variants []string) any {
	second := map[string]any{"%": []any{map[string]any{"var": "$flagd.timestamp"}, 2.0}}
	return map[string]any{"if": []any{map[string]any{"==": []any{second, float64(chance.IntN(2))}}, variants[0], variants[1]}}
}

func pick[T any](chance *rand.Rand, from []T) T { return from[chance.IntN(len(from))] }

// put is an operation that defines f anew. Values change under the name of their
// variant, so that an answer with the right name may still be wrong.
func (f flag) put(chance *rand.Rand) *guidonv1.Operation {
	names := []string{"a", "b", "c"}
	if f.kind == eval.Boolean {
		names = names[:2]
	}
	variants := map[string]any{}
	for i, name := range names {
		switch n := float64(chance.IntN(1000)); f.kind {
		case eval.Boolean:
			variants[name] = i == 0
		case eval.Integer:
			variants[name] = n
		case eval.Object:
			variants[name] = map[string]any{"limit": n}
		default:
			variants[name] = fmt.Sprintf("%s %v", name, n)
		}
	}
	definition := map[string]any{"state": "ENABLED", "variants": variants, "defaultVariant": pick(chance, names)}
	if chance.IntN(20) == 0 {
		definition["state"] = "DISABLED"
	}
	if f.targeting != nil {
		definition["targeting"] = f.targeting(chance, names)
	}
	s, err := structpb.NewStruct(definition)
	if err != nil {
		panic(err) // maps, lists, strings and numbers
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutFlag{PutFlag: &guidonv1.PutFlag{
		Environment: environment, Key: f.key, Definition: s, Type: f.kind.String(), Attach: &f.attach,
	}}}
}

func putSegment(chance *rand.Rand) *guidonv1.Operation {
	v, err := structpb.NewValue(ruleCondition(chance))
	if err != nil {
		panic(err) // see put
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{
		Environment: environment, Name: "mesh-segment", Condition: v,
	}}}
}

func ruleCondition(chance *rand.Rand) any {
	if chance.IntN(2) == 0 {
		return map[string]any{"in": []any{map[string]any{"var": "plan"}, []any{"pro", pick(chance, []string{"team", "free"})}}}
	}
	return map[string]any{"ends_with": []any{map[string]any{"var": "targetingKey"}, strconv.Itoa(chance.IntN(10))}}
}

// putSettings changes the travel allow-list: what an attribute is called in the
// header, and whether plan travels at all.
func putSettings(chance *rand.Rand) *guidonv1.Operation {
	travel := []*guidonv1.TravelAttribute{{Attribute: "country", Alias: pick(chance, []string{"country", "c", "plan"})}}
	if chance.IntN(3) > 0 {
		travel = append(travel, &guidonv1.TravelAttribute{Attribute: "plan", Alias: pick(chance, []string{"tier", "p"})})
	}
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutSettings{PutSettings: &guidonv1.PutSettings{
		Environment: environment, Settings: &guidonv1.Settings{Travel: travel},
	}}}
}
