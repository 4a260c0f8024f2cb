package server_test

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	guidonv1 "github.com/guidon-flags/guidon/proto/gen/guidon/v1"
	"github.com/guidon-flags/guidon/proto/gen/guidon/v1/guidonv1connect"
)

func TestDryRunTellsAndChangesNothing(t *testing.T) {
	t.Parallel()
	g := start(t)
	targeting := func(plan string) map[string]any {
		return map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"if": []any{map[string]any{"==": []any{map[string]any{"var": "plan"}, plan}}, "on"}},
		}
	}
	g.apply(t, "staging", putDefinition("staging", "a", targeting("gold")))
	before := g.mark(t)
	var contexts []*structpb.Struct
	for _, plan := range []string{"gold", "silver", "free"} {
		c, err := structpb.NewStruct(map[string]any{"plan": plan})
		if err != nil {
			t.Fatal(err)
		}
		contexts = append(contexts, c)
	}
	res, err := g.changes(g.admin).DryRun(t.Context(), &guidonv1.ChangeServiceDryRunRequest{
		Operations: []*guidonv1.Operation{putDefinition("staging", "a", targeting("silver"))}, Contexts: contexts,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.GetChanges()) != 1 || len(res.GetChanges()[0].GetFields()) != 1 || res.GetRevisions()["staging"] != 3 || len(res.GetWarnings()) != 1 {
		t.Errorf("dry run = %v, want one field of one flag, revision 3 and a warning that plan does not travel", res)
	}
	if len(res.GetImpacts()) != 1 || res.GetImpacts()[0].GetContexts() != 2 || res.GetImpacts()[0].GetExamples()[1].GetAfter().GetVariant() != "on" {
		t.Errorf("impacts = %v, want flag a for gold and silver", res.GetImpacts())
	}
	res, err = g.changes(g.admin).DryRun(t.Context(), &guidonv1.ChangeServiceDryRunRequest{
		Operations: []*guidonv1.Operation{putFlag("staging", "b", "maybe"), {}},
	})
	if err != nil || len(res.GetProblems()) != 1 || res.GetProblems()[0].GetOperation() != 1 {
		t.Errorf("dry run of an empty operation = %v, %v, want its problem", res, err)
	}
	res, err = g.changes(g.admin).DryRun(t.Context(), &guidonv1.ChangeServiceDryRunRequest{Operations: []*guidonv1.Operation{putFlag("staging", "b", "maybe")}})
	if err != nil || len(res.GetProblems()) != 1 || res.GetProblems()[0].GetPath() != "$.flag.defaultVariant" {
		t.Errorf("dry run of a bad flag = %v, %v, want its problem", res, err)
	}
	a := g.post(t, "/guidon.v1.ChangeService/DryRun", g.admin, `{"contexts":[`+strings.Repeat("{},", 100)+`{}]}`)
	if a.status != http.StatusBadRequest || !strings.Contains(a.body, "contexts") {
		t.Errorf("101 contexts: %d %s, want 400", a.status, a.body)
	}
	g.unchanged(t, before)
}

func TestSegments(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.apply(t, "staging",
		putSegment("staging", "people", structpb.NewBoolValue(true)),
		putSegment("staging", "adults", ref("people")),
		putDefinition("staging", "a", map[string]any{
			"state": "ENABLED", "variants": map[string]any{"on": true, "off": false}, "defaultVariant": "off",
			"targeting": map[string]any{"if": []any{map[string]any{"$ref": "adults"}, "on"}},
		}))
	client := guidonv1connect.NewSegmentServiceClient(http.DefaultClient, g.url, withKey(g.admin))
	list, err := client.List(t.Context(), &guidonv1.SegmentServiceListRequest{Environment: "staging", PageSize: 1})
	if err != nil || len(list.GetSegments()) != 1 || list.GetNextPageToken() == "" {
		t.Fatalf("first page = %v, %v", list, err)
	}
	if s := list.GetSegments()[0]; s.GetName() != "adults" || len(s.GetUsedByFlags()) != 1 || len(s.GetUsedBySegments()) != 0 {
		t.Errorf("segment = %v, want adults, used by a", s)
	}
	list, err = client.List(t.Context(), &guidonv1.SegmentServiceListRequest{Environment: "staging", PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetSegments()) != 1 || list.GetNextPageToken() != "" {
		t.Fatalf("second page = %v, %v", list, err)
	}
	if s := list.GetSegments()[0]; s.GetName() != "people" || len(s.GetUsedByFlags()) != 1 || len(s.GetUsedBySegments()) != 1 || !s.GetCondition().GetBoolValue() {
		t.Errorf("segment = %v, want people, used by a and adults", s)
	}
	before := g.mark(t)
	a := g.post(t, applyPath, g.admin, `{"operations":[{"deleteSegment":{"environment":"staging","name":"people"}}]}`)
	if a.code() != "failed_precondition" || !strings.Contains(a.body, "flag a") && !strings.Contains(a.body, "segment adults") {
		t.Errorf("deleting a used segment: %s, want failed_precondition with its users", a.body)
	}
	g.unchanged(t, before)
	for body, code := range map[string]string{
		`{"environment":"staging","name":"nobody"}`:                 "not_found",
		`{"environment":"staging","name":"people","revision":"99"}`: "not_found",
		`{"environment":"nowhere","name":"people"}`:                 "not_found",
		`{"name":"people"}`: "invalid_argument",
	} {
		if a := g.post(t, "/guidon.v1.SegmentService/Get", g.admin, body); a.code() != code {
			t.Errorf("%s: %d %s, want %s", body, a.status, a.body, code)
		}
	}
}

func putSegment(environment, name string, condition *structpb.Value) *guidonv1.Operation {
	return &guidonv1.Operation{Operation: &guidonv1.Operation_PutSegment{PutSegment: &guidonv1.PutSegment{
		Environment: environment, Name: name, Condition: condition,
	}}}
}

func ref(segment string) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"$ref": structpb.NewStringValue(segment)}})
}
